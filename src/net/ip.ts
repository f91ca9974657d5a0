/**
 * IP addresses and CIDRs. Text is their common form (canonical: RFC 5952 for IPv6), so that they compare with `===`
 * and print as they are; bytes are for wire formats and arithmetic. One code path for both families.
 * @module
 */
export type Family = 4 | 6

export interface Ip {
  readonly family: Family
  /** 4 or 16 bytes, network order. */
  readonly bytes: Uint8Array
}

export interface Cidr extends Ip {
  readonly prefix: number
}

/** The address in `text`, or undefined if it is none. Accepts what inet_pton(3) does; no leading zeros, no zone. */
export function parseIp(text: string): Ip | undefined {
  return text.includes(':') ? parseIp6(text) : parseIp4(text)
}

function parseIp4(text: string): Ip | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return { family: 4, bytes }
}

function parseIp6(text: string): Ip | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const groups = (half: string): number[] | undefined => {
    if (half === '') return []
    const out: number[] = []
    const parts = half.split(':')
    for (const [i, part] of parts.entries()) {
      if (part.includes('.') && i === parts.length - 1) {
        const tail = parseIp4(part)
        if (!tail) return undefined
        const [a, b, c, d] = tail.bytes as unknown as [number, number, number, number]
        out.push(a * 256 + b, c * 256 + d)
      } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) out.push(Number.parseInt(part, 16))
      else return undefined
    }
    return out
  }
  const head = groups(halves[0]!)
  const tail = halves.length === 2 ? groups(halves[1]!) : []
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const bytes = new Uint8Array(16)
  for (const [i, group] of [...head, ...Array<number>(missing).fill(0), ...tail].entries()) {
    bytes[2 * i] = group >> 8
    bytes[2 * i + 1] = group & 255
  }
  return { family: 6, bytes }
}

/** Canonical text of 4 or 16 bytes in network order. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => bytes[2 * i]! * 256 + bytes[2 * i + 1]!)
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) return `::ffff:${bytes.slice(12).join('.')}`
  let best = { at: -1, length: 1 }
  for (let at = 0; at < 8; at++) {
    let length = 0
    while (at + length < 8 && groups[at + length] === 0) length++
    if (length > best.length) best = { at, length }
  }
  const hex = (list: number[]): string => list.map((g) => g.toString(16)).join(':')
  return best.at < 0 ? hex(groups) : `${hex(groups.slice(0, best.at))}::${hex(groups.slice(best.at + best.length))}`
}

/** `text` in canonical form, or undefined if it is no address. */
export function canonicalIp(text: string): string | undefined {
  const ip = parseIp(text)
  return ip && formatIp(ip.bytes)
}

/** The CIDR in `text` with its host bits kept, or undefined. The prefix is required. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/')
  const ip = slash < 0 ? undefined : parseIp(text.slice(0, slash))
  const prefix = text.slice(slash + 1)
  if (!ip || !/^(0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > ip.bytes.length * 8) return undefined
  return { ...ip, prefix: Number(prefix) }
}

export const formatCidr = (cidr: Cidr): string => `${formatIp(cidr.bytes)}/${cidr.prefix}`

/** `cidr` with the host bits cleared. */
export function maskCidr(cidr: Cidr): Cidr {
  const bytes = cidr.bytes.map((byte, i) => byte & (0xff << Math.max(0, Math.min(8, 8 * (i + 1) - cidr.prefix))))
  return { ...cidr, bytes }
}

/** The network of `text` in canonical form (10.244.1.7/24 gives 10.244.1.0/24), or undefined if it is no CIDR. */
export function canonicalNetwork(text: string): string | undefined {
  const cidr = parseCidr(text)
  return cidr && formatCidr(maskCidr(cidr))
}

/** True if `inner` (an address or a CIDR, parsed) lies within `outer`. Families never contain each other. */
export function contains(outer: Cidr, inner: Ip | Cidr): boolean {
  if (outer.family !== inner.family) return false
  if ('prefix' in inner && inner.prefix < outer.prefix) return false
  const a = maskCidr(outer).bytes
  const b = maskCidr({ family: inner.family, bytes: inner.bytes, prefix: outer.prefix }).bytes
  return a.every((byte, i) => byte === b[i])
}

/** The address `offset` after `bytes` (may be negative), or undefined past either end of the family. */
export function addToIp(bytes: Uint8Array, offset: number): Uint8Array | undefined {
  const out = bytes.slice()
  let carry = offset
  for (let i = out.length - 1; i >= 0 && carry !== 0; i--) {
    const sum = out[i]! + carry
    out[i] = sum & 0xff
    carry = Math.floor(sum / 256)
  }
  return carry === 0 ? out : undefined
}

/** The address part of a CIDR's text: 10.244.1.0/24 gives 10.244.1.0. */
export const addressOf = (cidr: string): string => cidr.slice(0, cidr.indexOf('/'))

/** The prefix length of a CIDR's text. */
export const prefixOf = (cidr: string): number => Number(cidr.slice(cidr.indexOf('/') + 1))

export const familyOf = (text: string): Family => (text.includes(':') ? 6 : 4)

/** Numeric order, IPv4 before IPv6. Both sides must be valid addresses. */
export function compareIp(a: string, b: string): number {
  const x = parseIp(a)!
  const y = parseIp(b)!
  if (x.family !== y.family) return x.family - y.family
  for (let i = 0; i < x.bytes.length; i++) if (x.bytes[i] !== y.bytes[i]) return x.bytes[i]! - y.bytes[i]!
  return 0
}

/** Ranges whose addresses belong to no single host on a network (RFC 6890, RFC 1122 3.2.1.3). */
const special = (
  [
    ['0.0.0.0/8', 'unspecified'],
    ['127.0.0.0/8', 'loopback'],
    ['224.0.0.0/4', 'multicast'],
    ['240.0.0.0/4', 'reserved'],
    ['::/128', 'unspecified'],
    ['::1/128', 'loopback'],
    ['::ffff:0:0/96', 'IPv4-mapped'],
    ['ff00::/8', 'multicast'],
    ['169.254.0.0/16', 'link-local'],
    ['fe80::/10', 'link-local'],
  ] as const
).map(([cidr, what]) => ({ range: parseCidr(cidr)!, what }))

export type Special = (typeof special)[number]['what']

/** The range that makes `ip` no address of a host that others could reach; undefined for a usual one. */
export const specialOf = (ip: Ip): Special | undefined => special.find(({ range }) => contains(range, ip))?.what

/** The same for a network: a range that it lies in, or that lies in it. */
export const specialIn = (network: Cidr): Special | undefined =>
  special.find(({ range }) => contains(range, network) || contains(network, range))?.what

/** The first or last address of a subnet of four addresses or more: the kernel takes them for broadcast (RFC 922). */
export function isSubnetBroadcast(subnet: Cidr, ip: Ip): boolean {
  const bits = subnet.bytes.length * 8
  if (subnet.family !== 4 || subnet.prefix > bits - 2 || !contains(subnet, ip)) return false
  const first = maskCidr(subnet).bytes
  const last = addToIp(first, 2 ** (bits - subnet.prefix) - 1)!
  return [first, last].some((end) => end.every((byte, i) => byte === ip.bytes[i]))
}
