/**
 * nft's data types: the text of a value, its bytes, and the number by which `nft list` knows the type.
 * The kernel stores only bytes; the number (NFTA_SET_KEY_TYPE) is user space's, and of a concatenation it is the parts' numbers
 * in 6 bits each, first part highest. In a concatenation each part is padded to 4 bytes, because each starts a register.
 * Source: nftables include/datatype.h (enum datatypes, TYPE_BITS), linux/netfilter/nf_tables.h.
 * @module
 */
import type { NftType } from '#model/kernel.ts'
import { formatIp, parseIp } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'
import { wireError } from '#wire/errors.ts'

/** Types that only matches in rules have, beside those of sets and maps. */
export type ValueType = Exclude<NftType, 'verdict'> | 'nf_proto' | 'ct_state' | 'ct_status' | 'fib_addrtype'

interface DataType {
  /** enum datatypes of nft; only types that a set can have need it. */
  readonly number?: number
  readonly bytes: number
  /** Bytes of `text`, or undefined if it is no such value. */
  parse(text: string): Uint8Array | undefined
  format(bytes: Uint8Array): string
  /** The values are bits: a match tests whether any of those named is set. */
  readonly flags?: boolean
}

/** Data type number of a verdict map (NFT_DATA_VERDICT). */
export const VERDICT_TYPE = 0xffffff00

const decimal = (text: string, max: number): number | undefined =>
  /^(0|[1-9]\d{0,9})$/.test(text) && Number(text) <= max ? Number(text) : undefined

const hostU32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)
const fromHostU32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0, true)

const address = (bytes: 4 | 16, number: number): DataType => ({
  number,
  bytes,
  parse: (text) => {
    const ip = parseIp(text)
    return ip?.bytes.length === bytes ? ip.bytes : undefined
  },
  format: formatIp,
})

/** A number with names; a value without one is written as the number. */
function named(bytes: 1 | 4, names: Readonly<Record<string, number>>, number?: number): DataType {
  const back = new Map(Object.entries(names).map(([name, value]) => [value, name]))
  return {
    ...(number !== undefined && { number }),
    bytes,
    parse: (text) => {
      const value = names[text] ?? decimal(text, bytes === 1 ? 0xff : 0xffffffff)
      return value === undefined ? undefined : bytes === 1 ? Uint8Array.of(value) : hostU32(value)
    },
    format: (data) => {
      const value = bytes === 1 ? data[0]! : fromHostU32(data)
      return back.get(value) ?? String(value)
    },
  }
}

/** Bits with names, in nft's order of printing: `established,related`. */
function flags(names: Readonly<Record<string, number>>): DataType {
  return {
    bytes: 4,
    flags: true,
    parse: (text) => {
      const bits = text.split(',').map((name) => names[name])
      return bits.includes(undefined) ? undefined : hostU32(bits.reduce<number>((all, bit) => all | bit!, 0))
    },
    format: (data) =>
      Object.entries(names)
        .filter(([, bit]) => fromHostU32(data) & bit)
        .map(([name]) => name)
        .join(','),
  }
}

/** Numbers: nft's enum datatypes; names of bits: nf_conntrack_common.h, of address types: rtnetlink.h. */
export const types: Readonly<Record<ValueType, DataType>> = {
  integer: {
    number: 4,
    bytes: 4,
    parse: (text) => {
      const value = decimal(text, 0xffffffff)
      return value === undefined ? undefined : hostU32(value)
    },
    format: (bytes) => String(fromHostU32(bytes)),
  },
  ipv4_addr: address(4, 7),
  ipv6_addr: address(16, 8),
  ether_addr: { number: 9, bytes: 6, parse: parseMac, format: formatMac },
  inet_proto: named(1, { icmp: 1, tcp: 6, udp: 17, 'ipv6-icmp': 58, sctp: 132 }, 12),
  inet_service: {
    number: 13,
    bytes: 2,
    parse: (text) => {
      const port = decimal(text, 0xffff)
      return port === undefined ? undefined : Uint8Array.of(port >> 8, port & 0xff)
    },
    format: (bytes) => String(bytes[0]! * 256 + bytes[1]!),
  },
  mark: {
    number: 19,
    bytes: 4,
    parse: (text) => (/^0x[0-9a-f]{8}$/.test(text) ? hostU32(Number(text)) : undefined),
    format: (bytes) => `0x${fromHostU32(bytes).toString(16).padStart(8, '0')}`,
  },
  ifname: {
    number: 41,
    bytes: 16,
    parse: (text) => {
      const name = /^"([^"\s]{1,15})"$/.exec(text)?.[1]
      const bytes = new Uint8Array(16)
      return name !== undefined && new TextEncoder().encodeInto(name, bytes).read === name.length ? bytes : undefined
    },
    format: (bytes) => `"${new TextDecoder().decode(bytes).replace(/\0.*$/, '')}"`,
  },
  nf_proto: named(1, { ipv4: 2, ipv6: 10 }),
  ct_state: flags({ invalid: 1, established: 2, related: 4, new: 8, untracked: 64 }),
  ct_status: flags({ expected: 1, 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32, dying: 512 }),
  fib_addrtype: named(4, { unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5, blackhole: 6, unreachable: 7 }),
}

/** Bytes of a value.
 * @throws {TwillError} ERR_NFT_VALUE */
export function parseValue(type: ValueType, text: string): Uint8Array {
  const bytes = types[type].parse(text)
  if (!bytes) throw wireError.ERR_NFT_VALUE({ type, found: text })
  return bytes
}

export const padded = (length: number): number => (length + 3) & ~3

/** Bytes of a value of several parts; of a single part it is the part's own, unpadded. */
export const lengthOf = (parts: readonly ValueType[]): number =>
  parts.length === 1 ? types[parts[0]!].bytes : parts.reduce((sum, part) => sum + padded(types[part].bytes), 0)

/** The number under which nft knows a type or a concatenation of types. */
export const numberOf = (parts: readonly ValueType[]): number => parts.reduce((sum, part) => sum * 64 + types[part].number!, 0)

/** The types behind a number; undefined if one of them is none of ours. */
export function partsOf(number: number): ValueType[] | undefined {
  const out: ValueType[] = []
  for (let rest = number; rest > 0; rest = Math.floor(rest / 64)) {
    const found = Object.entries(types).find(([, type]) => type.number === rest % 64)
    if (!found) return undefined
    out.unshift(found[0] as ValueType)
  }
  return out
}

/** Parts back to back, as registers hold them.
 * @throws {TwillError} ERR_NFT_VALUE if a text is no value of its type, or the count differs. */
export function encodeParts(parts: readonly ValueType[], texts: readonly string[]): Uint8Array {
  if (parts.length !== texts.length) throw wireError.ERR_NFT_VALUE({ type: parts.join(' . '), found: texts.join(' . ') })
  const out = new Uint8Array(lengthOf(parts))
  let at = 0
  for (const [i, part] of parts.entries()) {
    out.set(parseValue(part, texts[i]!), at)
    at += padded(types[part].bytes)
  }
  return out
}

export function decodeParts(parts: readonly ValueType[], bytes: Uint8Array): string[] {
  let at = 0
  return parts.map((part) => {
    const { bytes: length, format } = types[part]
    const text = format(bytes.subarray(at, at + length))
    at += padded(length)
    return text
  })
}
