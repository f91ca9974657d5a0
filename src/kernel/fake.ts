/**
 * A kernel in memory: what the planners and the daemon are tested against. It holds items as the real one would, refuses what
 * the real one refuses, loses what the real one loses (all that stands on a deleted device), and tells watchers so. The
 * contract suite (contract.ts) runs over both.
 * @module
 */
import { kernelError } from '#kernel/errors.ts'
import { changeStream, type Emit } from '#kernel/watch.ts'
import {
  type AddressItem,
  type Change,
  type Culprit,
  type Feature,
  type FlowsItem,
  type HostFilter,
  type HostView,
  type Item,
  type Kernel,
  keyOf,
  type LinkItem,
  type Op,
  type Outcome,
  type Scope,
  show,
  showOp,
} from '#model/kernel.ts'
import { contains, familyOf, parseCidr, parseIp } from '#net/ip.ts'

const KERNEL_PROTOCOL = 2

/** A node with one uplink: eth1, 192.168.10.100/24. */
export const FAKE_HOST: HostView = {
  links: [
    { index: 1, name: 'lo', mtu: 65536, mac: '00:00:00:00:00:00', up: true },
    { index: 2, name: 'eth1', mtu: 1500, mac: '02:00:00:00:0e:01', up: true },
  ],
  addresses: [{ dev: 'eth1', cidr: '192.168.10.100/24', scope: 'global', permanent: true, temporary: false, deprecated: false }],
  routes: [],
}

export class FakeKernel implements Kernel {
  mutations = 0
  features: readonly Feature[] = []
  #host: HostView
  #items = new Map<string, Item>()
  /** Both directions of every veth pair, by key. */
  #peers = new Map<string, string>()
  /** A port's bridge, by the port's name; kept until the device itself is gone, so that watchers see it go. */
  #bridgeOf = new Map<string, string>()
  /** Flows that do not hold, by key: until the next op on them. */
  readonly #stale = new Set<string>()
  #failures: string[] = []
  #watchers = new Set<{ scope: Scope; emit: Emit }>()
  #hostWatchers = new Set<() => void>()
  #macs = 0

  constructor(o: { host?: HostView; items?: readonly Item[] } = {}) {
    this.#host = o.host ?? FAKE_HOST
    for (const item of o.items ?? []) this.#items.set(keyOf(item), item)
  }

  /** The next ops fail, one with each of `codes` (ENOBUFS, EBUSY, …). */
  failNext(...codes: readonly string[]): this {
    this.#failures.push(...codes)
    return this
  }

  /** Everything there is, in scope or not. */
  observe(): Item[] {
    return [...this.#items.values()]
  }

  /** Someone else changes something. */
  meddle(ops: readonly Op[], by?: Culprit): void {
    for (const op of ops) this.#carryOut(op, by)
  }

  /** Datagrams keep `flows` alive that lead elsewhere. */
  outlive(flows: FlowsItem): void {
    this.#stale.add(keyOf(flows))
  }

  /** The kernel drops notifications. */
  overrun(): void {
    for (const { emit } of this.#watchers) emit({ verb: 'overrun' })
  }

  /** Someone else gives the node other links, addresses or routes. */
  rehost(host: HostView): void {
    this.#host = host
    for (const ring of this.#hostWatchers) ring()
  }

  async dump(scope: Scope): Promise<Item[]> {
    return [
      ...this.observe().filter((item) => this.#inScope(item, scope)),
      ...(scope.flows ?? []).filter((flows) => !this.#stale.has(keyOf(flows))),
    ]
  }

  async apply(ops: readonly Op[]): Promise<Outcome[]> {
    return ops.map((op) => {
      this.mutations++
      const code = this.#failures.shift()
      const error = code === undefined ? this.#carryOut(op) : kernelError.ERR_KERNEL_REFUSED({ op: showOp(op), code, reason: '' })
      return { op, ...(error && { error }) }
    })
  }

  watch(scope: Scope, signal: AbortSignal): AsyncIterable<Change> {
    return changeStream(signal, (emit) => {
      const watcher = { scope, emit }
      this.#watchers.add(watcher)
      return [() => void this.#watchers.delete(watcher)]
    })
  }

  async host(): Promise<HostView> {
    return this.#host
  }

  watchHost(_: HostFilter, ring: () => void, signal: AbortSignal): void {
    this.#hostWatchers.add(ring)
    signal.addEventListener('abort', () => this.#hostWatchers.delete(ring), { once: true })
  }

  /** The longest match among networks the host is attached to and routes. */
  async routeTo(ip: string): ReturnType<Kernel['routeTo']> {
    const target = parseIp(ip)!
    const attached = this.#host.addresses.map(({ dev, cidr }) => ({ dst: cidr, dev, via: undefined }))
    const routed = this.#host.routes.flatMap(({ dst, hops }) => hops.slice(0, 1).map(({ dev, via }) => ({ dst, dev, via })))
    const ours = this.observe().flatMap((i) => (i.kind === 'route' && i.dev !== undefined ? [{ dst: i.dst, dev: i.dev, via: i.via }] : []))
    const best = [...attached, ...routed, ...ours]
      .map((way) => ({ ...way, cidr: parseCidr(way.dst)! }))
      .filter(({ cidr }) => contains(cidr, target))
      .toSorted((a, b) => b.cidr.prefix - a.cidr.prefix)[0]
    return best && { dev: best.dev, ...(best.via !== undefined && { via: best.via }) }
  }

  async close(): Promise<void> {}

  #carryOut(op: Op, by?: Culprit): Error | undefined {
    const { owner: _, ...bare } = op.item
    const item = bare as Item
    if (item.kind === 'flows') {
      this.#stale.delete(keyOf(item))
      return undefined
    }
    if (op.verb === 'del') {
      if (item.kind === 'link') this.#deleteLink(keyOf(item), by)
      else this.#forgetWhole(item, by)
      if (item.kind === 'address') this.#disableIp(item, by)
      return undefined
    }
    const missing = neededDevices(item).find((name) => !this.#hasDevice(name, item.netns))
    if (missing !== undefined) return kernelError.ERR_DEVICE_MISSING({ op: showOp(op), dev: missing })
    if (item.kind === 'link') return this.#putLink(op, item, by)
    this.#hold(item, by)
    if (item.kind === 'port') {
      this.#bridgeOf.set(item.dev, item.bridge)
      this.#tell('put', this.#link(item.dev, undefined)!, by) // the device is in scope from now on
    }
    return undefined
  }

  /** Without an IPv4 address a device has neither IPv4 neighbors nor, and of this the kernel says nothing, IPv4 routes. */
  #disableIp({ dev, netns, cidr }: AddressItem, by: Culprit | undefined): void {
    const on = [...this.#items].filter(([, item]) => 'dev' in item && item.dev === dev && item.netns === netns)
    if (familyOf(cidr) === 6 || on.some(([, item]) => item.kind === 'address' && familyOf(item.cidr) === 4)) return
    for (const [key, item] of on) {
      if (item.kind === 'route' && familyOf(item.dst) === 4) this.#items.delete(key)
      if (item.kind === 'neighbor' && familyOf(item.ip) === 4) this.#forget(key, by)
    }
  }

  #hasDevice(name: string, netns: string | undefined): boolean {
    return this.#link(name, netns) !== undefined || (netns === undefined && this.#host.links.some((link) => link.name === name))
  }

  #link(name: string, netns: string | undefined): LinkItem | undefined {
    const found = this.#items.get(keyOf({ kind: 'link', name, type: 'veth', up: true, ...(netns !== undefined && { netns }) }))
    return found?.kind === 'link' ? found : undefined
  }

  #putLink(op: Op, { peer, ...item }: LinkItem, by: Culprit | undefined): Error | undefined {
    const key = keyOf(item)
    const before = this.#link(item.name, item.netns)
    if (before && before.type !== item.type) {
      return kernelError.ERR_DEVICE_FOREIGN({ name: item.name, found: before.type, wanted: item.type })
    }
    if (!before && item.type === 'veth' && !peer) return kernelError.ERR_DEVICE_MISSING({ op: showOp(op), dev: item.name })
    const rest = { mac: before?.mac ?? this.#mac(), mtu: before?.mtu ?? 1500 }
    if (before && JSON.stringify(before.vxlan) !== JSON.stringify(item.vxlan)) this.#deleteLink(key, by)
    if (peer && !before) {
      const { name, mac = this.#mac(), mtu = 1500, netns } = peer
      const other: LinkItem = { kind: 'link', name, type: 'veth', up: false, mac, mtu, ...(netns !== undefined && { netns }) }
      if (this.#items.has(keyOf(other))) return kernelError.ERR_NAME_TAKEN({ op: showOp(op) })
      this.#peers.set(key, keyOf(other)).set(keyOf(other), key)
      this.#hold(other, by)
    }
    this.#hold({ ...rest, ...item }, by)
    if (before && item.mac !== undefined && item.mac !== before.mac) this.#forgetOn(item, by, ({ kind }) => kind === 'neighbor')
    // The kernel drops the routes of a device that goes down, and says nothing.
    if (!item.up)
      for (const [k, i] of this.#items) if (i.kind === 'route' && i.dev === item.name && i.netns === item.netns) this.#items.delete(k)
    return undefined
  }

  #mac(): string {
    return `02:00:00:00:ff:${(this.#macs++ & 0xff).toString(16).padStart(2, '0')}`
  }

  #deleteLink(key: string, by: Culprit | undefined): void {
    const link = this.#items.get(key)
    if (link?.kind !== 'link') return
    this.#forgetOn(link, by, () => true)
    this.#forget(key, by)
    this.#bridgeOf.delete(link.name)
    const peer = this.#peers.get(key)
    this.#peers.delete(key)
    if (peer !== undefined) this.#deleteLink(peer, by)
  }

  /** What stands on a device, its ports included. */
  #forgetOn({ name, netns }: LinkItem, by: Culprit | undefined, which: (item: Item) => boolean): void {
    for (const [key, item] of [...this.#items]) {
      const stands = ('dev' in item && item.dev === name) || (item.kind === 'port' && item.bridge === name)
      if (stands && item.netns === netns && which(item)) this.#forget(key, by)
    }
  }

  /** Deletes an object and what it holds: a table's content, a map's elements. */
  #forgetWhole(item: Item, by: Culprit | undefined): void {
    for (const [key, other] of [...this.#items]) {
      const inTable = item.kind === 'nft-table' && 'table' in other && other.table === item.table && other.family === item.family
      const inMap = item.kind === 'nft-map' && other.kind === 'nft-element' && other.map === item.name && other.table === item.table
      if (inTable || inMap) this.#forget(key, by)
    }
    this.#forget(keyOf(item), by)
    if (item.kind === 'port') this.#bridgeOf.delete(item.dev)
  }

  #hold(item: Item, by: Culprit | undefined): void {
    const before = this.#items.get(keyOf(item))
    this.#items.set(keyOf(item), item)
    if (!before || show(before) !== show(item)) this.#tell('put', item, by)
  }

  #forget(key: string, by: Culprit | undefined): void {
    const item = this.#items.get(key)
    if (!item) return
    const told = [...this.#watchers].filter(({ scope }) => this.#inScope(item, scope))
    this.#items.delete(key)
    for (const { emit } of told) emit({ verb: 'del', item, ...(by && { by }) })
  }

  #tell(verb: 'put', item: Item, by: Culprit | undefined): void {
    for (const { scope, emit } of this.#watchers) if (this.#inScope(item, scope)) emit({ verb, item, ...(by && { by }) })
  }

  #inScope(item: Item, scope: Scope): boolean {
    if (item.netns !== undefined) return false
    switch (item.kind) {
      case 'link':
        return scope.links.includes(item.name) || scope.bridges.includes(this.#bridgeOf.get(item.name) ?? '')
      case 'port':
        return scope.bridges.includes(item.bridge)
      case 'address':
      case 'neighbor':
      case 'fdb':
        return scope.links.includes(item.dev)
      case 'route':
        return (
          item.protocol === scope.routeProtocol ||
          (item.protocol !== KERNEL_PROTOCOL && item.dev !== undefined && scope.routeLinks.includes(item.dev))
        )
      case 'sysctl':
        return scope.sysctls.includes(item.path)
      case 'file':
        return scope.files.includes(item.path)
      case 'flows':
        return false // they are asked for, not found
      default:
        return scope.nftTables.some(({ family, table }) => family === item.family && table === item.table)
    }
  }
}

/** Devices that must be there before the item can be. */
function neededDevices(item: Item): string[] {
  switch (item.kind) {
    case 'link':
      return item.vxlan ? [item.vxlan.uplink] : []
    case 'port':
      return [item.dev, item.bridge]
    case 'address':
    case 'neighbor':
    case 'fdb':
      return [item.dev]
    case 'route':
      return item.dev === undefined ? [] : [item.dev]
    default:
      return []
  }
}
