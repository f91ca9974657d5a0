/**
 * nf_tables messages: tables, sets and maps, chains, rules, elements, and the batch that makes them one transaction.
 *
 *     struct nfgenmsg   u8 family | u8 version | be16 resource id        then attributes
 *
 * A transaction is BATCH_BEGIN, changes, BATCH_END in one send: all of it takes place or nothing. Objects are named, never
 * numbered, but for the rules of a chain, which are only ever flushed and refilled together.
 * Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
 * @module
 */
import type { NftChainItem, NftFamily, NftHook, NftMapItem, NftTableItem, NftType } from '#model/kernel.ts'
import {
  afterHeader,
  attr,
  attributeMap,
  concat,
  decodeAttributes,
  type Message,
  NLM_F_APPEND,
  NLM_F_CREATE,
  type Request,
  read,
} from '#wire/netlink.ts'
import { type DecodedElement, decodeElement, isVerdict, valueTypes } from '#wire/nftables/elements.ts'
import { nest } from '#wire/nftables/expressions.ts'
import { compileRule, decodeComment, decompileRule, encodeComment } from '#wire/nftables/rules.ts'
import { lengthOf, numberOf, partsOf, VERDICT_TYPE } from '#wire/nftables/types.ts'

const SUBSYSTEM = 10
const message = (number: number): number => (SUBSYSTEM << 8) | number
/** Message types, with the subsystem in the high byte. */
export const NFT = {
  newTable: message(0),
  getTable: message(1),
  delTable: message(2),
  newChain: message(3),
  getChain: message(4),
  delChain: message(5),
  newRule: message(6),
  getRule: message(7),
  delRule: message(8),
  newSet: message(9),
  getSet: message(10),
  delSet: message(11),
  newElement: message(12),
  getElement: message(13),
  delElement: message(14),
  newGeneration: message(15),
  getGeneration: message(16),
} as const
const BATCH_BEGIN = 16
const BATCH_END = 17
const HEADER = 4

/** Multicast group of every nf_tables change. */
export const NFNLGRP_NFTABLES = 7

/** NFPROTO_* */
const familyNumbers: Readonly<Record<NftFamily, number>> = { inet: 1, ip: 2, netdev: 5, bridge: 7, ip6: 10 }
const familyNames: ReadonlyMap<number, NftFamily> = new Map(
  Object.entries(familyNumbers).map(([name, number]) => [number, name as NftFamily]),
)
/** The family that a message's header names. */
export const familyOfMessage = (body: Uint8Array): NftFamily | undefined => familyNames.get(body[0]!)
/** NF_INET_*; the hooks of netdev and bridge tables have other numbers, and no planner uses them. */
const hooks: readonly NftHook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress']

const TABLE = { name: 1, flags: 2, userdata: 6 } as const
const CHAIN = { table: 1, name: 3, hook: 4, policy: 5, type: 7 } as const
const HOOK = { number: 1, priority: 2 } as const
export const RULE = { table: 1, chain: 2, handle: 3, expressions: 4, userdata: 7 } as const
const SET = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  dataType: 6,
  dataLength: 7,
  description: 9,
  id: 10,
  userdata: 13,
} as const
const ELEMENTS = { table: 1, set: 2, elements: 3 } as const
const GENERATION = { id: 1, pid: 2, process: 3 } as const
const SET_ANONYMOUS = 1
const SET_INTERVAL = 4
const SET_MAP = 8
const SET_TIMEOUT = 16
const SET_EVAL = 32
const SET_DESCRIPTION_SIZE = 1
/** User data, in nft's own encoding: so that it prints host-order numbers right way round. */
const UDATA_KEY_BYTE_ORDER = 0
const UDATA_DATA_BYTE_ORDER = 1
const byteOrder = (parts: readonly NftType[]): number =>
  parts.length > 1 || isVerdict(parts) ? 0 : parts[0] === 'mark' || parts[0] === 'integer' ? 1 : 2
/** User data of a map whose key is `integer`: typeof key numgen random mod 2, typeof data verdict. A plain integer has no size, so
 * nft prints the type by the expression that gives the key, for us always numgen. */
const TYPEOF_NUMGEN = Uint8Array.fromHex('031a000417000000011200040100000001040200000002040000000004080004010000000100')
/** Distinguishes the sets made in one transaction; the kernel wants it, we go by name. */
const NO_ID = 1

/** What stands beside our tables in `nft list`. */
const COMMENT = 'made and repaired by twill; see twill status'

const header = (family: NftFamily | undefined, resource = 0): Uint8Array =>
  Uint8Array.of(family === undefined ? 0 : familyNumbers[family], 0, resource >> 8, resource & 0xff)
/** One message: header and attributes. */
export const request = (type: number, family: NftFamily | undefined, flags: number, ...attributes: Uint8Array[]): Request => ({
  type,
  flags,
  body: concat(header(family), ...attributes),
})

/** `changes` as one transaction. */
export const batch = (changes: readonly Request[]): Request[] => [
  { type: BATCH_BEGIN, flags: 0, body: header(undefined, SUBSYSTEM) },
  ...changes,
  { type: BATCH_END, flags: 0, body: header(undefined, SUBSYSTEM) },
]

export const newTable = ({ family, table }: NftTableItem): Request =>
  request(
    NFT.newTable,
    family,
    NLM_F_CREATE,
    attr.string(TABLE.name, table),
    attr.be32(TABLE.flags, 0),
    attr.bytes(TABLE.userdata, encodeComment(COMMENT)),
  )

export const delTable = ({ family, table }: NftTableItem): Request => request(NFT.delTable, family, 0, attr.string(TABLE.name, table))

/** A set or map. The elements are to come.
 * @throws {TwillError} ERR_NFT_VALUE if a part of the key is a verdict. */
export function newSet({ family, table, name, key, value, interval, dynamic }: NftMapItem): Request {
  const keyParts = valueTypes(key)
  const data =
    value &&
    (isVerdict(value) ? { type: VERDICT_TYPE, length: 0 } : { type: numberOf(valueTypes(value)), length: lengthOf(valueTypes(value)) })
  return request(
    NFT.newSet,
    family,
    NLM_F_CREATE,
    attr.string(SET.table, table),
    attr.string(SET.name, name),
    attr.be32(SET.flags, (interval ? SET_INTERVAL : 0) | (data ? SET_MAP : 0) | (dynamic ? SET_TIMEOUT | SET_EVAL : 0)),
    attr.be32(SET.keyType, numberOf(keyParts)),
    attr.be32(SET.keyLength, lengthOf(keyParts)),
    ...(data ? [attr.be32(SET.dataType, data.type), attr.be32(SET.dataLength, data.length)] : []),
    ...(dynamic ? [nest(SET.description, attr.be32(SET_DESCRIPTION_SIZE, dynamic.size))] : []),
    attr.be32(SET.id, NO_ID),
    attr.bytes(
      SET.userdata,
      concat(
        Uint8Array.of(UDATA_KEY_BYTE_ORDER, 4, byteOrder(key), 0, 0, 0),
        value ? Uint8Array.of(UDATA_DATA_BYTE_ORDER, 4, byteOrder(value), 0, 0, 0) : new Uint8Array(),
        key.includes('integer') ? TYPEOF_NUMGEN : new Uint8Array(),
      ),
    ),
  )
}

export const delSet = ({ family, table, name }: NftMapItem): Request =>
  request(NFT.delSet, family, 0, attr.string(SET.table, table), attr.string(SET.name, name))

type ChainName = Pick<NftChainItem, 'family' | 'table' | 'name'>

/** The chain without its rules. */
export const newChain = ({ family, table, name, base }: NftChainItem): Request =>
  request(
    NFT.newChain,
    family,
    NLM_F_CREATE,
    attr.string(CHAIN.table, table),
    attr.string(CHAIN.name, name),
    ...(base
      ? [
          nest(CHAIN.hook, attr.be32(HOOK.number, hooks.indexOf(base.hook)), attr.be32(HOOK.priority, base.priority >>> 0)),
          attr.be32(CHAIN.policy, base.policy === 'accept' ? 1 : 0),
          attr.string(CHAIN.type, base.type),
        ]
      : []),
  )

export const delChain = ({ family, table, name }: ChainName): Request =>
  request(NFT.delChain, family, 0, attr.string(CHAIN.table, table), attr.string(CHAIN.name, name))

/** Deletes all rules of the chain. */
export const flushChain = ({ family, table, name }: ChainName): Request =>
  request(NFT.delRule, family, 0, attr.string(RULE.table, table), attr.string(RULE.chain, name))

/** The chain's rules, one message each.
 * @throws {TwillError} ERR_NFT_RULE */
export const newRules = ({ family, table, name, rules }: NftChainItem): Request[] =>
  rules.map((rule) => {
    const { expressions, userdata } = compileRule(rule, family)
    return request(
      NFT.newRule,
      family,
      NLM_F_CREATE | NLM_F_APPEND,
      attr.string(RULE.table, table),
      attr.string(RULE.chain, name),
      attr.bytes(RULE.expressions, expressions),
      ...(userdata ? [attr.bytes(RULE.userdata, userdata)] : []),
    )
  })

/** Adds or deletes elements of one map: entries from `encodeElement`, as many as fit in one attribute (64 KiB). */
export const changeElements = (verb: 'put' | 'del', map: NftMapItem, entries: readonly Uint8Array[]): Request =>
  request(
    verb === 'put' ? NFT.newElement : NFT.delElement,
    map.family,
    verb === 'put' ? NLM_F_CREATE : 0,
    attr.string(ELEMENTS.table, map.table),
    attr.string(ELEMENTS.set, map.name),
    nest(ELEMENTS.elements, ...entries),
  )

/** One chain by name, without its rules. */
export const getChain = (family: NftFamily, table: string, name: string): Request =>
  request(NFT.getChain, family, 0, attr.string(CHAIN.table, table), attr.string(CHAIN.name, name))
export const getTable = (family: NftFamily, table: string): Request => request(NFT.getTable, family, 0, attr.string(TABLE.name, table))
/** To dump. The kernel filters chains by family only, sets and rules by table, too. */
export const getChains = (family: NftFamily): Request => request(NFT.getChain, family, 0)
export const getSets = (family: NftFamily, table: string): Request => request(NFT.getSet, family, 0, attr.string(SET.table, table))
export const getRules = (family: NftFamily, table: string): Request => request(NFT.getRule, family, 0, attr.string(RULE.table, table))
export const getElements = ({ family, table, name }: NftMapItem): Request =>
  request(NFT.getElement, family, 0, attr.string(ELEMENTS.table, table), attr.string(ELEMENTS.set, name))
export const getGeneration = (): Request => request(NFT.getGeneration, undefined, 0)

/** One message, read. The kernel uses the same form for what it lists and for what it notifies. */
export type NftMessage =
  | { readonly kind: 'table'; readonly deleted: boolean; readonly item: NftTableItem; readonly comment: string | undefined }
  | { readonly kind: 'chain'; readonly deleted: boolean; readonly item: NftChainItem }
  | {
      readonly kind: 'rule'
      readonly deleted: boolean
      readonly family: NftFamily
      readonly table: string
      readonly chain: string
      readonly rule: DecodedRule
    }
  | { readonly kind: 'set'; readonly deleted: boolean; readonly item: NftMapItem }
  | {
      readonly kind: 'elements'
      readonly deleted: boolean
      readonly family: NftFamily
      readonly table: string
      readonly map: string
      readonly elements: readonly DecodedElement[]
    }
  | { readonly kind: 'generation'; readonly id: number; readonly pid: number; readonly process: string }

export interface DecodedRule {
  readonly handle: bigint
  /** True if it comes after the rules that were there, false if before. (Somewhere in between, the kernel says after.) */
  readonly last: boolean
  readonly text: string
}

/** Reads `message` if it speaks of a table for which `ours` is true; undefined for anything else, which is not parsed. The types
 * of elements are looked up with `mapOf`; elements of a map it does not know are left out.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeNft(
  { type, flags, body }: Message,
  ours: (family: NftFamily, table: string) => boolean,
  mapOf: (family: NftFamily, table: string, name: string) => NftMapItem | undefined,
): NftMessage | undefined {
  const found = attributeMap(afterHeader(body, HEADER, 'struct nfgenmsg'))
  const text = (attribute: number): string => read.string(found.get(attribute) ?? new Uint8Array())
  const u32 = (attribute: number): number => read.be32(found.get(attribute) ?? new Uint8Array(4))
  if (type === NFT.newGeneration) {
    return { kind: 'generation', id: u32(GENERATION.id), pid: u32(GENERATION.pid), process: text(GENERATION.process) }
  }
  // In every message attribute 1 is the table's name.
  const family = familyOfMessage(body)
  const table = text(TABLE.name)
  if (family === undefined || !ours(family, table)) return undefined
  switch (type) {
    case NFT.newTable:
    case NFT.delTable: {
      const userdata = found.get(TABLE.userdata)
      const comment = userdata && decodeComment(userdata)
      return { kind: 'table', deleted: type === NFT.delTable, item: { kind: 'nft-table', family, table }, comment }
    }
    case NFT.newChain:
    case NFT.delChain: {
      const base = decodeHook(found)
      const item: NftChainItem = { kind: 'nft-chain', family, table, name: text(CHAIN.name), ...(base && { base }), rules: [] }
      return { kind: 'chain', deleted: type === NFT.delChain, item }
    }
    case NFT.newRule:
    case NFT.delRule: {
      const handle = found.get(RULE.handle)
      const userdata = found.get(RULE.userdata)
      const bytes = { expressions: found.get(RULE.expressions) ?? new Uint8Array(), ...(userdata && { userdata }) }
      const rule = {
        handle: handle ? read.be64(handle) : 0n,
        last: (flags & NLM_F_APPEND) !== 0,
        text: type === NFT.newRule ? decompileRule(bytes, family) : '',
      }
      return { kind: 'rule', deleted: type === NFT.delRule, family, table, chain: text(RULE.chain), rule }
    }
    case NFT.newSet:
    case NFT.delSet: {
      const kind = u32(SET.flags)
      if (kind & SET_ANONYMOUS) return undefined
      const key = partsOf(u32(SET.keyType)) ?? []
      const value =
        kind & SET_MAP ? (u32(SET.dataType) === VERDICT_TYPE ? (['verdict'] as const) : (partsOf(u32(SET.dataType)) ?? [])) : undefined
      const item: NftMapItem = {
        kind: 'nft-map',
        family,
        table,
        name: text(SET.name),
        key: key as NftType[],
        ...(value && { value: value as NftType[] }),
        ...(kind & SET_INTERVAL && { interval: true }),
        ...(kind & SET_EVAL && { dynamic: { size: decodeSize(found.get(SET.description)) } }),
      }
      return { kind: 'set', deleted: type === NFT.delSet, item }
    }
    case NFT.newElement:
    case NFT.delElement: {
      const map = mapOf(family, table, text(ELEMENTS.set))
      if (!map) return undefined
      const elements = decodeAttributes(found.get(ELEMENTS.elements) ?? new Uint8Array()).map(({ payload }) => decodeElement(map, payload))
      return { kind: 'elements', deleted: type === NFT.delElement, family, table, map: map.name, elements }
    }
    default:
      return undefined
  }
}

function decodeSize(description: Uint8Array | undefined): number {
  const size = description && attributeMap(description).get(SET_DESCRIPTION_SIZE)
  return size ? read.be32(size) : 0
}

function decodeHook(found: ReadonlyMap<number, Uint8Array>): NftChainItem['base'] {
  const nested = found.get(CHAIN.hook)
  if (!nested) return undefined
  const hook = attributeMap(nested)
  const type = read.string(found.get(CHAIN.type) ?? new Uint8Array())
  return {
    type: type as 'filter' | 'nat' | 'route',
    hook: hooks[read.be32(hook.get(HOOK.number) ?? new Uint8Array(4))] ?? 'egress',
    priority: read.be32(hook.get(HOOK.priority) ?? new Uint8Array(4)) | 0,
    policy: read.be32(found.get(CHAIN.policy) ?? new Uint8Array(4)) === 0 ? 'drop' : 'accept',
  }
}
