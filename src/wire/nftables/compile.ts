/** A rule's text to expressions: reads word by word. What the words may be is in rules.ts. @module */
import { parseDuration } from '#base/duration.ts'
import type { NftFamily, NftRule } from '#model/kernel.ts'
import { maskCidr, parseCidr } from '#net/ip.ts'
import { wireError } from '#wire/errors.ts'
import type { Expression } from '#wire/nftables/expressions.ts'
import { families, type IpFamily, leading, metaNfproto, type Selector, takeSelector, takeVerdict } from '#wire/nftables/selectors.ts'
import { padded, parseValue, types } from '#wire/nftables/types.ts'

const EQ = 0
const NEQ = 1
const RANDOM_FULLY = 1 << 4
/** NFT_NAT_DNAT; NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED */
const DNAT = 1
const ADDRESS_AND_PORT = 3
const REJECT_TCP_RESET = 1
const REJECT_ICMPX = 2
const ICMPX_PORT_UNREACHABLE = 1
const LOOKUP_INVERT = 1
const DYNSET_UPDATE = 1
const META_MARK = 3
const SET_MARK = ['meta', 'mark', 'set', 'meta', 'mark', '|']
/** Register 0 is the verdict; 1 to 4 are 16 bytes wide, 8 to 23 are the same room in pieces of 4 bytes. */
const VERDICT_REGISTER = 0
const PIECES = 16
/** The kernel's number of the register at 4-byte piece `piece`: it speaks of wide registers where it can (nft_dump_register). */
const register = (piece: number): number => (piece % 4 === 0 ? 1 + piece / 4 : 8 + piece)

/** Expressions and comment of `rule`, which need not be in canonical form.
 * @throws {TwillError} ERR_NFT_RULE, ERR_NFT_VALUE */
export function compile(rule: NftRule, family: NftFamily): { readonly expressions: Expression[]; readonly comment?: string } {
  const words = rule.match(/"[^"]*"|[^\s"]+/g) ?? []
  /** Set once a test has made sure of the packet's family. */
  let known: IpFamily | undefined = family === 'ip' || family === 'ip6' ? family : undefined

  const refuse = (problem: string): never => {
    throw wireError.ERR_NFT_RULE({ rule, problem })
  }
  const next = (): string => words.shift() ?? refuse('it ends too early')
  const take = (word: string): boolean => words[0] === word && words.shift() !== undefined
  const expect = (word: string): void => {
    if (!take(word)) refuse(`‹${word}› is expected, not ‹${words[0] ?? 'the end'}›`)
  }

  /** Loads of the selectors at hand, side by side from register 1 (piece 0) on, with the test of the family that the first one needs. */
  const load = (from = 0): { loads: Expression[]; selectors: Selector[]; end: number } => {
    const loads: Expression[] = []
    const selectors: Selector[] = []
    let piece = from
    do {
      const selector = takeSelector(words) ?? refuse(`‹${words.slice(0, 3).join(' ')}› is not in Twill's subset of nft`)
      if (selector.family && selector.family !== known) {
        if (known) refuse(`it mixes ${known} and ${selector.family}`)
        if (selectors.length > 0) refuse(`${selector.family} must be the first part of a key`)
        known = selector.family
        const guard: Expression = { name: 'cmp', sreg: 1, op: EQ, data: Uint8Array.of(families[known].nfproto) }
        loads.push({ ...metaNfproto, dreg: 1 } as Expression, guard)
      }
      loads.push({ ...selector.load, dreg: register(piece) } as Expression)
      selectors.push(selector)
      piece += padded(types[selector.type].bytes) / 4
      if (piece > PIECES) refuse('its key is longer than 64 bytes')
    } while (take('.'))
    return { loads, selectors, end: piece }
  }

  const lookup = (flags: number, dreg?: number): Expression => {
    const set = /^@(.+)$/.exec(next())?.[1] ?? refuse('a named set or map (@name) is expected')
    return { name: 'lookup', set, sreg: 1, ...(dreg !== undefined && { dreg }), flags }
  }

  const match = (): Expression[] => {
    const { loads, selectors } = load()
    if (take('vmap')) return [...loads, lookup(0, VERDICT_REGISTER)]
    const { type } = selectors[0]!
    const { bytes, flags } = types[type]
    const mask = take('&') ? parseValue(type, next()) : undefined
    if (mask && words[0] !== '!=') expect('==')
    const invert = take(flags ? '!' : '!=')
    if (words[0]?.startsWith('@')) return [...loads, lookup(invert ? LOOKUP_INVERT : 0)]
    if (selectors.length > 1) refuse('several selectors can only be looked up in a set or map')
    const text = next()
    const compare = (op: number, data: Uint8Array): Expression => ({ name: 'cmp', sreg: 1, op, data })
    const and = (bits: Uint8Array): Expression => ({
      name: 'bitwise',
      sreg: 1,
      dreg: 1,
      length: bytes,
      op: 0,
      mask: bits,
      xor: new Uint8Array(bytes),
    })
    if (flags) return [...loads, and(parseValue(type, text)), compare(invert ? EQ : NEQ, new Uint8Array(bytes))]
    const op = invert ? NEQ : EQ
    const cidr = type === 'ipv4_addr' || type === 'ipv6_addr' ? parseCidr(text) : undefined
    const wholeBytes = cidr && cidr.prefix > 0 && cidr.prefix < 8 * bytes && cidr.prefix % 8 === 0 ? cidr.prefix / 8 : undefined
    const cut = wholeBytes && leading(loads.at(-1)!, wholeBytes)
    if (cidr?.bytes.length === bytes && cut) return [...loads.slice(0, -1), cut, compare(op, maskCidr(cidr).bytes.subarray(0, wholeBytes))]
    if (cidr?.bytes.length === bytes) {
      const ones = maskCidr({ ...cidr, bytes: new Uint8Array(bytes).fill(0xff) }).bytes
      return [...loads, and(ones), compare(op, maskCidr(cidr).bytes)]
    }
    return [...loads, ...(mask ? [and(mask)] : []), compare(op, parseValue(type, text))]
  }

  const dnat = (): Expression[] => {
    const to = next()
    if (to !== 'ip' && to !== 'ip6') return refuse('dnat needs ip or ip6')
    expect('to')
    const { loads } = load()
    expect('map')
    const { nfproto, bytes } = families[to]
    const address = register(0)
    const port = register(bytes / 4)
    const registers = { addrMin: address, addrMax: address, protoMin: port, protoMax: port }
    return [...loads, lookup(0, address), { name: 'nat', type: DNAT, family: nfproto, ...registers, flags: ADDRESS_AND_PORT }]
  }

  /** Sets bits of the packet's mark, and leaves the others. */
  const setMark = (): Expression[] => {
    const load: Expression = { name: 'meta', key: META_MARK, dreg: 1 }
    words.splice(0, SET_MARK.length)
    const bits = parseValue('mark', next())
    const or: Expression = { name: 'bitwise', sreg: 1, dreg: 1, length: bits.length, op: 0, mask: bits.map((byte) => ~byte), xor: bits }
    return [load, or, { name: 'meta', key: META_MARK, sreg: 1 }]
  }

  /** Remembers: the key's element is made, or lives on, with what the data says at that moment. */
  const update = (): Expression[] => {
    const set = /^@(.+)$/.exec(next())?.[1] ?? refuse('a map (@name) is expected')
    expect('{')
    const key = load()
    expect('timeout')
    const timeout = parseDuration(next()) ?? refuse('a time such as 3h or 1m30s is expected')
    expect(':')
    const data = load(key.end)
    expect('}')
    const registers = { sregKey: 1, sregData: register(key.end) }
    return [
      ...key.loads,
      ...data.loads,
      { name: 'dynset', ...registers, op: DYNSET_UPDATE, set, timeout: BigInt(timeout) * 1000n, flags: 0 },
    ]
  }

  const statement = (): Expression[] => {
    if (SET_MARK.every((word, i) => words[i] === word)) return setMark()
    const verdict = takeVerdict(words)
    if (verdict) return [{ name: 'immediate', dreg: VERDICT_REGISTER, verdict }]
    if (take('masquerade')) return [{ name: 'masq', ...(take('fully-random') && { flags: RANDOM_FULLY }) }]
    if (take('dnat')) return dnat()
    if (take('update')) return update()
    if (!take('reject')) return match()
    if (!take('with')) return [{ name: 'reject', type: REJECT_ICMPX, code: ICMPX_PORT_UNREACHABLE }]
    expect('tcp')
    expect('reset')
    return [{ name: 'reject', type: REJECT_TCP_RESET }]
  }

  const expressions: Expression[] = []
  while (words.length > 0 && words[0] !== 'comment') expressions.push(...statement())
  if (!take('comment')) return { expressions }
  const comment = /^"(.*)"$/.exec(next())?.[1] ?? refuse('a comment is quoted')
  if (words.length > 0) refuse('a comment comes last')
  return { expressions, comment }
}
