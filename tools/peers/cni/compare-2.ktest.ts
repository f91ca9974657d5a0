/** The second half of the cases: see compare.ts. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

const { compareHalf } = await import('./compare.ts')
compareHalf(1)
