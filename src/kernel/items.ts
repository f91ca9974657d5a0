/**
 * From what the kernel says to the items of the model: one place for dumps and notifications, so that both agree on what is
 * ours and how it reads. Each function answers undefined for what Twill has no word for.
 * @module
 */
import type { LinkTable } from '#kernel/links.ts'
import type { AddressItem, FdbItem, LinkItem, NeighborItem, PortItem, RouteItem, Scope } from '#model/kernel.ts'
import { familyOf } from '#net/ip.ts'
import type { Address } from '#wire/rtnetlink/address.ts'
import type { Link } from '#wire/rtnetlink/link.ts'
import type { Neighbor } from '#wire/rtnetlink/neighbor.ts'
import { type Route, RT_TABLE_MAIN } from '#wire/rtnetlink/route.ts'

/** RTPROT_KERNEL: made by the kernel with an address. */
const KERNEL_PROTOCOL = 2
/** Metric of a route without a wish: IPv4, IPv6 (IP6_RT_PRIO_USER). */
const PLAIN_METRIC = { 4: 0, 6: 1024 } as const

/** The metric as an item has it: absent when it is the plain one. */
export const wishedMetric = ({ dst, metric }: Pick<Route, 'dst' | 'metric'>): { metric?: number } =>
  metric === PLAIN_METRIC[familyOf(dst)] ? {} : { metric }

function typeOf({ kind, loopback }: Link): LinkItem['type'] | undefined {
  if (loopback) return 'loopback'
  return kind === 'vxlan' || kind === 'bridge' || kind === 'veth' ? kind : undefined
}

export function linkItem(link: Link, links: LinkTable): LinkItem | undefined {
  const type = typeOf(link)
  if (type === undefined) return undefined
  const { name, up, mac, mtu, promisc, vxlan } = link
  const vxlanItem = vxlan && { vxlan: { ...vxlan, uplink: links.name(vxlan.uplink) ?? '' } }
  return { kind: 'link', name, type, up, mac, mtu, ...(promisc && { promisc }), ...vxlanItem }
}

/** The device's membership in one of `bridges`. */
export function portItem({ name, master, hairpin, isolated }: Link, links: LinkTable, bridges: readonly string[]): PortItem | undefined {
  const bridge = master === undefined ? undefined : links.name(master)
  if (bridge === undefined || !bridges.includes(bridge)) return undefined
  return { kind: 'port', dev: name, bridge, hairpin: hairpin ?? false, ...(isolated && { isolated }) }
}

/** Not the link-local addresses that IPv6 gives every device, nor what DHCP or a router gave for a time. */
export function addressItem({ index, cidr, broadcast, scope, permanent }: Address, links: LinkTable): AddressItem | undefined {
  const dev = links.name(index)
  if (dev === undefined || !permanent || (familyOf(cidr) === 6 && scope === 'link')) return undefined
  return { kind: 'address', dev, cidr, ...(broadcast !== undefined && { broadcast }) }
}

/** A route of the main table, if it is ours by protocol, or a plain one that is ours by device and not the kernel's own. */
export function routeItem(route: Route, links: LinkTable, scope: Scope): RouteItem | undefined {
  const { dst, table, protocol, type, hops, onlink, scopeLink, cloned } = route
  if (table !== RT_TABLE_MAIN || cloned || type === 'other' || hops.length > 1) return undefined
  const wished = wishedMetric(route)
  const hop = type === 'blackhole' ? undefined : hops[0]
  const dev = hop && links.name(hop.index)
  const byDevice = protocol !== KERNEL_PROTOCOL && wished.metric === undefined && dev !== undefined && scope.routeLinks.includes(dev)
  if (protocol !== scope.routeProtocol && !byDevice) return undefined
  return {
    kind: 'route',
    dst,
    ...(hop?.via !== undefined && { via: hop.via }),
    ...(dev !== undefined && { dev }),
    ...(onlink && { onlink }),
    ...(scopeLink && { scope: 'link' as const }),
    ...(type === 'blackhole' && { type }),
    ...wished,
    protocol,
  }
}

/** A permanent neighbor entry, or a permanent `self` entry of a VXLAN device that leads to a VTEP. */
export function neighborItem({ fdb, index, permanent, self, ip, mac }: Neighbor, links: LinkTable): NeighborItem | FdbItem | undefined {
  const dev = links.name(index)
  if (dev === undefined || ip === undefined || mac === undefined || !permanent) return undefined
  if (!fdb) return { kind: 'neighbor', dev, ip, mac }
  return self && links.get(index)?.kind === 'vxlan' ? { kind: 'fdb', dev, mac, vtep: ip } : undefined
}
