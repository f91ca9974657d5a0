/** Which way packets leave the node: a lookup in routes that were read once, so that asking for each of 5,000 peers reads nothing. */
import type { HostRoute } from '#model/kernel.ts'
import { canonicalNetwork, contains, parseCidr, parseIp, prefixOf } from '#net/ip.ts'

/** The next step towards an address. */
export interface Way {
  readonly dev: string
  /** The router in between; absent where the address is on link. */
  readonly via?: string
}

/** Routes that can lead to a node: those of the pod network lead to pods. */
export function underlayRoutes(routes: readonly HostRoute[], network: string): HostRoute[] {
  const pods = parseCidr(network)!
  return routes.filter(({ dst }) => !contains(pods, parseCidr(dst)!))
}

/**
 * A lookup by longest prefix, then lowest metric. A multipath route with a router among its hops is one by router: the way of a
 * peer's packets must not depend on a hash.
 */
export function waysOf(routes: readonly HostRoute[]): (ip: string) => Way | undefined {
  const byNetwork = new Map<string, HostRoute>()
  for (const route of routes) {
    const other = byNetwork.get(route.dst)
    if (!other || route.metric < other.metric) byNetwork.set(route.dst, route)
  }
  const prefixes = [...new Set([...byNetwork.keys()].map(prefixOf))].toSorted((a, b) => b - a)
  return (ip) => {
    if (!parseIp(ip)) return undefined
    for (const prefix of prefixes) {
      const route = byNetwork.get(canonicalNetwork(`${ip}/${prefix}`) ?? '')
      if (route) return wayBy(route)
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
