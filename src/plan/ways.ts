/** Which way packets leave the node: a lookup in routes that were read once, so that asking for each of 5,000 peers reads nothing. */
import type { HostRoute, HostView } from '#model/kernel.ts'
import { addressOf, canonicalNetwork, contains, isSubnetBroadcast, parseCidr, parseIp, prefixOf } from '#net/ip.ts'

/** The next step towards an address. */
export interface Way {
  readonly dev: string
  /** The router in between; absent where the address is on link. */
  readonly via?: string
  /** The address is the node's own: nothing leaves. */
  readonly local?: true
  /** The address is that of all hosts on the link: nobody can be reached by it. */
  readonly broadcast?: true
}

/** What ways are found from. */
export interface Underlay {
  readonly routes: readonly HostRoute[]
  /** The node's own addresses. */
  readonly addresses: readonly string[]
}

/** The part of the host that leads to nodes: what lies in the pod network leads to pods. */
export function underlayOf({ routes, addresses }: Pick<HostView, 'routes' | 'addresses'>, network: string): Underlay {
  const pods = parseCidr(network)!
  return {
    routes: routes.filter(({ dst }) => !contains(pods, parseCidr(dst)!)),
    addresses: addresses.map(({ cidr }) => addressOf(cidr)).filter((ip) => !contains(pods, parseIp(ip)!)),
  }
}

/** The device of a way that leads to a neighbor. */
export const deviceOnLink = (way: Way | undefined): string | undefined =>
  way === undefined || way.via !== undefined || way.local || way.broadcast ? undefined : way.dev

/**
 * A lookup by longest prefix, then lowest metric. A multipath route with a router among its hops is one by router: the way of a
 * peer's packets must not depend on a hash.
 */
export function waysOf({ routes, addresses }: Underlay): (ip: string) => Way | undefined {
  const own = new Set(addresses)
  const byNetwork = new Map<string, HostRoute>()
  for (const route of routes) {
    const other = byNetwork.get(route.dst)
    if (!other || route.metric < other.metric) byNetwork.set(route.dst, route)
  }
  const prefixes = [...new Set([...byNetwork.keys()].map(prefixOf))].toSorted((a, b) => b - a)
  return (ip) => {
    if (own.has(ip)) return { dev: 'lo', local: true }
    const parsed = parseIp(ip)
    if (!parsed) return undefined
    for (const prefix of prefixes) {
      const route = byNetwork.get(canonicalNetwork(`${ip}/${prefix}`) ?? '')
      if (!route) continue
      const way = wayBy(route)
      return way && way.via === undefined && isSubnetBroadcast(parseCidr(route.dst)!, parsed) ? { ...way, broadcast: true } : way
    }
    return undefined
  }
}

function wayBy({ hops }: HostRoute): Way | undefined {
  const [hop] = hops
  if (!hop) return undefined
  const via = hops.find((one) => one.via !== undefined)?.via
  return via === undefined ? { dev: hop.dev } : { dev: hop.dev, via }
}
