/**
 * Elements of sets and maps: their text to bytes and back.
 *
 *     NFTA_SET_ELEM_KEY { value } | NFTA_SET_ELEM_DATA { value or verdict } | NFTA_SET_ELEM_FLAGS
 *
 * An interval is two elements: its first value, and the first value after it with the flag INTERVAL_END (none when it reaches
 * the end of the type). The kernel lists and notifies these halves one by one; `joinHalves` makes intervals of them again.
 * Source: linux/netfilter/nf_tables.h (enum nft_set_elem_attributes, nft_set_elem_flags).
 * @module
 */
import type { NftElementItem, NftMapItem, NftType } from '#model/kernel.ts'
import { addToIp, formatCidr, maskCidr, parseCidr } from '#net/ip.ts'
import { wireError } from '#wire/errors.ts'
import { attr, attributeMap, concat, read } from '#wire/netlink.ts'
import { decodeData, valueData, verdictData } from '#wire/nftables/expressions.ts'
import { takeVerdict, verdictText } from '#wire/nftables/selectors.ts'
import { decodeParts, encodeParts, parseValue, types, type ValueType } from '#wire/nftables/types.ts'

const KEY = 1
const DATA = 2
const FLAGS = 3
const INTERVAL_END = 1
const LIST_ELEM = 1

/** An element as listed. `key` is its bytes: of an interval, one half. */
export interface DecodedElement {
  readonly key: Uint8Array
  readonly end: boolean
  readonly value?: readonly string[]
}

export const isVerdict = (value: readonly NftType[]): boolean => value.length === 1 && value[0] === 'verdict'

/** The parts of a key or a value that are plain data.
 * @throws {TwillError} ERR_NFT_VALUE if one is a verdict */
export function valueTypes(parts: readonly NftType[]): ValueType[] {
  return parts.map((part) => {
    if (part === 'verdict') throw wireError.ERR_NFT_VALUE({ type: parts.join(' . '), found: 'verdict' })
    return part
  })
}

/** The entries of NFTA_SET_ELEM_LIST_ELEMENTS for `element`, two for an interval.
 * @throws {TwillError} ERR_NFT_VALUE */
export function encodeElement(map: NftMapItem, element: NftElementItem): Uint8Array {
  const data = element.value === undefined ? [] : [encodeData(map, element.value)]
  if (!map.interval) return entry(valueData(KEY, encodeParts(valueTypes(map.key), element.key)), ...data)
  const { first, after } = parseInterval(map, element.key)
  const start = entry(valueData(KEY, first), ...data)
  return after ? concat(start, entry(valueData(KEY, after), attr.be32(FLAGS, INTERVAL_END))) : start
}

const entry = (...attributes: Uint8Array[]): Uint8Array => attr.bytes(LIST_ELEM, concat(...attributes))

function encodeData(map: NftMapItem, value: readonly string[]): Uint8Array {
  const types = map.value ?? []
  if (!isVerdict(types)) return valueData(DATA, encodeParts(valueTypes(types), value))
  const words = value.join(' ').split(' ')
  const verdict = takeVerdict(words)
  if (!verdict || words.length > 0) throw wireError.ERR_NFT_VALUE({ type: 'verdict', found: value.join(' ') })
  return verdictData(DATA, verdict)
}

/** One entry of NFTA_SET_ELEM_LIST_ELEMENTS. */
export function decodeElement(map: NftMapItem, bytes: Uint8Array): DecodedElement {
  const found = attributeMap(bytes)
  const { value, verdict } = decodeData(found.get(DATA) ?? new Uint8Array())
  const text = verdict
    ? [verdictText(verdict) ?? `verdict ${verdict.code}`]
    : value && map.value && decodeParts(valueTypes(map.value), value)
  const flags = found.get(FLAGS)
  return {
    key: decodeData(found.get(KEY) ?? new Uint8Array()).value ?? new Uint8Array(),
    end: flags !== undefined && (read.be32(flags) & INTERVAL_END) !== 0,
    ...(text && { value: text }),
  }
}

/** Items of `elements`, which are all of `map` that changed together: intervals are put together from their halves. */
export function elementItems(map: NftMapItem, elements: readonly DecodedElement[]): NftElementItem[] {
  const { family, table, name } = map
  const item = (key: readonly string[], value: readonly string[] | undefined): NftElementItem => ({
    kind: 'nft-element',
    family,
    table,
    map: name,
    key,
    ...(value && { value }),
  })
  if (!map.interval) return elements.map(({ key, value }) => item(decodeParts(valueTypes(map.key), key), value))
  const [type] = valueTypes(map.key)
  const sorted = elements.toSorted((a, b) => compare(a.key, b.key) || Number(b.end) - Number(a.end))
  return sorted.flatMap((start, i) =>
    start.end ? [] : [item([intervalText(type!, start.key, sorted.slice(i + 1).find(({ end }) => end)?.key)], start.value)],
  )
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const at = a.findIndex((byte, i) => byte !== b[i])
  return at < 0 ? 0 : a[at]! - b[at]!
}

/** A CIDR, a-b, or a single value: as its first value and the first value after it.
 * @throws {TwillError} ERR_NFT_VALUE */
function parseInterval(map: NftMapItem, key: readonly string[]): { first: Uint8Array; after: Uint8Array | undefined } {
  const [type, ...more] = valueTypes(map.key)
  const [text = '', ...rest] = key
  const refuse = (): never => {
    throw wireError.ERR_NFT_VALUE({ type: `${map.key.join(' . ')} interval`, found: key.join(' . ') })
  }
  if (!type || more.length > 0 || rest.length > 0) return refuse()
  const cidr = type === 'ipv4_addr' || type === 'ipv6_addr' ? parseCidr(text) : undefined
  const dash = text.indexOf('-')
  const first = cidr ? maskCidr(cidr).bytes : parseValue(type, dash < 0 ? text : text.slice(0, dash))
  const last = cidr ? lastOf(first, cidr.prefix) : dash < 0 ? first : parseValue(type, text.slice(dash + 1))
  const after = addToIp(last, 1)
  if (first.length !== types[type].bytes || compare(first, last) > 0 || intervalText(type, first, after) !== text) return refuse()
  return { first, after }
}

const lastOf = (first: Uint8Array, prefix: number): Uint8Array =>
  first.map((byte, i) => byte | (0xff >> Math.max(0, Math.min(8, prefix - 8 * i))))

/** The interval as nft prints it: an address, a CIDR if it is one, else a-b. */
function intervalText(type: ValueType, first: Uint8Array, after: Uint8Array | undefined): string {
  const last = after ? addToIp(after, -1)! : new Uint8Array(first.length).fill(0xff)
  const { format } = types[type]
  if (compare(first, last) === 0) return format(first)
  if (type === 'ipv4_addr' || type === 'ipv6_addr') {
    for (let prefix = 0; prefix < 8 * first.length; prefix++) {
      const cidr = { family: type === 'ipv4_addr' ? 4 : 6, bytes: first, prefix } as const
      if (compare(maskCidr(cidr).bytes, first) === 0 && compare(lastOf(first, prefix), last) === 0) return formatCidr(cidr)
    }
  }
  return `${format(first)}-${format(last)}`
}
