/**
 * A netlink socket: a batch of requests out in one send, their acks back in order; dumps; notifications.
 *
 * The kernel does all the work of a batch inside send(), which may block (rtnl lock, an RCU grace period), so send runs on a
 * pool thread: one hop a batch. When it returns, every reply is in the receive buffer already and is read without waiting.
 * A dump goes on inside recv() instead, so its recv runs on the pool thread too.
 * @module
 */
import { closeSync } from 'node:fs'
import { kernelError } from '#kernel/errors.ts'
import { blocking, SyscallError, sys } from '#kernel/ffi.ts'
import { withNetns } from '#kernel/netns.ts'
import { poller } from '#kernel/poller.ts'
import {
  type Ack,
  decodeAck,
  decodeMessages,
  encodeRequests,
  type Message,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  type Request,
} from '#wire/netlink.ts'

export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12
export const NETLINK_GENERIC = 16

const AF_NETLINK = 16
const SOCK_RAW_CLOEXEC = 3 | 0o2000000
const SOL_SOCKET = 1
const SO_SNDBUF = 7
const SO_RCVBUF = 8
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOL_NETLINK = 270
const NETLINK_ADD_MEMBERSHIP = 1
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const NETLINK_GET_STRICT_CHK = 12

const EPERM = 1
const ENOENT = 2
export const EINTR = 4
export const EAGAIN = 11
export const ENOBUFS = 105

/** Room for the acks of the largest batch, and for a burst of notifications; only what is queued is really allocated. */
const BUFFER_BYTES = 16 << 20
/** The kernel fills at most 32 KiB in a dump's recv; other messages are far smaller. */
const RECEIVE_BYTES = 64 << 10
const DUMP_TRIES = 10

/** What came back for one request: its ack, and the data messages before it (of a GET, or with NLM_F_ECHO). */
export interface Reply extends Ack {
  readonly messages: readonly Message[]
}

/** What the notification callback gets: messages, or 'overrun' when the kernel had to drop some. */
export type Notification = readonly Message[] | 'overrun'

export interface SocketOptions {
  readonly protocol: typeof NETLINK_ROUTE | typeof NETLINK_NETFILTER | typeof NETLINK_GENERIC
  /** Multicast groups to join, by number (RTNLGRP_*, NFNLGRP_*). */
  readonly groups?: readonly number[]
  /** Path of the network namespace to be born in; the agent's own if absent. */
  readonly netns?: string
}

/** Port ids of every socket opened here; kept after close, since notifications of their last changes may still be queued. */
const ownPorts = new Set<number>()
/** From now on what the socket with this port id does is our doing. */
export const claimPort = (portId: number): void => void ownPorts.add(portId)
export const isOwnPort = (portId: number): boolean => ownPorts.has(portId)

export const openNetlink = (protocol: number): number => sys.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol)

function setOption(fd: number, level: number, name: number, value: number): void {
  sys.setsockopt(fd, level, name, new Uint8Array(Int32Array.of(value).buffer))
}

/** @returns false where only root of the initial user namespace may go beyond net.core.rmem_max: then that is what there is. */
export function raiseBuffers(fd: number): boolean {
  try {
    setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    return true
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== EPERM) throw error
    setOption(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES)
    setOption(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES)
    return false
  }
}

export class NetlinkSocket {
  /** Our address: notifications of changes that this socket made carry it as `pid`. */
  readonly portId: number
  #fd: number
  #seq = 1
  #buffer = new Uint8Array(RECEIVE_BYTES)
  /** Calls take turns: replies of two batches must not mix. */
  #turn: Promise<unknown> = Promise.resolve()
  #unsubscribe: (() => Promise<void>) | undefined
  #closed = false

  private constructor(fd: number) {
    this.#fd = fd
    const address = new Uint8Array(12) // struct sockaddr_nl: u16 family | u16 pad | u32 pid | u32 groups
    sys.getsockname(fd, address)
    this.portId = new DataView(address.buffer).getUint32(4, true)
    ownPorts.add(this.portId)
  }

  /** @throws {TwillError} ERR_NETNS, ERR_NETLINK_SOCKET */
  static open({ protocol, groups = [], netns }: SocketOptions): NetlinkSocket {
    return withNetns(netns, () => {
      let fd: number | undefined
      try {
        fd = openNetlink(protocol)
        const address = new Uint8Array(12)
        address[0] = AF_NETLINK
        sys.bind(fd, address)
        raiseBuffers(fd)
        for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]) setOption(fd, SOL_NETLINK, option, 1)
        for (const group of groups) setOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        return new NetlinkSocket(fd)
      } catch (error) {
        if (fd !== undefined) closeSync(fd)
        throw kernelError.ERR_NETLINK_SOCKET({ protocol }, error)
      }
    })
  }

  /** Sends `requests` in one sendmsg. Set NLM_F_ACK on each one whose fate matters.
   * @returns One reply a request, in order. A request that asked for an ack whose ack was lost has errno ENOBUFS; one that did
   * not ask and got no error has errno 0.
   * @throws {SyscallError} if the whole batch could not be sent: nothing of it was done. */
  request(requests: readonly Request[]): Promise<Reply[]> {
    return this.#next(async () => {
      const firstSeq = this.#seq
      this.#seq = (this.#seq + requests.length) >>> 0
      await this.#send(encodeRequests(requests, firstSeq))
      const acks: (Ack | undefined)[] = []
      const data: Message[][] = requests.map(() => [])
      for (const message of this.#drain()) {
        const i = (message.seq - firstSeq) >>> 0
        if (i >= requests.length) continue
        if (message.type === NLMSG_ERROR) acks[i] ??= decodeAck(message)
        else data[i]!.push(message)
      }
      return requests.map(({ flags }, i) => ({ ...(acks[i] ?? { errno: flags & NLM_F_ACK ? ENOBUFS : 0 }), messages: data[i]! }))
    })
  }

  /** Every object that `request` (a GET; NLM_F_DUMP is added) lists. Started over when the list changed on the way.
   * @throws {TwillError} ERR_NETLINK_DUMP */
  dump(request: Request): Promise<Message[]> {
    return this.#next(async () => {
      for (let attempt = 1; ; attempt++) {
        const result = await this.#dumpOnce(request)
        if (Array.isArray(result)) return result
        // A namespace without any IPv4 route has no main table yet: "FIB table does not exist".
        if (result.errno === ENOENT) return []
        const again = result.errno === EINTR || result.errno === EAGAIN || result.errno === ENOBUFS
        if (!again || attempt === DUMP_TRIES) {
          const reason = result.message ?? new SyscallError('dump', result.errno).code
          throw kernelError.ERR_NETLINK_DUMP({ type: request.type, reason })
        }
      }
    })
  }

  /** Calls `on` with notifications as they arrive, on the event loop, until close(). For sockets opened with `groups`, which
   * should be used for nothing else. */
  listen(on: (notification: Notification) => void): void {
    this.#unsubscribe = poller.add(this.#fd, () => {
      let overrun = false
      const messages = this.#drain(() => {
        overrun = true
      })
      if (overrun) on('overrun')
      else if (messages.length > 0) on(messages)
    })
  }

  /** Waits for the call under way, then closes; a second close does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#unsubscribe?.()
    await this.#next(async () => closeSync(this.#fd))
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  async #send(bytes: Uint8Array): Promise<void> {
    // errno of the pool thread is lost. What makes a send fail fails at once (EPERM, EMSGSIZE, ENOBUFS), so asking again
    // here gives the reason; should it succeed this time, all the better.
    if ((await blocking.send(this.#fd, bytes)) < 0) sys.send(this.#fd, bytes)
  }

  /** Everything in the receive buffer, now. */
  #drain(onOverrun?: () => void): Message[] {
    const out: Message[] = []
    for (;;) {
      const length = sys.recvNow(this.#fd, this.#buffer)
      if (length >= 0) out.push(...decodeMessages(this.#buffer.slice(0, length)))
      else if (length === -EAGAIN) return out
      else if (length === -ENOBUFS) onOverrun?.()
      else if (length !== -EINTR) throw new SyscallError('recv', -length)
    }
  }

  async #dumpOnce(request: Request): Promise<Message[] | Ack> {
    const seq = this.#seq
    this.#seq = (this.#seq + 1) >>> 0
    await this.#send(encodeRequests([{ ...request, flags: request.flags | NLM_F_DUMP }], seq))
    const out: Message[] = []
    let interrupted = false
    for (;;) {
      const got = await blocking.recvNow(this.#fd, this.#buffer)
      // A failed recv: ask again here for the reason. (EAGAIN cannot be: a dump always has its next part ready.)
      const length = got >= 0 ? got : sys.recvNow(this.#fd, this.#buffer)
      if (length < 0) throw new SyscallError('recv', -length)
      for (const message of decodeMessages(this.#buffer.slice(0, length))) {
        if (message.seq !== seq) continue
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const ack = decodeAck(message)
          if (ack.errno !== 0) return ack
          return interrupted ? { errno: EINTR } : out
        }
        out.push(message)
      }
    }
  }
}
