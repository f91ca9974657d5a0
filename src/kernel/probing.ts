/**
 * Sockets of the doctor's probes: echo requests by the usual way, whole frames past routing and firewall, and UDP whose checksum the
 * device is to fill in. The kernel of the other node answers each: nothing needs to run there.
 * @module
 */
import { closeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { SyscallError, sys } from '#kernel/ffi.ts'
import { withNetns } from '#kernel/netns.ts'
import { parseIp } from '#net/ip.ts'
import { ECHO_HEADERS, type Echo, echoRequest, isReply } from '#wire/packet.ts'

const AF_INET = 2
const AF_PACKET = 17
const SOCK_DGRAM = 2 | 0o2000000
const SOCK_RAW = 3 | 0o2000000
const IPPROTO_ICMP = 1
const IPPROTO_UDP = 17
const IPPROTO_IP = 0
const SOL_SOCKET = 1
const SO_NO_CHECK = 11
const IP_MTU_DISCOVER = 10
/** DF is set, and what was learned of the path is ignored: the packet goes as it is or not at all. */
const IP_PMTUDISC_PROBE = 3
const ETH_P_IP = 0x0800
const LOOK_EVERY_MS = 4
const ETHERNET_BYTES = 14
const ECONNREFUSED = 111
const EAGAIN = 11

export type Echoed = 'answer' | 'silence' | 'too large'

let nextSeq = Math.floor(Math.random() * 0x8000)
const freshEcho = (): Echo => ({ id: process.pid & 0xffff, seq: nextSeq++ & 0xffff })

/** struct sockaddr_in */
function inet(ip: string, port = 0): Uint8Array {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setUint16(0, AF_INET, true)
  bytes.set([port >> 8, port & 0xff, ...parseIp(ip)!.bytes], 2)
  return bytes
}

/** A socket for whole frames of one device: those of `protocol` (an Ethertype), both ways. */
export function packetSocket(index: number, protocol: number): number {
  const address = new Uint8Array(20) // struct sockaddr_ll: u16 family | be16 protocol | i32 index | …
  const view = new DataView(address.buffer)
  view.setUint16(0, AF_PACKET, true)
  view.setUint16(2, protocol)
  view.setInt32(4, index, true)
  const fd = sys.socket(AF_PACKET, SOCK_RAW, 0)
  try {
    sys.bind(fd, address)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

const int = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer)

/** Receives until `take` is true for a packet or the time is over. A negative errno that is not "nothing yet" is given to `failed`. */
async function receive(
  fd: number,
  timeoutMs: number,
  take: (packet: Uint8Array) => boolean,
  failed = (_: number): boolean => false,
): Promise<boolean> {
  const buffer = new Uint8Array(65_536)
  for (const deadline = performance.now() + timeoutMs; ; ) {
    const length = sys.recvNow(fd, buffer)
    if (length >= 0 ? take(buffer.subarray(0, length)) : length !== -EAGAIN && failed(-length)) return true
    if (length >= 0) continue
    if (performance.now() > deadline) return false
    await sleep(LOOK_EVERY_MS)
  }
}

/** Pings `to` with an IPv4 packet of `bytes` in all, not to be fragmented, from the namespace at `netns` if there is one. */
export async function ping(to: string, o: { bytes?: number; timeoutMs: number; netns?: string }): Promise<Echoed> {
  const fd = withNetns(o.netns, () => sys.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))
  try {
    sys.setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, int(IP_PMTUDISC_PROBE))
    sys.connect(fd, inet(to))
    const echo = freshEcho()
    sys.send(fd, echoRequest(echo, Math.max(0, (o.bytes ?? 64) - ECHO_HEADERS)))
    return (await receive(fd, o.timeoutMs, (packet) => isReply(packet, to, echo))) ? 'answer' : 'silence'
  } catch (error) {
    // No route, or a firewall's veto (EPERM): nothing of it leaves.
    if (error instanceof SyscallError) return error.code === 'EMSGSIZE' ? 'too large' : 'silence'
    throw error
  } finally {
    closeSync(fd)
  }
}

/** Sends the frame that `make` makes around an echo request out of one device; true if the answer of `from` comes in by another. */
export async function echoAround(o: {
  out: number
  back: number
  from: string
  timeoutMs: number
  make: (echo: Uint8Array) => Uint8Array
}): Promise<boolean> {
  const fds: number[] = []
  try {
    const [sender, receiver] = [o.out, o.back].map((index) => {
      const fd = packetSocket(index, ETH_P_IP)
      fds.push(fd)
      return fd
    }) as [number, number]
    const echo = freshEcho()
    sys.send(sender, o.make(echoRequest(echo, 32)))
    return await receive(receiver, o.timeoutMs, (frame) => isReply(frame.subarray(ETHERNET_BYTES), o.from, echo))
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Sends UDP to a port where nobody listens; true if the other kernel, having checked the packet, says so.
 * @param checksum  False: none is sent, so there is none to be wrong. */
export async function refusedUdp(to: string, port: number, o: { checksum: boolean; timeoutMs: number }): Promise<boolean> {
  const fd = sys.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP)
  try {
    if (!o.checksum) sys.setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, int(1))
    sys.connect(fd, inet(to, port))
    sys.send(fd, new Uint8Array(64))
    return await receive(
      fd,
      o.timeoutMs,
      () => false,
      (errno) => errno === ECONNREFUSED,
    )
  } catch (error) {
    if (error instanceof SyscallError) return error.errno === ECONNREFUSED
    throw error
  } finally {
    closeSync(fd)
  }
}

/** Sends one UDP packet, if it may leave. */
export function sendUdp(to: string, port: number, bytes: Uint8Array): void {
  const fd = sys.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP)
  try {
    sys.connect(fd, inet(to, port))
    sys.send(fd, bytes)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
  } finally {
    closeSync(fd)
  }
}

export { echoRequest, ethernet, ipv4, vxlan } from '#wire/packet.ts'
