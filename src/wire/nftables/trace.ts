/**
 * nf_tables traces: the kernel's own account of the rules that a marked packet met (`nft monitor trace`).
 * Source: linux/netfilter/nf_tables.h (enum nft_trace_attributes, nft_trace_types), net/netfilter/nf_tables_trace.c.
 * @module
 */
import type { NftChainItem, NftFamily } from '#model/kernel.ts'
import { afterHeader, attr, attributeMap, type Message, NLM_F_APPEND, NLM_F_CREATE, type Request, read } from '#wire/netlink.ts'
import { compile } from '#wire/nftables/compile.ts'
import { type Expression, encodeExpressions } from '#wire/nftables/expressions.ts'
import { decodeNft, familyOfMessage, NFT, newChain, RULE, request } from '#wire/nftables/messages.ts'

/** Multicast group of traces. */
export const NFNLGRP_NFTRACE = 9
const NFT_MSG_TRACE = (10 << 8) | 17

const TRACE = { table: 1, chain: 2, handle: 3, type: 4, verdict: 5, id: 6, iif: 10, oif: 12, policy: 16 } as const
const TYPE_POLICY = 1
const TYPE_RULE = 3
const VERDICT_CODE = 1
const NF_DROP = 0
/** The table goes when its netlink socket does, however that ends (Linux 5.12). */
const NFT_TABLE_F_OWNER = 2
const META_L4PROTO = 16
const META_NFTRACE = 12
const RAW_BEFORE_ALL = -450

export interface TraceEvent {
  /** Of the packet at one hook. */
  readonly id: number
  readonly family: NftFamily
  readonly table: string
  readonly chain: string
  /** Absent when the policy spoke. */
  readonly handle?: number
  readonly drop: boolean
  /** Which devices the hook knows: in and out is forward, in alone input, out alone output. Only a packet's first event at a hook says. */
  readonly devices?: { readonly incoming: boolean; readonly outgoing: boolean }
}

/** One trace message; undefined for any other. */
export function decodeTrace({ type, body }: Message): TraceEvent | undefined {
  const family = familyOfMessage(body)
  if (type !== NFT_MSG_TRACE || family === undefined) return undefined
  const found = attributeMap(afterHeader(body, 4, 'struct nfgenmsg'))
  const u32 = (payload: Uint8Array | undefined): number | undefined => payload && read.be32(payload)
  const kind = u32(found.get(TRACE.type))
  const verdict = found.get(TRACE.verdict)
  const code = verdict && u32(attributeMap(verdict).get(VERDICT_CODE))
  const handle = found.get(TRACE.handle)
  return {
    id: u32(found.get(TRACE.id)) ?? 0,
    family,
    table: read.string(found.get(TRACE.table) ?? new Uint8Array()),
    chain: read.string(found.get(TRACE.chain) ?? new Uint8Array()),
    ...(handle && { handle: Number(read.be64(handle)) }),
    drop: (kind === TYPE_RULE && code === NF_DROP) || (kind === TYPE_POLICY && u32(found.get(TRACE.policy)) === NF_DROP),
    ...((found.has(TRACE.iif) || found.has(TRACE.oif)) && {
      devices: { incoming: found.has(TRACE.iif), outgoing: found.has(TRACE.oif) },
    }),
  }
}

/** A table that marks for tracing what matches one of `rules` (our subset of nft), where packets come in and where they are made. */
export function traceTable(table: string, rules: readonly string[]): Request[] {
  const chainOf = (hook: 'prerouting' | 'output'): NftChainItem => ({
    kind: 'nft-chain',
    family: 'inet',
    table,
    name: hook,
    base: { type: 'filter', hook, priority: RAW_BEFORE_ALL, policy: 'accept' },
    rules: [],
  })
  // Any value but 0 turns the trace on: the protocol's number is one.
  const mark: Expression[] = [
    { name: 'meta', key: META_L4PROTO, dreg: 1 },
    { name: 'meta', key: META_NFTRACE, sreg: 1 },
  ]
  return [
    request(NFT.newTable, 'inet', NLM_F_CREATE, attr.string(1, table), attr.be32(2, NFT_TABLE_F_OWNER)),
    ...(['prerouting', 'output'] as const).flatMap((hook) => [
      newChain(chainOf(hook)),
      ...rules.map((rule) =>
        request(
          NFT.newRule,
          'inet',
          NLM_F_CREATE | NLM_F_APPEND,
          attr.string(RULE.table, table),
          attr.string(RULE.chain, hook),
          attr.bytes(RULE.expressions, encodeExpressions([...compile(rule, 'inet').expressions, ...mark])),
        ),
      ),
    ]),
  ]
}

/** Every chain of every table, to dump; without rules. */
export const getAllChains: Request = request(NFT.getChain, undefined, 0)

/** A chain of anyone's: name and hook only. */
export function decodeChain(message: Message): NftChainItem | undefined {
  const decoded = decodeNft(
    message,
    () => true,
    () => undefined,
  )
  return decoded?.kind === 'chain' ? decoded.item : undefined
}
