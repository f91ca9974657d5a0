/**
 * Network namespaces. A namespace belongs to a *thread*, so code enters one only for the time of a synchronous function on
 * the main thread: what is opened inside (a socket, a /proc/sys file) stays where it was born, async work would run elsewhere.
 * @module
 */
import { closeSync, openSync } from 'node:fs'
import { kernelError } from '#kernel/errors.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

const OWN = '/proc/thread-self/ns/net'

/** Runs `fn` in the network namespace at `path` (a file such as /run/netns/x or /proc/<pid>/ns/net) and comes back; without
 * `path`, just runs it. `fn` must be synchronous.
 * @throws {TwillError} ERR_NETNS if the namespace cannot be entered; whatever `fn` throws. */
export function withNetns<T>(path: string | undefined, fn: () => T): T {
  if (path === undefined) return fn()
  const home = openSync(OWN, 'r')
  try {
    enter(path)
    try {
      return fn()
    } finally {
      sys.setns(home, CLONE_NEWNET)
    }
  } finally {
    closeSync(home)
  }
}

function enter(path: string): void {
  try {
    const fd = openSync(path, 'r')
    try {
      sys.setns(fd, CLONE_NEWNET)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    throw kernelError.ERR_NETNS({ path }, error)
  }
}
