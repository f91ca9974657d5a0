/** The program of the image coredns. */
import { runCoredns } from '#lab/images/coredns.ts'

await runCoredns(process.argv.slice(2), process.env)
