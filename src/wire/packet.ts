/**
 * Packets of the doctor's probes: ICMP echo, and the headers around it when it goes out as a whole frame.
 *
 *     Ethernet 14 | IPv4 20 | ICMP echo 8 | payload            RFC 894, 791, 792
 *     VXLAN 8: flags 0x08 (VNI is valid) | 24 reserved bits | VNI 24 | 8 reserved bits, then an Ethernet frame     RFC 7348
 * @module
 */
import { parseIp } from '#net/ip.ts'
import { parseMac } from '#net/mac.ts'
import { concat } from '#wire/netlink.ts'

const ETHERTYPE_IPV4 = 0x0800
const ICMP = 1
const TTL = 64
const ECHO_REPLY = 0
const ECHO_REQUEST = 8
/** IPv4 and ICMP headers of an echo, in bytes. */
export const ECHO_HEADERS = 28

export interface Echo {
  readonly id: number
  readonly seq: number
}

/** RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

const be16 = (value: number): number[] => [value >> 8, value & 0xff]

/** An echo request with `payload` zero bytes. */
export function echoRequest({ id, seq }: Echo, payload: number): Uint8Array {
  const bytes = new Uint8Array(8 + payload)
  bytes.set([ECHO_REQUEST, 0, 0, 0, ...be16(id), ...be16(seq)])
  bytes.set(be16(checksum(bytes)), 2)
  return bytes
}

/** `payload` in an IPv4 packet that must not be fragmented. */
export function ipv4(o: { from: string; to: string; protocol?: number }, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(20)
  header.set([0x45, 0, ...be16(20 + payload.length), 0, 0, 0x40, 0, TTL, o.protocol ?? ICMP])
  header.set(parseIp(o.from)!.bytes, 12)
  header.set(parseIp(o.to)!.bytes, 16)
  header.set(be16(checksum(header)), 10)
  return concat(header, payload)
}

export const ethernet = (o: { from: string; to: string }, packet: Uint8Array): Uint8Array =>
  concat(parseMac(o.to)!, parseMac(o.from)!, Uint8Array.from(be16(ETHERTYPE_IPV4)), packet)

export const vxlan = (vni: number, frame: Uint8Array): Uint8Array =>
  concat(Uint8Array.of(0x08, 0, 0, 0, vni >> 16, (vni >> 8) & 0xff, vni & 0xff, 0), frame)

/** True if `packet`, from its IPv4 header on, is the reply of `from` to this echo. */
export function isReply(packet: Uint8Array, from: string, { id, seq }: Echo): boolean {
  const at = (packet[0]! & 0x0f) * 4
  const word = (i: number): number => (packet[at + i]! << 8) | packet[at + i + 1]!
  const source = parseIp(from)!.bytes
  return (
    packet.length >= at + 8 &&
    packet[9] === ICMP &&
    source.every((byte, i) => packet[12 + i] === byte) &&
    packet[at] === ECHO_REPLY &&
    word(4) === id &&
    word(6) === seq
  )
}
