/**
 * The one seam to C: the few libc calls that Node has no word for. Nothing outside `kernel/` imports this file.
 * koffi calls synchronously in 0.3 µs; `.async` runs the call on a libuv pool thread, so that a kernel that blocks never
 * blocks the event loop. Errors are read from errno right after a synchronous call; async wrappers return it themselves.
 * @module
 */
import koffi from 'koffi'

const libc = koffi.load(null)

const raw = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  getsockname: libc.func('int getsockname(int fd, uint8_t *address, uint32_t *length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
  send: libc.func('long send(int fd, const uint8_t *bytes, size_t length, int flags)'),
  recv: libc.func('long recv(int fd, uint8_t *bytes, size_t length, int flags)'),
  poll: libc.func('int poll(uint8_t *fds, unsigned long count, int timeoutMs)'),
  eventfd: libc.func('int eventfd(unsigned int initial, int flags)'),
  setns: libc.func('int setns(int fd, int type)'),
  unshare: libc.func('int unshare(int flags)'),
  flock: libc.func('int flock(int fd, int operation)'),
  mount: libc.func('int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)'),
  umount2: libc.func('int umount2(const char *target, int flags)'),
}

/** Of two names for one number the first counts: EAGAIN, not EWOULDBLOCK. */
const errnoNames = new Map(
  Object.entries(koffi.os.errno)
    .toReversed()
    .map(([name, errno]) => [errno, name]),
)

/** EEXIST for 17. */
export const errnoName = (errno: number): string => errnoNames.get(errno) ?? `errno ${errno}`

/** A system call that failed. `errno` is positive: 17 is EEXIST. */
export class SyscallError extends Error {
  readonly errno: number
  readonly code: string
  constructor(call: string, errno: number) {
    const code = errnoName(errno)
    super(`${call}: ${code}`)
    this.name = 'SyscallError'
    this.errno = errno
    this.code = code
  }
}

const checked = (call: string, result: number): number => {
  if (result < 0) throw new SyscallError(call, koffi.errno())
  return result
}

const MSG_DONTWAIT = 0x40
export const CLONE_NEWNET = 0x40000000
export const CLONE_NEWNS = 0x00020000

export const sys = {
  socket: (domain: number, type: number, protocol: number): number => checked('socket', raw.socket(domain, type, protocol)),
  bind: (fd: number, address: Uint8Array): number => checked('bind', raw.bind(fd, address, address.length)),
  connect: (fd: number, address: Uint8Array): number => checked('connect', raw.connect(fd, address, address.length)),
  /** Fills `into` with the socket's own address. */
  getsockname: (fd: number, into: Uint8Array): number => checked('getsockname', raw.getsockname(fd, into, Uint32Array.of(into.length))),
  setsockopt: (fd: number, level: number, name: number, value: Uint8Array): number =>
    checked('setsockopt', raw.setsockopt(fd, level, name, value, value.length)),
  send: (fd: number, bytes: Uint8Array, flags = 0): number => checked('send', raw.send(fd, bytes, bytes.length, flags)),
  /** What is there now: the length, or minus the errno. No exception: "nothing" (EAGAIN) is the usual end of a burst. */
  recvNow: (fd: number, into: Uint8Array): number => {
    const length = raw.recv(fd, into, into.length, MSG_DONTWAIT)
    return length < 0 ? -koffi.errno() : length
  },
  eventfd: (): number => checked('eventfd', raw.eventfd(0, 0o2000000)),
  setns: (fd: number, type: number): number => checked('setns', raw.setns(fd, type)),
  unshare: (flags: number): number => checked('unshare', raw.unshare(flags)),
  flock: (fd: number, operation: number): number => checked('flock', raw.flock(fd, operation)),
  mount: (source: string, target: string, type: string, flags: number, data: string): number =>
    checked(`mount ${target}`, raw.mount(source, target, type, flags, data)),
  umount2: (target: string, flags: number): number => checked(`umount ${target}`, raw.umount2(target, flags)),
}

const onPoolThread = (fn: { async: (...args: never[]) => void }, ...args: unknown[]): Promise<number> =>
  new Promise((resolve, reject) => {
    const call = fn.async as (...args: unknown[]) => void
    call(...args, (error: Error | null, result: number) => (error ? reject(error) : resolve(Number(result))))
  })

/** Returns free heap memory to the system (malloc_trim(3)); other C libraries than glibc have no word for it. */
export function mallocTrim(): void {
  try {
    libc.func('int malloc_trim(size_t pad)')(0)
  } catch {}
}

/** Blocking calls on a pool thread. They resolve to the raw result: errno of a pool thread is not to be had, so a negative
 * result only says "failed"; ask again synchronously (with MSG_DONTWAIT) for the reason. Keep the buffers until then. */
export const blocking = {
  /** `fds`: struct pollfd back to back (int fd, short events, short revents). */
  poll: (fds: Uint8Array, count: number, timeoutMs: number): Promise<number> => onPoolThread(raw.poll, fds, count, timeoutMs),
  send: (fd: number, bytes: Uint8Array, flags = 0): Promise<number> => onPoolThread(raw.send, fd, bytes, bytes.length, flags),
  /** Takes what is there and never waits for more, but the kernel may block while it fills a dump's next part. */
  recvNow: (fd: number, into: Uint8Array): Promise<number> => onPoolThread(raw.recv, fd, into, into.length, MSG_DONTWAIT),
}
