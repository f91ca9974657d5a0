/**
 * Flows: what connection tracking knows of UDP destinations, held to where it may lead. One list a family answers for all items
 * asked about at once; the kernel filters it by what they have in common, so for one item it gives that item's flows alone.
 * @module
 */
import { kernelError } from '#kernel/errors.ts'
import { refusalOf } from '#kernel/refusal.ts'
import type { NetlinkSocket } from '#kernel/socket.ts'
import { type FlowsItem, keyOf, type Op, showOp } from '#model/kernel.ts'
import { type Family, familyOf } from '#net/ip.ts'
import { type Connection, decodeConnection, deleteConnection, dumpConnections } from '#wire/conntrack/messages.ts'

const UDP = 17
/** Deletions in one send. */
const BATCH = 500
const anyAddress = new Set(['0.0.0.0', '::'])

export class Conntrack {
  readonly #socket: NetlinkSocket
  readonly #localAddresses: () => Promise<ReadonlySet<string>>
  readonly #count: (messages: number) => void

  /** @param socket  Of protocol NETLINK_NETFILTER.
   * @param localAddresses  Every address of the node. */
  constructor(socket: NetlinkSocket, localAddresses: () => Promise<ReadonlySet<string>>, count: (messages: number) => void) {
    this.#socket = socket
    this.#localAddresses = localAddresses
    this.#count = count
  }

  /** Those of `items` that hold. None if connections cannot be listed: the op that follows says why. */
  async observe(items: readonly FlowsItem[]): Promise<FlowsItem[]> {
    const stale = await this.#stale(items).catch(() => undefined)
    return stale ? items.filter((item) => !stale.has(item)) : []
  }

  /** Deletes the flows that lead elsewhere. One error (or undefined) an op, in order. */
  async apply(ops: readonly Op[]): Promise<(Error | undefined)[]> {
    const wanted = ops.map(({ verb, item }) => (verb === 'put' ? (item as FlowsItem) : { ...(item as FlowsItem), targets: [] }))
    let stale: ReadonlyMap<FlowsItem, readonly Connection[]>
    try {
      stale = await this.#stale(wanted)
    } catch (error) {
      return ops.map((op) => kernelError.ERR_FEATURE_MISSING({ op: showOp(op), module: 'nf_conntrack_netlink' }, error))
    }
    const errors: (Error | undefined)[] = []
    for (const [i, item] of wanted.entries()) errors.push(await this.#delete(ops[i]!, stale.get(item) ?? []))
    return errors
  }

  async #delete({ item }: Op, connections: readonly Connection[]): Promise<Error | undefined> {
    let error: Error | undefined
    for (let at = 0; at < connections.length; at += BATCH) {
      const requests = connections.slice(at, at + BATCH).map(deleteConnection)
      this.#count(requests.length)
      // What has gone by itself in the meantime is deleted: refusalOf knows that of a `del`.
      for (const ack of await this.#socket.request(requests)) error ??= refusalOf({ verb: 'del', item }, ack)
    }
    return error
  }

  /** The connections of each item that lead where they should not; items without any are left out. */
  async #stale(items: readonly FlowsItem[]): Promise<ReadonlyMap<FlowsItem, readonly Connection[]>> {
    const out = new Map<FlowsItem, Connection[]>()
    const byKey = new Map(items.map((item) => [keyOf(item), item]))
    const local = items.some(({ ip }) => anyAddress.has(ip)) ? await this.#localAddresses() : new Set<string>()
    for (const [family, of] of Map.groupBy(items, ({ ip }) => familyOf(ip))) {
      for (const message of await this.#socket.dump(dumpConnections({ family, protocol: UDP, ...inCommon(of) }))) {
        const connection = decodeConnection(message)
        if (connection?.zone !== 0 || connection.original.protocol !== UDP) continue
        const { dst, dstPort } = connection.original
        const item = byKey.get(flowsKey(dst, dstPort)) ?? (local.has(dst) ? byKey.get(flowsKey(any(family), dstPort)) : undefined)
        if (!item || item.targets.includes(`${connection.reply.src} . ${connection.reply.srcPort}`)) continue
        const found = out.get(item) ?? []
        found.push(connection)
        out.set(item, found)
      }
    }
    return out
  }
}

const any = (family: Family): string => (family === 4 ? '0.0.0.0' : '::')
const flowsKey = (ip: string, port: number): string => keyOf({ kind: 'flows', protocol: 'udp', ip, port, targets: [] })

/** What the kernel can filter by: the address and the port that all of `items` share. */
function inCommon(items: readonly FlowsItem[]): { readonly dst?: string; readonly dstPort?: number } {
  const [{ ip, port }] = items as [FlowsItem]
  return {
    ...(!anyAddress.has(ip) && items.every((item) => item.ip === ip) && { dst: ip }),
    ...(items.every((item) => item.port === port) && { dstPort: port }),
  }
}
