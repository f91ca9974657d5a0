/**
 * nf_tables: our tables read, changed and watched.
 *
 * apply() is one atomic transaction. Only a large load (a first sync with thousands of services) is cut into several: chains
 * that are merely jumped to and maps first, then elements piece by piece, base chains last, so that no packet meets half of it.
 * When the kernel refuses a transaction it names every message that it objects to; those are taken out, reported, and the rest
 * is sent again, so one bad object never stops the others.
 * @module
 */
import { kernelError } from '#kernel/errors.ts'
import { NftMirror, type Table } from '#kernel/nft-mirror.ts'
import { encode, type Failure, hookOf, judge, type Maps, mapKeyOf, type Piece, slices } from '#kernel/nft-transaction.ts'
import type { NetlinkSocket } from '#kernel/socket.ts'
import {
  type Change,
  type Item,
  keyOf,
  type MapRef,
  type NftElementItem,
  type NftMapItem,
  type NftTableItem,
  type Op,
  type Outcome,
  show,
} from '#model/kernel.ts'
import { type Message, NLM_F_ACK } from '#wire/netlink.ts'
import { elementItems } from '#wire/nftables/elements.ts'
import * as nft from '#wire/nftables/messages.ts'

export interface Nft {
  /** Everything in `tables` (those that exist), read in one consistent piece. No other table is parsed.
   * @throws {TwillError} ERR_NETLINK_DUMP, ERR_NFT_BUSY */
  dump(tables: readonly Table[]): Promise<Item[]>
  /** Carries out `ops`, whose items must be nf_tables items; order within one call does not matter, a later op on the same
   * object wins over an earlier one. One outcome an op, in order. */
  apply(ops: readonly Op[]): Promise<Outcome[]>
  /** What a map holds now: packets may fill it. Nothing if there is no such map. */
  elements(map: MapRef): Promise<NftElementItem[]>
  /** Takes one notification of NFNLGRP_NFTABLES; gives what a transaction changed in the tables last dumped once its last
   * message has come. A deleted table, set or map takes its content along unsaid: then `overrun` asks for a new dump. */
  decodeChange(message: Message): Change[]
  /** Mutating messages sent. */
  readonly mutations: number
}

const DUMP_TRIES = 10

export function openNft(socket: NetlinkSocket): Nft {
  return new NftConnection(socket)
}

class NftConnection implements Nft {
  mutations = 0
  readonly #socket: NetlinkSocket
  readonly #mirror = new NftMirror()
  constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  async dump(tables: readonly Table[]): Promise<Item[]> {
    for (let attempt = 0; attempt < DUMP_TRIES; attempt++) {
      const before = await this.#generation()
      const items = await this.#dumpOnce(tables)
      if ((await this.#generation()) === before) return items
    }
    throw kernelError.ERR_NFT_BUSY({ tries: DUMP_TRIES })
  }

  async #generation(): Promise<number> {
    const [reply] = await this.#socket.request([nft.getGeneration()])
    const message = reply?.messages[0] && this.#mirror.decode(reply.messages[0])
    return message?.kind === 'generation' ? message.id : 0
  }

  async #dumpOnce(tables: readonly Table[]): Promise<Item[]> {
    const mirror = this.#mirror
    mirror.reset(tables)
    const note = (messages: readonly Message[]): void => {
      for (const message of messages) {
        const decoded = mirror.decode(message)
        if (decoded) mirror.note(decoded)
      }
    }
    const items: Item[] = []
    for (const { family, table } of tables) {
      const [reply] = await this.#socket.request([nft.getTable(family, table)])
      if (reply?.messages.length) items.push({ kind: 'nft-table', family, table })
    }
    const there = items as NftTableItem[]
    for (const family of new Set(there.map((each) => each.family))) note(await this.#socket.dump(nft.getChains(family)))
    for (const { family, table } of there) {
      note(await this.#socket.dump(nft.getSets(family, table)))
      note(await this.#socket.dump(nft.getRules(family, table)))
    }
    for (const map of mirror.maps()) {
      items.push(map, ...(map.dynamic ? [] : await this.#elements(map)))
    }
    items.push(...mirror.chains())
    return items
  }

  async #elements(map: NftMapItem): Promise<NftElementItem[]> {
    const messages = await this.#socket.dump(nft.getElements(map))
    const listed = messages.map((message) =>
      nft.decodeNft(
        message,
        () => true,
        () => map,
      ),
    )
    return elementItems(
      map,
      listed.flatMap((message) => (message?.kind === 'elements' ? message.elements : [])),
    )
  }

  async elements(ref: MapRef): Promise<NftElementItem[]> {
    const any: NftElementItem = { kind: 'nft-element', ...ref, key: [] }
    const map = (await this.#mapsOf([{ verb: 'put', item: any }])).get(mapKeyOf(any))
    return map ? await this.#elements(map) : []
  }

  decodeChange(message: Message): Change[] {
    return this.#mirror.changes(message)
  }

  async apply(ops: readonly Op[]): Promise<Outcome[]> {
    const last = new Map(ops.map((op) => [keyOf(op.item), op]))
    const errors = new Map<Op, Error>()
    const maps = await this.#mapsOf([...last.values()])
    for (const slice of slices([...last.values()], maps)) await this.#transaction(slice, maps, errors)
    return ops.map((op) => {
      const error = errors.get(last.get(keyOf(op.item))!)
      return { op, ...(error && { error }) }
    })
  }

  /** The maps that elements among `ops` belong to: as they will be, or as they are. */
  async #mapsOf(ops: readonly Op[]): Promise<Maps> {
    const out = new Map<string, NftMapItem>()
    const missing = new Map<string, Table>()
    for (const { verb, item } of ops) if (item.kind === 'nft-map' && verb === 'put') out.set(keyOf(item), item)
    for (const { item } of ops) {
      if (item.kind !== 'nft-element' || out.has(mapKeyOf(item))) continue
      const known = this.#mirror.map(item, item.map)
      if (known) out.set(mapKeyOf(item), known)
      else missing.set(`${item.family} ${item.table}`, item)
    }
    for (const { family, table } of missing.values()) {
      for (const message of await this.#socket.dump(nft.getSets(family, table))) {
        const decoded = nft.decodeNft(
          message,
          (f, t) => f === family && t === table,
          () => undefined,
        )
        if (decoded?.kind === 'set' && !out.has(keyOf(decoded.item))) out.set(keyOf(decoded.item), decoded.item)
      }
    }
    return out
  }

  /** Sends `ops` until the kernel has taken all that it does not object to. */
  async #transaction(ops: readonly Op[], maps: Maps, errors: Map<Op, Error>): Promise<void> {
    const left = new Set(ops)
    const drop = (op: Op, error?: Error): void => {
      left.delete(op)
      if (error) errors.set(op, error)
    }
    const retry = { anew: new Set(ops.filter((op) => this.#shapeDiffers(op))), alone: new Set<Op>(), absent: new Set<Op>(), drop }
    while (left.size > 0) {
      const pieces = encode([...left], maps, retry)
      if (pieces.length === 0) continue
      const failures = await this.#send(pieces)
      if (failures.length > 0) judge(failures, retry)
      else {
        for (const op of left) this.#learn(op)
        return
      }
    }
  }

  /** The pieces that the kernel refused; if none, it has taken all. When it refuses the batch as such, each piece has failed.
   * @throws {SyscallError} */
  async #send(pieces: readonly Piece[]): Promise<Failure[]> {
    this.mutations += pieces.length
    // Errors come unasked; one ack is enough to know that the kernel got to the end.
    const changes = pieces.map(({ request }, i) => (i < pieces.length - 1 ? request : { ...request, flags: request.flags | NLM_F_ACK }))
    const [begin, ...replies] = await this.#socket.request(nft.batch(changes))
    const failed = pieces.map((piece, i) => ({ piece, ack: replies[i]! })).filter(({ ack }) => ack.errno !== 0)
    return failed.length > 0 || begin!.errno === 0 ? failed : pieces.map((piece) => ({ piece, ack: begin! }))
  }

  /** True if `op` would change what the kernel cannot change in place. Sending it as it is would be refused or, worse, ignored. */
  #shapeDiffers({ verb, item, replaces }: Op): boolean {
    if (verb === 'del') return false
    if (item.kind === 'nft-element') return replaces === true
    if (item.kind === 'nft-map') {
      const known = this.#mirror.map(item, item.name)
      return known !== undefined && show(known) !== show(item)
    }
    if (item.kind !== 'nft-chain') return false
    const known = this.#mirror.chain(item, item.name)
    return known !== undefined && hookOf(known) !== hookOf(item)
  }

  /** Remembers what our own change did, so that the next apply() need not ask. */
  #learn({ verb, item }: Op): void {
    const deleted = verb === 'del'
    if (item.kind === 'nft-table') this.#mirror.note({ kind: 'table', deleted, item, comment: undefined })
    if (item.kind === 'nft-map') this.#mirror.note({ kind: 'set', deleted, item })
    if (item.kind === 'nft-chain') this.#mirror.note({ kind: 'chain', deleted, item })
  }
}
