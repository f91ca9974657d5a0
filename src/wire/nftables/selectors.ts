/**
 * What a rule can look at (selectors) and decide (verdicts): the words of the text beside the numbers of the kernel.
 * Source: linux/netfilter/nf_tables.h, linux/netfilter.h.
 * @module
 */
import type { Expression, Verdict } from '#wire/nftables/expressions.ts'
import type { ValueType } from '#wire/nftables/types.ts'

/** Something of the packet that can be loaded into a register. */
export interface Selector {
  readonly type: ValueType
  /** The expression that loads it, without its destination register. */
  readonly load: Expression
  /** Only packets of this family have it. */
  readonly family?: IpFamily
}

export type IpFamily = 'ip' | 'ip6'

/** `nfproto` is NFPROTO_*; offsets are in the IP header. */
export const families = {
  ip: { nfproto: 2, bytes: 4, type: 'ipv4_addr', saddr: 12, daddr: 16 },
  ip6: { nfproto: 10, bytes: 16, type: 'ipv6_addr', saddr: 8, daddr: 24 },
} as const

export const metaNfproto: Expression = { name: 'meta', key: 15 }
const NETWORK_HEADER = 1
const addressLengths = [families.ip.bytes, families.ip6.bytes]
const networkHeader = (offset: number, length: number): Expression => ({ name: 'payload', base: NETWORK_HEADER, offset, length })
const transportHeader = (offset: number): Expression => ({ name: 'payload', base: 2, offset, length: 2 })
/** NFT_CT_SRC_IP, …, NFT_CT_PROTO_SRC, NFT_CT_PROTO_DST; direction 0 is the original one. */
const ctOriginal = (key: number): Expression => ({ name: 'ct', key, direction: 0 })
/** NFT_FIB_RESULT_ADDRTYPE of the source (1) or destination (2) address. */
const addressType = (flags: number): Expression => ({ name: 'fib', result: 3, flags })

const addresses = (family: IpFamily, ctSource: number): [string, Selector][] => {
  const { type, bytes, saddr, daddr } = families[family]
  return [
    [`${family} saddr`, { type, family, load: networkHeader(saddr, bytes) }],
    [`${family} daddr`, { type, family, load: networkHeader(daddr, bytes) }],
    [`ct original ${family} saddr`, { type, family, load: ctOriginal(ctSource) }],
    [`ct original ${family} daddr`, { type, family, load: ctOriginal(ctSource + 1) }],
  ]
}

const selectors: ReadonlyMap<string, Selector> = new Map<string, Selector>([
  ['meta mark', { type: 'mark', load: { name: 'meta', key: 3 } }],
  ['meta l4proto', { type: 'inet_proto', load: { name: 'meta', key: 16 } }],
  ['meta nfproto', { type: 'nf_proto', load: metaNfproto }],
  ['iifname', { type: 'ifname', load: { name: 'meta', key: 6 } }],
  ['oifname', { type: 'ifname', load: { name: 'meta', key: 7 } }],
  ...addresses('ip', 19),
  ...addresses('ip6', 21),
  ['th sport', { type: 'inet_service', load: transportHeader(0) }],
  ['th dport', { type: 'inet_service', load: transportHeader(2) }],
  ['ct reply proto-src', { type: 'inet_service', load: { name: 'ct', key: 11, direction: 1 } }],
  ['ct original proto-dst', { type: 'inet_service', load: ctOriginal(12) }],
  ['ct state', { type: 'ct_state', load: { name: 'ct', key: 0 } }],
  ['ct status', { type: 'ct_status', load: { name: 'ct', key: 2 } }],
  ['ct mark', { type: 'mark', load: { name: 'ct', key: 3 } }],
  ['fib saddr type', { type: 'fib_addrtype', load: addressType(1) }],
  ['fib daddr type', { type: 'fib_addrtype', load: addressType(2) }],
])

const numgenRandom = (modulus: number): Selector => ({ type: 'integer', load: { name: 'numgen', modulus, type: 1, offset: 0 } })

/** Takes the words of one selector off the front of `words`; undefined, and nothing taken, if they are none. */
export function takeSelector(words: string[]): Selector | undefined {
  if (words.slice(0, 3).join(' ') === 'numgen random mod' && /^[1-9]\d{0,8}$/.test(words[3] ?? '')) {
    return numgenRandom(Number(words.splice(0, 4)[3]))
  }
  for (let count = Math.min(4, words.length); count > 0; count--) {
    const found = selectors.get(words.slice(0, count).join(' '))
    if (!found) continue
    words.splice(0, count)
    return found
  }
  return undefined
}

const withoutRegister = (load: Expression): string =>
  JSON.stringify(
    Object.entries(load)
      .filter(([key]) => key !== 'dreg')
      .toSorted(),
  )
const names: ReadonlyMap<string, string> = new Map([...selectors].map(([name, { load }]) => [withoutRegister(load), name]))

/** The selector that `load` loads, with its name; undefined if it is none. Of an address perhaps only the first bytes: see `leading`. */
export function selectorOf(load: Expression): { readonly name: string; readonly selector: Selector } | undefined {
  if (load.name === 'numgen' && load.modulus) return { name: `numgen random mod ${load.modulus}`, selector: numgenRandom(load.modulus) }
  const whole = load.name === 'payload' ? addressLengths.map((length) => ({ ...load, length: Math.max(length, load.length ?? 0) })) : []
  const name = [load, ...whole].map((each) => names.get(withoutRegister(each))).find((found) => found !== undefined)
  return name === undefined ? undefined : { name, selector: selectors.get(name)! }
}

/** `load` cut to the first `bytes` of an address in the packet: how nft compares with a prefix that ends between bytes. */
export const leading = (load: Expression, bytes: number): Expression | undefined =>
  load.name === 'payload' && load.base === NETWORK_HEADER ? { ...load, length: bytes } : undefined

/** NF_DROP, NF_ACCEPT, NFT_RETURN; NFT_JUMP, NFT_GOTO. */
const plainVerdicts: Readonly<Record<string, number>> = { drop: 0, accept: 1, return: -5 }
const chainVerdicts: Readonly<Record<string, number>> = { jump: -3, goto: -4 }

/** Takes a verdict off the front of `words`; undefined, and nothing taken, if there is none. */
export function takeVerdict(words: string[]): Verdict | undefined {
  const [word = '', chain] = words
  const plain = plainVerdicts[word]
  if (plain !== undefined) {
    words.shift()
    return { code: plain }
  }
  const code = chainVerdicts[word]
  if (code === undefined || chain === undefined) return undefined
  words.splice(0, 2)
  return { code, chain }
}

/** A verdict's text (`goto endpoints-2`), or undefined if it is none of these. */
export function verdictText({ code, chain }: Verdict): string | undefined {
  const [word] = Object.entries(chain === undefined ? plainVerdicts : chainVerdicts).find(([, number]) => number === code) ?? []
  return word && (chain === undefined ? word : `${word} ${chain}`)
}
