/**
 * Rules that others made, of which only two things are read: where they jump to and their comment. They are known by these, and
 * may be deleted for them; the rest of such a rule is not parsed.
 * @module
 */
import type { NftFamily } from '#model/kernel.ts'
import { afterHeader, attr, attributeMap, decodeAttributes, type Message, type Request, read } from '#wire/netlink.ts'
import { decodeData } from '#wire/nftables/expressions.ts'
import { familyOfMessage, NFT, RULE, request } from '#wire/nftables/messages.ts'
import { decodeComment } from '#wire/nftables/rules.ts'

export interface ForeignRule {
  readonly family: NftFamily
  readonly table: string
  readonly chain: string
  readonly handle: bigint
  readonly jumps: readonly string[]
  readonly comment?: string
}

/** NFTA_EXPR_NAME, NFTA_EXPR_DATA; NFTA_IMMEDIATE_DATA. */
const EXPRESSION = { name: 1, data: 2 } as const
const IMMEDIATE_DATA = 2

/** Reads one message of a dump of rules; undefined for any other message. */
export function decodeForeignRule({ type, body }: Message): ForeignRule | undefined {
  const family = familyOfMessage(body)
  if (type !== NFT.newRule || family === undefined) return undefined
  const found = attributeMap(afterHeader(body, 4, 'struct nfgenmsg'))
  const text = (attribute: number): string => read.string(found.get(attribute) ?? new Uint8Array())
  const userdata = found.get(RULE.userdata)
  const comment = userdata && decodeComment(userdata)
  return {
    family,
    table: text(RULE.table),
    chain: text(RULE.chain),
    handle: read.be64(found.get(RULE.handle) ?? new Uint8Array(8)),
    jumps: jumpsIn(found.get(RULE.expressions) ?? new Uint8Array()),
    ...(comment !== undefined && { comment }),
  }
}

function jumpsIn(expressions: Uint8Array): string[] {
  return decodeAttributes(expressions).flatMap(({ payload }) => {
    const expression = attributeMap(payload)
    if (read.string(expression.get(EXPRESSION.name) ?? new Uint8Array()) !== 'immediate') return []
    const data = attributeMap(expression.get(EXPRESSION.data) ?? new Uint8Array()).get(IMMEDIATE_DATA)
    return decodeData(data ?? new Uint8Array()).verdict?.chain ?? []
  })
}

export const deleteRule = ({ family, table, chain, handle }: ForeignRule): Request =>
  request(NFT.delRule, family, 0, attr.string(RULE.table, table), attr.string(RULE.chain, chain), attr.be64(RULE.handle, handle))
