/**
 * Which interface carries traffic between nodes, by Flannel's rules: each --iface, then each --iface-regex, then
 * --iface-can-reach; the first that matches wins. With none of them: the interface that holds --public-ip, else the default route's.
 * Two things are better here: a multipath default route gives its first hop, and a --public-ip that no interface holds (the node is
 * behind NAT) is announced as it is, while packets leave from the default route's interface.
 * @module
 */
import type { HostAddress, HostLink, HostView } from '#model/kernel.ts'
import { addressOf, canonicalIp, type Family, familyOf } from '#net/ip.ts'

export interface InterfaceWish {
  readonly family: Family
  readonly iface: readonly string[]
  readonly regex: readonly RegExp[]
  /** --iface-can-reach with what the route lookup gave. */
  readonly canReach?: { readonly target: string; readonly dev?: string | undefined; readonly src?: string | undefined }
  /** --public-ip, or the annotation node-public-ip: an address, or empty. */
  readonly publicIp: string
}

/** The interface of the underlay. `mtu` is its own, in bytes. */
export interface Uplink {
  readonly name: string
  readonly mtu: number
  /** The node's own address on it: outer source of tunnels. */
  readonly address: string
  /** What peers are told. */
  readonly publicIp: string
  /** Why this one, for people. */
  readonly why: string
}

export interface InterfaceChoice {
  readonly uplink?: Uplink
  /** Every wish that found nothing, in order, with the reason. */
  readonly misses: readonly string[]
}

interface Found {
  readonly link: HostLink
  readonly address?: string
  readonly why: string
}

/** Chooses, or says for each wish why it found nothing. */
export function chooseInterface(wish: InterfaceWish, host: HostView): InterfaceChoice {
  const misses: string[] = []
  for (const found of candidates(wish, host)) {
    if (typeof found === 'string') {
      misses.push(found)
      continue
    }
    const address = found.address ?? usableAddresses(host, found.link.name, wish.family)[0]
    if (address === undefined) misses.push(`${found.link.name} (${found.why}) has no usable IPv${wish.family} address`)
    else if (found.link.mtu === 0) misses.push(`${found.link.name} (${found.why}) has no MTU`)
    else {
      const { name, mtu } = found.link
      return { uplink: { name, mtu, address, publicIp: wish.publicIp || address, why: found.why }, misses }
    }
  }
  return { misses }
}

function* candidates(wish: InterfaceWish, host: HostView): Iterable<Found | string> {
  const asked = wish.iface.length > 0 || wish.regex.length > 0 || wish.canReach !== undefined
  for (const value of wish.iface) yield byNameOrIp(value, `--iface=${value}`, host)
  for (const regex of wish.regex) yield byRegex(regex, wish.family, host)
  if (wish.canReach) yield byReach(wish.canReach, host)
  if (asked) return
  if (wish.publicIp) yield byNameOrIp(wish.publicIp, `it holds the public IP ${wish.publicIp}`, host)
  yield byDefaultRoute(wish.family, host)
}

function byNameOrIp(value: string, why: string, host: HostView): Found | string {
  const ip = canonicalIp(value)
  const name = ip === undefined ? value : host.addresses.find((a) => addressOf(a.cidr) === ip)?.dev
  const link = host.links.find((l) => l.name === name)
  if (link) return { link, why, ...(ip !== undefined && { address: ip }) }
  return ip === undefined ? `no interface is named ${value}` : `no interface has the address ${ip}`
}

function byRegex(regex: RegExp, family: Family, host: HostView): Found | string {
  const why = `--iface-regex=${regex.source}`
  const links = host.links.toSorted((a, b) => a.index - b.index)
  for (const link of links) {
    const address = usableAddresses(host, link.name, family).find((ip) => regex.test(ip))
    if (address !== undefined) return { link, address, why }
  }
  const named = links.find((link) => regex.test(link.name))
  if (named) return { link: named, why }
  const all = links.map((link) => `${link.name}:[${usableAddresses(host, link.name, family).join(' ')}]`)
  return `no address and no name matches ${regex.source} among ${all.join(', ')}`
}

function byReach(reach: NonNullable<InterfaceWish['canReach']>, host: HostView): Found | string {
  const link = host.links.find((l) => l.name === reach.dev)
  if (!link) return `no route leads to ${reach.target}`
  return { link, why: `the route to ${reach.target} uses it`, ...(reach.src !== undefined && { address: reach.src }) }
}

function byDefaultRoute(family: Family, host: HostView): Found | string {
  const dst = family === 4 ? '0.0.0.0/0' : '::/0'
  const [route] = host.routes.filter((r) => r.dst === dst).toSorted((a, b) => a.metric - b.metric)
  const dev = route?.hops[0]?.dev
  const link = host.links.find((l) => l.name === dev)
  return link ? { link, why: 'the default route uses it' } : `there is no IPv${family} default route`
}

/** Addresses of `dev` that can be announced, best first: global before link-local, permanent before leased, never temporary first. */
export function usableAddresses(host: HostView, dev: string, family: Family): string[] {
  const rank = (a: HostAddress): number => (a.scope === 'link' ? 4 : 0) + (a.permanent ? 0 : 2) + (a.temporary ? 1 : 0)
  return host.addresses
    .filter((a) => a.dev === dev && a.scope !== 'host' && !a.deprecated && familyOf(a.cidr) === family)
    .toSorted((a, b) => rank(a) - rank(b))
    .map((a) => addressOf(a.cidr))
}

/** Other interfaces with an address of their own: what --iface could name instead of `chosen`. Pod devices are left out. */
export function alternatives(host: HostView, chosen: string, family: Family): { readonly dev: string; readonly address: string }[] {
  return host.links
    .filter((link) => link.name !== chosen && link.up && !['bridge', 'vxlan'].includes(link.kind ?? ''))
    .flatMap((link) => {
      const address = usableAddresses(host, link.name, family)[0]
      return address === undefined ? [] : [{ dev: link.name, address }]
    })
}
