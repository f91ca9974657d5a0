/** BSD file locks, as the reference plugins take them (fcntl locks would not see each other). @module */
import { closeSync, openSync } from 'node:fs'
import type { Clock } from '#base/clock.ts'
import { kernelError } from '#kernel/errors.ts'
import { SyscallError, sys } from '#kernel/ffi.ts'

const LOCK_EX_NB = 2 | 4
const RETRY_MS = 2

/** Takes the exclusive lock on the file at `path` (made, mode 0750, if absent); the result gives it back. While another
 * process holds it the event loop goes on.
 * @throws {TwillError} ERR_LOCK_HELD when it was held for `patienceMs`. */
export async function lockFile(
  path: string,
  clock: Pick<Clock, 'sleep' | 'now'>,
  patienceMs = Number.POSITIVE_INFINITY,
): Promise<() => void> {
  const deadline = clock.now() + patienceMs
  const fd = openSync(path, 'a', 0o750)
  try {
    while (!tryLock(fd)) {
      if (clock.now() >= deadline) throw kernelError.ERR_LOCK_HELD({ path, seconds: patienceMs / 1000 })
      await clock.sleep(RETRY_MS)
    }
    return () => closeSync(fd)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function tryLock(fd: number): boolean {
  try {
    sys.flock(fd, LOCK_EX_NB)
    return true
  } catch (error) {
    if (error instanceof SyscallError && (error.code === 'EAGAIN' || error.code === 'EWOULDBLOCK' || error.code === 'EINTR')) return false
    throw error
  }
}
