/**
 * sd_notify: tells the service manager how far the service is, one datagram of `NAME=value` lines to the socket that it names in
 * NOTIFY_SOCKET. Source: sd_notify(3); struct sockaddr_un in linux/un.h.
 * @module
 */
import { closeSync } from 'node:fs'
import { sys } from '#kernel/ffi.ts'

const AF_UNIX = 1
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000

/** u16 family | path. `@name` is in the abstract namespace: a NUL byte in place of the `@`, and none at the end. */
export function unixAddress(path: string): Uint8Array {
  const abstract = path.startsWith('@')
  const bytes = new TextEncoder().encode(abstract ? `\0${path.slice(1)}` : `${path}\0`)
  return Uint8Array.of(AF_UNIX, 0, ...bytes)
}

/** Sends `state` to the socket at `path`. @throws {SyscallError} */
export function notifyManager(path: string, state: string): void {
  const fd = sys.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0)
  try {
    sys.connect(fd, unixAddress(path))
    sys.send(fd, new TextEncoder().encode(state))
  } finally {
    closeSync(fd)
  }
}
