/**
 * Flows: what the kernel remembers of packets to one destination, held to where it may lead. Two memories: connection tracking, which
 * one list a family answers for all items asked about at once (the kernel filters it by what they have in common, so for one item
 * it gives that item's alone), and dynamic maps of ours.
 * @module
 */
import { kernelError } from '#kernel/errors.ts'
import type { Nft } from '#kernel/nft.ts'
import { refusalOf } from '#kernel/refusal.ts'
import type { NetlinkSocket } from '#kernel/socket.ts'
import { type FlowsItem, keyOf, type MapRef, type NftElementItem, type Op, showOp } from '#model/kernel.ts'
import { familyOf } from '#net/ip.ts'
import { type Connection, decodeConnection, deleteConnection, dstPortOf, dumpConnections } from '#wire/conntrack/messages.ts'

const UDP = 17
/** Deletions in one send. */
const BATCH = 500
const anyAddress = new Set(['0.0.0.0', '::'])

/** One flow that is remembered: where its first packet went, and where it leads. */
interface Flow {
  readonly protocol: FlowsItem['protocol']
  readonly ip: string
  readonly port: number
  readonly target: string
  readonly entry: Connection | NftElementItem
}

export class Flows {
  readonly #socket: NetlinkSocket
  readonly #nft: Nft
  readonly #localAddresses: () => Promise<ReadonlySet<string>>
  readonly #count: (messages: number) => void

  /** `socket` is of protocol NETLINK_NETFILTER; `localAddresses` gives every address of the node. */
  constructor(o: {
    socket: NetlinkSocket
    nft: Nft
    localAddresses: () => Promise<ReadonlySet<string>>
    count: (messages: number) => void
  }) {
    this.#socket = o.socket
    this.#nft = o.nft
    this.#localAddresses = o.localAddresses
    this.#count = o.count
  }

  /** Those of `items` that hold. None if the memory cannot be read: the op that follows says why. */
  async observe(items: readonly FlowsItem[]): Promise<FlowsItem[]> {
    const stale = await this.#stale(items).catch(() => undefined)
    return stale ? items.filter((item) => !stale.has(item)) : []
  }

  /** Deletes the flows that lead elsewhere. One error (or undefined) an op, in order. */
  async apply(ops: readonly Op[]): Promise<(Error | undefined)[]> {
    const wanted = ops.map(({ verb, item }) => (verb === 'put' ? (item as FlowsItem) : { ...(item as FlowsItem), targets: [] }))
    let stale: ReadonlyMap<FlowsItem, readonly Flow[]>
    try {
      stale = await this.#stale(wanted)
    } catch (error) {
      return ops.map((op) => kernelError.ERR_FEATURE_MISSING({ op: showOp(op), module: 'nf_conntrack_netlink' }, error))
    }
    const errors: (Error | undefined)[] = []
    for (const [i, item] of wanted.entries()) errors.push(await this.#forget(ops[i]!, stale.get(item) ?? []))
    return errors
  }

  async #forget({ item }: Op, flows: readonly Flow[]): Promise<Error | undefined> {
    let error: Error | undefined
    for (let at = 0; at < flows.length; at += BATCH) {
      const batch = flows.slice(at, at + BATCH).map(({ entry }) => entry)
      const requests = batch.flatMap((entry) => ('kind' in entry ? [] : [deleteConnection(entry)]))
      this.#count(requests.length)
      // What has gone by itself in the meantime is deleted: refusalOf knows that of a `del`.
      for (const ack of requests.length === 0 ? [] : await this.#socket.request(requests)) error ??= refusalOf({ verb: 'del', item }, ack)
      const dels = batch.flatMap((entry): Op[] => ('kind' in entry ? [{ verb: 'del', item: entry }] : []))
      for (const outcome of dels.length === 0 ? [] : await this.#nft.apply(dels)) error ??= outcome.error
    }
    return error
  }

  /** The flows of each item that lead where they should not; items without any are left out. */
  async #stale(items: readonly FlowsItem[]): Promise<ReadonlyMap<FlowsItem, readonly Flow[]>> {
    const out = new Map<FlowsItem, Flow[]>()
    const byKey = new Map(items.map((item) => [keyOf(item), item]))
    const local = items.some(({ ip }) => anyAddress.has(ip)) ? await this.#localAddresses() : new Set<string>()
    const memories = Map.groupBy(items, ({ memory, ip }) =>
      memory === 'conntrack' ? `conntrack ${familyOf(ip)}` : Object.values(memory).join(' '),
    )
    for (const of of memories.values()) {
      const { memory } = of[0]!
      const itemOf = (flow: Flow, ip: string): FlowsItem | undefined =>
        byKey.get(keyOf({ kind: 'flows', ...flow, memory, ip, targets: [] }))
      for (const flow of memory === 'conntrack' ? await this.#connections(of) : await this.#elements(memory)) {
        const item = itemOf(flow, flow.ip) ?? (local.has(flow.ip) ? itemOf(flow, familyOf(flow.ip) === 4 ? '0.0.0.0' : '::') : undefined)
        if (!item || item.targets.includes(flow.target)) continue
        const found = out.get(item) ?? []
        found.push(flow)
        out.set(item, found)
      }
    }
    return out
  }

  /** At least the tracked connections that `items`, all of one family, speak of. */
  async #connections(items: readonly FlowsItem[]): Promise<Flow[]> {
    const messages = await this.#socket.dump(dumpConnections({ family: familyOf(items[0]!.ip), protocol: UDP, ...inCommon(items) }))
    const ports = new Set(items.map(({ port }) => port))
    return messages.flatMap((message): Flow[] => {
      const entry = ports.has(dstPortOf(message)) ? decodeConnection(message) : undefined
      // Zones are made by others, for their own.
      if (entry?.zone !== 0 || entry.original.protocol !== UDP) return []
      const { original, reply } = entry
      return [{ protocol: 'udp', ip: original.dst, port: original.dstPort, target: `${reply.src} . ${reply.srcPort}`, entry }]
    })
  }

  async #elements(memory: MapRef): Promise<Flow[]> {
    return (await this.#nft.elements(memory)).map((entry) => {
      const [, ip = '', protocol, port] = entry.key
      return { protocol: protocol as Flow['protocol'], ip, port: Number(port), target: (entry.value ?? []).join(' . '), entry }
    })
  }
}

/** What the kernel can filter by: the address and the port that all of `items` share. */
function inCommon(items: readonly FlowsItem[]): { readonly dst?: string; readonly dstPort?: number } {
  const [{ ip, port }] = items as [FlowsItem]
  return {
    ...(!anyAddress.has(ip) && items.every((item) => item.ip === ip) && { dst: ip }),
    ...(items.every((item) => item.port === port) && { dstPort: port }),
  }
}
