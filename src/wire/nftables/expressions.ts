/**
 * nf_tables expressions: the kernel's instructions, which rules are compiled to.
 *
 *     NFTA_LIST_ELEM { NFTA_EXPR_NAME "cmp", NFTA_EXPR_DATA { NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA { NFTA_DATA_VALUE } } }
 *
 * One table lists each expression's attributes in the order in which the kernel dumps them (nft_*_dump in net/netfilter/), so
 * that what we send and what the kernel gives back are the same bytes. Nests go without NLA_F_NESTED, as nf_tables dumps them.
 * Source: linux/netfilter/nf_tables.h (enum nft_*_attributes).
 * @module
 */
import { attr, attributeMap, concat, decodeAttributes, read } from '#wire/netlink.ts'

const NFTA_LIST_ELEM = 1
const NFTA_EXPR_NAME = 1
const NFTA_EXPR_DATA = 2
const NFTA_DATA_VALUE = 1
const NFTA_DATA_VERDICT = 2
const NFTA_VERDICT_CODE = 1
const NFTA_VERDICT_CHAIN = 2

/** How an attribute's payload reads. `data` is a nested NFTA_DATA_VALUE. */
type Format = 'be32' | 'be64' | 'u8' | 'string' | 'data' | 'verdict'
type Field = readonly [attribute: number, format: Format]

const layouts = {
  meta: { key: [2, 'be32'], dreg: [1, 'be32'], sreg: [3, 'be32'] },
  payload: { dreg: [1, 'be32'], base: [2, 'be32'], offset: [3, 'be32'], length: [4, 'be32'] },
  ct: { dreg: [1, 'be32'], key: [2, 'be32'], direction: [3, 'u8'] },
  fib: { dreg: [1, 'be32'], result: [2, 'be32'], flags: [3, 'be32'] },
  numgen: { dreg: [1, 'be32'], modulus: [2, 'be32'], type: [3, 'be32'], offset: [4, 'be32'] },
  bitwise: { sreg: [1, 'be32'], dreg: [2, 'be32'], length: [3, 'be32'], op: [6, 'be32'], mask: [4, 'data'], xor: [5, 'data'] },
  cmp: { sreg: [1, 'be32'], op: [2, 'be32'], data: [3, 'data'] },
  lookup: { set: [1, 'string'], sreg: [2, 'be32'], dreg: [3, 'be32'], flags: [5, 'be32'] },
  dynset: { sregKey: [4, 'be32'], sregData: [5, 'be32'], op: [3, 'be32'], set: [1, 'string'], timeout: [6, 'be64'], flags: [9, 'be32'] },
  immediate: { dreg: [1, 'be32'], verdict: [2, 'verdict'] },
  masq: { flags: [1, 'be32'] },
  nat: {
    type: [1, 'be32'],
    family: [2, 'be32'],
    addrMin: [3, 'be32'],
    addrMax: [4, 'be32'],
    protoMin: [5, 'be32'],
    protoMax: [6, 'be32'],
    flags: [7, 'be32'],
  },
  reject: { type: [1, 'be32'], code: [2, 'u8'] },
} as const satisfies Record<string, Record<string, Field>>

/** What to do with the packet: a code (NF_*, NFT_*) and, for jump and goto, where. */
export interface Verdict {
  readonly code: number
  readonly chain?: string
}

type ValueOf<F> = F extends 'string'
  ? string
  : F extends 'be64'
    ? bigint
    : F extends 'data'
      ? Uint8Array
      : F extends 'verdict'
        ? Verdict
        : number
type Layouts = typeof layouts
/** One expression; a field left out is an attribute left out. */
export type Expression = {
  [N in keyof Layouts]: { readonly name: N } & {
    readonly [K in keyof Layouts[N]]?: ValueOf<Layouts[N][K] extends readonly [number, infer F] ? F : never>
  }
}[keyof Layouts]

/** A nest as nf_tables dumps it: without NLA_F_NESTED. */
export const nest = (type: number, ...inner: readonly Uint8Array[]): Uint8Array => attr.bytes(type, concat(...inner))

/** A value as an NFTA_DATA nest. */
export const valueData = (type: number, value: Uint8Array): Uint8Array => nest(type, attr.bytes(NFTA_DATA_VALUE, value))

export const verdictData = (type: number, { code, chain }: Verdict): Uint8Array =>
  nest(
    type,
    nest(
      NFTA_DATA_VERDICT,
      attr.be32(NFTA_VERDICT_CODE, code >>> 0),
      ...(chain === undefined ? [] : [attr.string(NFTA_VERDICT_CHAIN, chain)]),
    ),
  )

/** The content of an NFTA_DATA nest: a value or a verdict. */
export function decodeData(payload: Uint8Array): { value?: Uint8Array; verdict?: Verdict } {
  const [data] = decodeAttributes(payload)
  if (data?.type !== NFTA_DATA_VERDICT) return data ? { value: data.payload } : {}
  const found = attributeMap(data.payload)
  const chain = found.get(NFTA_VERDICT_CHAIN)
  const code = read.be32(found.get(NFTA_VERDICT_CODE) ?? new Uint8Array(4)) | 0
  return { verdict: { code, ...(chain && { chain: read.string(chain) }) } }
}

function encodeField([type, format]: Field, value: unknown): Uint8Array {
  switch (format) {
    case 'be32':
      return attr.be32(type, value as number)
    case 'be64':
      return attr.be64(type, value as bigint)
    case 'u8':
      return attr.u8(type, value as number)
    case 'string':
      return attr.string(type, value as string)
    case 'data':
      return valueData(type, value as Uint8Array)
    case 'verdict':
      return verdictData(type, value as Verdict)
  }
}

function decodeField(format: Format, payload: Uint8Array): unknown {
  switch (format) {
    case 'be32':
      return read.be32(payload)
    case 'be64':
      return read.be64(payload)
    case 'u8':
      return read.u8(payload)
    case 'string':
      return read.string(payload)
    case 'data':
      return decodeData(payload).value
    case 'verdict':
      return decodeData(payload).verdict
  }
}

/** The content of NFTA_RULE_EXPRESSIONS. */
export function encodeExpressions(expressions: readonly Expression[]): Uint8Array {
  return concat(
    ...expressions.map(({ name, ...values }) => {
      const fields = Object.entries<Field>(layouts[name])
        .filter(([key]) => key in values)
        .map(([key, field]) => encodeField(field, (values as Record<string, unknown>)[key]))
      return nest(NFTA_LIST_ELEM, attr.string(NFTA_EXPR_NAME, name), nest(NFTA_EXPR_DATA, ...fields))
    }),
  )
}

/** Expressions of a rule; undefined if one of them, or an attribute of one, is not in the table. */
export function decodeExpressions(bytes: Uint8Array): Expression[] | undefined {
  const expressions: Expression[] = []
  for (const { payload } of decodeAttributes(bytes)) {
    const parts = attributeMap(payload)
    const name = read.string(parts.get(NFTA_EXPR_NAME) ?? new Uint8Array())
    if (!(name in layouts)) return undefined
    const fields = Object.entries<Field>(layouts[name as keyof Layouts])
    const expression: Record<string, unknown> = { name }
    for (const { type, payload: value } of decodeAttributes(parts.get(NFTA_EXPR_DATA) ?? new Uint8Array())) {
      const [key, field] = fields.find(([, [attribute]]) => attribute === type) ?? []
      if (!key || !field) return undefined
      expression[key] = decodeField(field[1], value)
    }
    expressions.push(expression as Expression)
  }
  return expressions
}
