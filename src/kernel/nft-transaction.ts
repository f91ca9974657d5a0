/**
 * Ops to nf_tables transactions, and what to make of a transaction that the kernel refused. No socket: bytes and decisions.
 * @module
 */

import { kernelError } from '#kernel/errors.ts'
import { errnoName } from '#kernel/ffi.ts'
import { type NftChainItem, type NftElementItem, type NftMapItem, type Op, showOp } from '#model/kernel.ts'
import type { Ack, Request } from '#wire/netlink.ts'
import { encodeElement } from '#wire/nftables/elements.ts'
import * as nft from '#wire/nftables/messages.ts'

const ENOENT = 2
const EBUSY = 16
const EEXIST = 17

/** Maps by key, for the types of their elements. */
export type Maps = ReadonlyMap<string, NftMapItem>

/** One message of a transaction and the ops it stands for: several if they are elements of one map. */
export interface Piece {
  readonly ops: readonly Op[]
  readonly request: Request
}

/** How the next attempt differs from the first. */
export interface Retry {
  /** Objects to be deleted and made anew, because they are there in a shape that the kernel cannot change. */
  readonly anew: Set<Op>
  /** Elements to be sent in messages of their own, to learn which of a message is the bad one. */
  readonly alone: Set<Op>
  /** Elements that turned out not to be there to be replaced. */
  readonly absent: Set<Op>
  /** Takes an op out: done, or failed with `error`. */
  drop(op: Op, error?: Error): void
}

/** Up to here ops make one transaction: encoding it keeps the event loop for some 20 ms. */
const TRANSACTION_OPS = 2048
/** Of elements in one message; the attribute that holds them ends at 64 KiB. */
const ELEMENT_BYTES = 60_000

/** The key of the map that an element is in. */
export const mapKeyOf = ({ family, table, map }: NftElementItem): string => `map ${family} ${table} ${map}`

/**
 * Order of apply. Whatever is referred to comes before what refers to it, and goes after it: chains are made before the elements
 * that name them; maps that lead to a chain (verdict maps) are filled after those that the chain looks into; base chains, where
 * packets enter, come last.
 */
function rankOf({ verb, item }: Op, maps: Maps): number {
  const put = verb === 'put'
  switch (item.kind) {
    case 'nft-table':
      return put ? 0 : 10
    case 'nft-map':
      return put ? 1 : 9
    case 'nft-chain':
      return put ? (item.base ? 5 : 2) : 8
    case 'nft-element': {
      const leadsToChain = maps.get(mapKeyOf(item))?.value?.[0] === 'verdict'
      return put ? (leadsToChain ? 4 : 3) : leadsToChain ? 6 : 7
    }
    default:
      throw new TypeError(`${item.kind} is no nf_tables item`)
  }
}

/** `ops` in order of apply, cut into transactions: one if they fit, else with a cut before and after elements, and among them. */
export function slices(ops: readonly Op[], maps: Maps, limit = TRANSACTION_OPS): Op[][] {
  const ranked = ops.map((op) => ({ op, rank: rankOf(op, maps) })).toSorted((a, b) => a.rank - b.rank)
  if (ranked.length <= limit) return [ranked.map(({ op }) => op)]
  const stageOf = (rank: number): number => [0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4][rank]!
  const out: Op[][] = []
  for (const [i, { op, rank }] of ranked.entries()) {
    const elements = stageOf(rank) % 2 === 1
    if (i === 0 || stageOf(rank) !== stageOf(ranked[i - 1]!.rank) || (elements && out.at(-1)!.length === limit)) out.push([])
    out.at(-1)!.push(op)
  }
  return out
}

/** The messages of one transaction for `ops`, which are in order of apply. An op that cannot be encoded is dropped. */
export function encode(ops: readonly Op[], maps: Maps, retry: Retry): Piece[] {
  /** Chains are all made before the first rule, and emptied before the first is deleted: they may jump to each other. */
  const made: Piece[] = []
  const filled: Piece[] = []
  const replaced = new ElementPacker()
  const elements = new ElementPacker()
  const gone: Piece[] = []
  for (const op of ops) {
    const pieces = (...requests: Request[]): Piece[] => requests.map((request) => ({ ops: [op], request }))
    const { verb, item } = op
    const anew = retry.anew.has(op)
    try {
      if (item.kind === 'nft-table') {
        if (verb === 'put') made.push(...pieces(nft.newTable(item)))
        else gone.push(...pieces(nft.delTable(item)))
      } else if (item.kind === 'nft-map') {
        if (verb === 'put') made.push(...pieces(...(anew ? [nft.delSet(item)] : []), nft.newSet(item)))
        else gone.push(...pieces(nft.delSet(item)))
      } else if (item.kind === 'nft-chain') {
        const rules = verb === 'put' ? nft.newRules(item) : []
        if (verb === 'put') made.push(...pieces(...(anew ? [nft.delChain(item)] : []), nft.newChain(item)))
        else gone.push(...pieces(nft.delChain(item)))
        filled.push(...pieces(nft.flushChain(item), ...rules))
      } else if (item.kind === 'nft-element') {
        const map = maps.get(mapKeyOf(item))
        if (map) {
          const entry = encodeElement(map, item)
          const alone = retry.alone.has(op)
          if (anew) replaced.add('del', map, op, entry, alone)
          elements.add(verb, map, op, entry, alone)
        } else retry.drop(op, verb === 'put' ? kernelError.ERR_NFT_NO_MAP({ op: showOp(op), map: item.map }) : undefined)
      }
    } catch (error) {
      retry.drop(op, error as Error)
    }
  }
  return [...made, ...filled, ...replaced.pieces(), ...elements.pieces(), ...gone]
}

/** Puts elements that follow each other into one message, if map and verb are the same. */
class ElementPacker {
  readonly #out: Piece[] = []
  #run:
    | { readonly verb: Op['verb']; readonly map: NftMapItem; readonly ops: Op[]; readonly entries: Uint8Array[]; bytes: number }
    | undefined

  add(verb: Op['verb'], map: NftMapItem, op: Op, entry: Uint8Array, alone: boolean): void {
    const run = this.#run
    const joins = !alone && run?.verb === verb && run.map === map && run.bytes + entry.length <= ELEMENT_BYTES
    if (!joins) this.#flush()
    this.#run ??= { verb, map, ops: [], entries: [], bytes: 0 }
    this.#run.ops.push(op)
    this.#run.entries.push(entry)
    this.#run.bytes += entry.length
    if (alone) this.#flush()
  }

  pieces(): Piece[] {
    this.#flush()
    return this.#out
  }

  #flush(): void {
    const run = this.#run
    if (run) this.#out.push({ ops: run.ops, request: nft.changeElements(run.verb, run.map, run.entries) })
    this.#run = undefined
  }
}

export interface Failure {
  readonly piece: Piece
  readonly ack: Ack
}

/**
 * Decides what a refused transaction tries next. The kernel goes on through a batch after an error, so all that it objects to is
 * known at once; but some of it may only be the consequence of an earlier failure (a rule of a chain that could not be made).
 */
export function judge(failures: readonly Failure[], { anew, alone, absent, drop }: Retry): void {
  const guilty = new Map<Op, Ack>()
  let progress = false
  for (const { piece, ack } of failures) {
    const [op] = piece.ops as [Op]
    const exists = ack.errno === EEXIST || (ack.errno === EBUSY && op.item.kind === 'nft-element')
    if (piece.ops.length > 1) for (const each of piece.ops) alone.add(each)
    else if (op.verb === 'del' && ack.errno === ENOENT) drop(op)
    else if (op.verb === 'put' && exists && !anew.has(op)) anew.add(op)
    else if (op.replaces && ack.errno === ENOENT && anew.has(op) && !absent.has(op)) {
      absent.add(op)
      anew.delete(op)
    } else {
      if (!guilty.has(op)) guilty.set(op, ack)
      continue
    }
    progress = true
  }
  if (progress) return
  // Nothing depends on an element. Of the others, the first has no one else to blame; a later one that misses something has.
  const structural = [...guilty].filter(([{ item }]) => item.kind !== 'nft-element')
  const out = structural.length === 0 ? [...guilty] : structural.filter(([, { errno }], i) => i === 0 || errno !== ENOENT)
  for (const [op, ack] of out) drop(op, refused(op, ack))
}

export function refused(op: Op, { errno, message }: Ack): Error {
  return kernelError.ERR_NFT_REFUSED({ op: showOp(op), reason: errnoName(errno) + (message === undefined ? '' : ` (${message})`) })
}

/** The parts of a base chain that the kernel cannot change; empty for a chain that is only jumped to. */
export const hookOf = ({ base }: NftChainItem): string => (base ? `${base.type} ${base.hook} ${base.priority}` : '')
