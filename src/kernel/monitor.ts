/**
 * Follows rtnetlink notifications of the agent's namespace: keeps the table of devices current, and tells subscribers what
 * happened to objects in their scope, and who did it.
 *
 * The kernel keeps silent in one case: IPv4 routes through a device that goes down or away vanish without a word. For the
 * devices of a scope the link's own change says it; for any other device that was seen to carry a route of ours (an uplink)
 * the monitor reports an overrun, so that the truth is dumped. So it does when a device that carries routes loses an IPv4 address:
 * with the last one go the routes.
 * @module
 */
import { culpritOf } from '#kernel/culprit.ts'
import { addressItem, linkItem, neighborItem, portItem, routeItem, wishedMetric } from '#kernel/items.ts'
import { LinkTable } from '#kernel/links.ts'
import { NETLINK_ROUTE, NetlinkSocket, type Notification } from '#kernel/socket.ts'
import { type Change, type HostFilter, type HostView, type Item, type Scope, show, type Verb } from '#model/kernel.ts'
import { familyOf } from '#net/ip.ts'
import { type Message, NLM_F_REPLACE } from '#wire/netlink.ts'
import { decodeAddress } from '#wire/rtnetlink/address.ts'
import {
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTNLGRP,
} from '#wire/rtnetlink/constants.ts'
import { decodeLink, dumpLinks, type Link } from '#wire/rtnetlink/link.ts'
import { decodeNeighbor } from '#wire/rtnetlink/neighbor.ts'
import { decodeRoute, RT_TABLE_MAIN } from '#wire/rtnetlink/route.ts'

export interface Subscriber {
  readonly scope: Scope
  emit(change: Change): void
}

export interface HostSubscriber {
  readonly ours: HostFilter
  ring(): void
}

export class Monitor {
  readonly links = new LinkTable()
  readonly #notifications: NetlinkSocket
  readonly #reader: NetlinkSocket
  #subscribers = new Set<Subscriber>()
  #hostSubscribers = new Set<HostSubscriber>()
  /** Devices that were ports of a bridge in scope: a port leaves its bridge before it is deleted. */
  #ports = new Set<number>()
  /** Devices that carry, or carried, routes of ours. */
  #carriers = new Set<number>()
  /** Devices that have, or had, addresses or routes of the host. */
  #ways = new Set<number>()

  private constructor(reader: NetlinkSocket) {
    this.#reader = reader
    this.#notifications = NetlinkSocket.open({ protocol: NETLINK_ROUTE, groups: Object.values(RTNLGRP) })
  }

  /** @param reader  For dumps. */
  static async open(reader: NetlinkSocket): Promise<Monitor> {
    const monitor = new Monitor(reader)
    await monitor.refresh()
    // What was announced meanwhile is still queued: folded in after the dump, each device ends as its last message says.
    monitor.#notifications.listen((notification) => monitor.#hear(notification))
    return monitor
  }

  /** Reads all devices anew. */
  async refresh(): Promise<void> {
    this.links.reset((await this.#reader.dump(dumpLinks)).map(decodeLink))
  }

  subscribe(subscriber: Subscriber): () => void {
    this.#subscribers.add(subscriber)
    for (const link of this.links.all()) if (portItem(link, this.links, subscriber.scope.bridges)) this.#ports.add(link.index)
    return () => this.#subscribers.delete(subscriber)
  }

  /** Rings when something of the host changes that is not the subscriber's own. */
  subscribeHost(subscriber: HostSubscriber): () => void {
    this.#hostSubscribers.add(subscriber)
    return () => this.#hostSubscribers.delete(subscriber)
  }

  /** Tells which devices have addresses and routes of the host. */
  leads({ addresses, routes }: HostView): void {
    const devices = [
      ...addresses.filter(({ cidr }) => !isLinkLocal(cidr)).map(({ dev }) => dev),
      ...routes.filter(({ dst }) => !isLinkLocal(dst)).flatMap(({ hops }) => hops.map(({ dev }) => dev)),
    ]
    for (const dev of new Set(devices)) this.#ways.add(this.links.index(dev) ?? 0)
  }

  /** Tells that `dev` carries a route of ours. */
  carries(dev: string): void {
    const index = this.links.index(dev)
    if (index !== undefined) this.#carriers.add(index)
  }

  close(): Promise<void> {
    return this.#notifications.close()
  }

  #hear(notification: Notification): void {
    if (notification === 'overrun') {
      // Should the list not come, names may be stale until the next one; that the truth must be dumped is told either way.
      void this.refresh().then(
        () => this.#overrun(),
        () => this.#overrun(),
      )
      return
    }
    for (const message of notification) this.#read(message)
  }

  #overrun(): void {
    for (const { emit } of this.#subscribers) emit({ verb: 'overrun' })
    for (const { ring } of this.#hostSubscribers) ring()
  }

  #read(message: Message): void {
    const { type } = message
    if (type === RTM_NEWLINK || type === RTM_DELLINK) this.#readLink(message)
    else if (type === RTM_NEWADDR || type === RTM_DELADDR) this.#readAddress(message)
    else if (type === RTM_NEWROUTE || type === RTM_DELROUTE) this.#readRoute(message)
    else if (type === RTM_NEWNEIGH || type === RTM_DELNEIGH) this.#readNeighbor(message)
  }

  #readAddress(message: Message): void {
    const address = decodeAddress(message)
    this.#tell(message, message.type === RTM_NEWADDR ? 'put' : 'del', ({ links }) => {
      const item = address && addressItem(address, this.links)
      return item && links.includes(item.dev) ? item : undefined
    })
    if (!address || isLinkLocal(address.cidr)) return
    const dev = this.links.name(address.index)
    if (dev !== undefined && message.type === RTM_DELADDR && familyOf(address.cidr) === 4) this.#mayLoseRoutes(address.index, dev)
    this.#tellHost([this.links.get(address.index)])
    this.#ways.add(address.index)
  }

  /** A carrier that no subscriber follows itself: what it carried may be gone. */
  #mayLoseRoutes(index: number, dev: string): void {
    if (this.#carriers.has(index) && ![...this.#subscribers].every(({ scope }) => scope.links.includes(dev))) this.#overrun()
  }

  /** Tells that devices, or what they carry, have changed, to those that they do not belong to. */
  #tellHost(devices: readonly (Link | undefined)[], protocol?: number): void {
    for (const { ours, ring } of this.#hostSubscribers) {
      const isOurs = (link: Link | undefined): boolean =>
        [link?.name, this.links.name(link?.master ?? 0)].some((name) => ours.devices.includes(name ?? ''))
      if (protocol !== ours.routeProtocol && !devices.every(isOurs)) ring()
    }
  }

  #readLink(message: Message): void {
    const step = this.links.fold(message)
    if (!step) return
    const { before, now } = step
    // Only of devices that lead somewhere: those of pods come and go, and are born outside of the bridge.
    const changed = before && (before.up !== now?.up || before.mtu !== now.mtu || before.name !== now.name)
    if (changed && this.#ways.has(before.index)) this.#tellHost([before])
    for (const subscriber of this.#subscribers) {
      this.#emitSteps(message, subscriber, this.#linkItems(before, subscriber.scope), this.#linkItems(now, subscriber.scope))
    }
    if (!before || (now && (now.up || !before.up))) return
    // Down or gone, and with it the routes through it.
    this.#mayLoseRoutes(before.index, before.name)
    if (!now) {
      this.#ports.delete(before.index)
      this.#carriers.delete(before.index)
      this.#ways.delete(before.index)
    }
  }

  /** The link and port items of a device, if it is in scope. */
  #linkItems(link: Link | undefined, scope: Scope): { link?: Item; port?: Item } {
    if (!link) return {}
    const port = portItem(link, this.links, scope.bridges)
    if (port) this.#ports.add(link.index)
    const inScope = scope.links.includes(link.name) || this.#ports.has(link.index)
    const item = inScope ? linkItem(link, this.links) : undefined
    return { ...(item && { link: item }), ...(port && { port }) }
  }

  #emitSteps(message: Message, { emit }: Subscriber, was: Record<string, Item>, is: Record<string, Item>): void {
    const by = culpritOf(message)
    for (const kind of ['port', 'link'] as const) {
      const [before, now] = [was[kind], is[kind]]
      const renamed = before?.kind === 'link' && now?.kind === 'link' && before.name !== now.name
      if (before && (!now || renamed)) emit({ verb: 'del', item: before, ...by })
      if (now && (!before || show(before) !== show(now))) emit({ verb: 'put', item: now, ...by })
    }
  }

  #readRoute(message: Message): void {
    const route = decodeRoute(message)
    if (!route) return
    if (route.table === RT_TABLE_MAIN && !route.cloned && route.type === 'unicast' && !isLinkLocal(route.dst)) {
      this.#tellHost(
        route.hops.map(({ index }) => this.links.get(index)),
        route.protocol,
      )
    }
    this.#tell(message, message.type === RTM_NEWROUTE ? 'put' : 'del', (scope) => {
      const item = routeItem(route, this.links, scope)
      for (const hop of item ? route.hops : []) this.#carriers.add(hop.index)
      return item
    })
    // A foreign route put in the place of another: the one that was there is gone, and this is all that is said of it.
    if (message.type === RTM_NEWROUTE && message.flags & NLM_F_REPLACE && route.table === RT_TABLE_MAIN) {
      this.#tell(message, 'del', (scope) =>
        routeItem(route, this.links, scope)
          ? undefined
          : { kind: 'route', dst: route.dst, ...wishedMetric(route), protocol: scope.routeProtocol },
      )
    }
  }

  #readNeighbor(message: Message): void {
    const neighbor = decodeNeighbor(message)
    const dev = this.links.name(neighbor.index)
    if (dev === undefined) return
    const kept = message.type === RTM_NEWNEIGH && neighbor.permanent
    // What a bridge or an uplink learns comes and goes by the second; entries that can be lost to us are a VXLAN device's.
    if (!kept && this.links.get(neighbor.index)?.kind !== 'vxlan') return
    this.#tell(message, kept ? 'put' : 'del', ({ links }) => {
      if (!links.includes(dev)) return undefined
      // A deletion may come without what it led to; the key needs only the IP, or the MAC.
      const { ip = '', mac = '', fdb } = neighbor
      if (!kept) return fdb ? { kind: 'fdb', dev, mac, vtep: ip } : { kind: 'neighbor', dev, ip, mac }
      return neighborItem(neighbor, this.links)
    })
  }

  #tell(message: Message, verb: Verb, itemOf: (scope: Scope) => Item | undefined): void {
    for (const { scope, emit } of this.#subscribers) {
      const item = itemOf(scope)
      if (item) emit({ verb, item, ...culpritOf(message) })
    }
  }
}

/** IPv6 gives every device an address and a route of fe80::/10 (RFC 4291, 2.5.6): they lead to no node. */
const isLinkLocal = (cidr: string): boolean => /^fe[89ab]/.test(cidr)
