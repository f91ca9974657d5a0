/**
 * Services without iptables: ClusterIP and its ports to one of the ready endpoints. A packet's way through our table:
 *
 *     services-prerouting (pods), services-output (the node itself) → services
 *       service-ipv4    map   address . protocol . port → goto endpoints-N, N = number of endpoints
 *     endpoints-N             numgen random mod N vmap @endpoint-index → goto endpoint-I
 *     endpoints-0             refuses: TCP reset, else ICMP port unreachable
 *     endpoint-I              dnat by map endpoint-I-ipv4: address . protocol . port → endpoint's address . port
 *     services-postrouting    masquerades what would not find its way back
 *
 * So there are chains for each *number* of endpoints, and maps for each *position*, but none for a service: a service is
 * elements only, and a change to it changes those and no rule. (Maps of a service's own make a load quadratic.)
 * Only the first packet of a connection comes this way; conntrack does the rest. A UDP client that keeps its port never makes a
 * second connection, so what conntrack knows of a UDP service is held to its endpoints (FlowsItem).
 * @module
 */
import type { Endpoint, EndpointSlice, Service, ServicePort } from '#model/cluster.ts'
import type { FlowsItem, Item } from '#model/kernel.ts'
import { compareIp, type Family, familyOf } from '#net/ip.ts'
import { chain, element, families, map, suffixOf, tableItem } from '#plan/table.ts'

/** Before the masquerade chain of masq.ts (100): its returns end that chain, not this one. */
const BEFORE_MASQUERADE = 99
const DESTINATION_NAT = -100

/** What services need however many there are. Owner `services`, together with `endpointChains`. */
export function serviceBase(): Item[] {
  const nat = { type: 'nat', policy: 'accept' } as const
  return [
    tableItem,
    ...families.flatMap(({ suffix, address }) => [
      map(`service-${suffix}`, [address, 'inet_proto', 'inet_service'], ['verdict']),
      // source . destination, both the endpoint's . the service's address . protocol . the endpoint's port
      map(`hairpin-${suffix}`, [address, address, address, 'inet_proto', 'inet_service']),
    ]),
    map('endpoint-index', ['integer'], ['verdict']),
    chain('endpoints-0', ['meta l4proto tcp reject with tcp reset', 'reject']),
    chain(
      'services',
      families.map(({ ip, suffix }) => `${ip} daddr . meta l4proto . th dport vmap @service-${suffix}`),
    ),
    chain('services-prerouting', ['jump services'], { ...nat, hook: 'prerouting', priority: DESTINATION_NAT }),
    chain('services-output', ['jump services'], { ...nat, hook: 'output', priority: DESTINATION_NAT }),
    chain(
      'services-postrouting',
      [
        // A pod that reaches itself through a service would get an answer from itself.
        ...families.map(
          ({ ip, suffix }) =>
            `${ip} saddr . ${ip} daddr . ct original ${ip} daddr . meta l4proto . th dport @hairpin-${suffix} masquerade fully-random`,
        ),
        // The node chose its source address for the service's address: the endpoint's node may have no route back to it.
        'ct status dnat fib saddr type local masquerade fully-random',
      ],
      { ...nat, hook: 'postrouting', priority: BEFORE_MASQUERADE },
    ),
  ]
}

/** The chains and maps for services of up to `count` endpoints: the largest `endpointCount` of all services. */
export function endpointChains(count: number): Item[] {
  return Array.from({ length: count }, (_, i) => [
    ...families.map(({ suffix, address }) =>
      map(`endpoint-${i}-${suffix}`, [address, 'inet_proto', 'inet_service'], [address, 'inet_service']),
    ),
    chain(
      `endpoint-${i}`,
      families.map(({ ip, suffix }) => `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @endpoint-${i}-${suffix}`),
    ),
    chain(`endpoints-${i + 1}`, [`numgen random mod ${i + 1} vmap @endpoint-index`]),
    element('endpoint-index', [String(i)], [`goto endpoint-${i}`]),
  ]).flat()
}

/** Elements for one service; its owner is `service NAMESPACE/NAME`.
 * @param slices  The service's own.
 * @param node  Name of this node: an endpoint elsewhere cannot be its own client here. Absent: any endpoint may be. */
export function serviceItems(service: Service, slices: readonly EndpointSlice[], node?: string): Item[] {
  return eachPort(service).flatMap(({ clusterIp, port }) => {
    const family = familyOf(clusterIp)
    const suffix = suffixOf(family)
    const protocol = port.protocol.toLowerCase()
    const key = [clusterIp, protocol, String(port.port)]
    const targets = targetsOf(port, family, slices)
    return [
      element(`service-${suffix}`, key, [`goto endpoints-${targets.length}`]),
      ...targets.map(({ ip, port: to }, i) => element(`endpoint-${i}-${suffix}`, key, [ip, String(to)])),
      ...targets
        .filter(({ nodeName }) => node === undefined || nodeName === undefined || nodeName === node)
        .map(({ ip, port: to }) => element(`hairpin-${suffix}`, [ip, ip, clusterIp, protocol, String(to)])),
      ...(port.protocol === 'UDP' ? [flowsOf(clusterIp, port, slices)] : []),
    ]
  })
}

/** The largest number of endpoints that a port of the service has. */
export function endpointCount(service: Service, slices: readonly EndpointSlice[]): number {
  return Math.max(0, ...eachPort(service).map(({ clusterIp, port }) => targetsOf(port, familyOf(clusterIp), slices).length))
}

const eachPort = ({ type, clusterIPs, ports }: Service): { clusterIp: string; port: ServicePort }[] =>
  type === 'ExternalName' ? [] : clusterIPs.flatMap((clusterIp) => ports.map((port) => ({ clusterIp, port })))

/** Flows that were there before may go on for as long as the endpoint serves, also while it ends. */
function flowsOf(ip: string, port: ServicePort, slices: readonly EndpointSlice[]): FlowsItem {
  const targets = endpointsOf(port, familyOf(ip), slices).filter(({ endpoint }) => endpoint.ready || endpoint.serving)
  const texts = new Set(targets.map((target) => `${target.ip} . ${target.port}`))
  return { kind: 'flows', memory: 'conntrack', protocol: 'udp', ip, port: port.port, targets: [...texts].toSorted() }
}

interface Target {
  readonly ip: string
  readonly port: number
  readonly nodeName: string | undefined
}

/** Where new connections to `port` go: ready endpoints; if there are none, those that end but still serve (KEP-1669). In order of
 * address, so that one state gives one set of elements. */
function targetsOf(port: ServicePort, family: Family, slices: readonly EndpointSlice[]): Target[] {
  const all = endpointsOf(port, family, slices)
  const usable = (when: (endpoint: Endpoint) => boolean): Map<string, Target> =>
    new Map(all.filter(({ endpoint }) => when(endpoint)).map((target) => [`${target.ip} ${target.port}`, target]))
  const ready = usable((endpoint) => endpoint.ready)
  const targets = ready.size > 0 ? ready : usable((endpoint) => endpoint.serving && endpoint.terminating)
  return [...targets.values()].toSorted((a, b) => compareIp(a.ip, b.ip) || a.port - b.port)
}

/** Everything in `slices` that answers for `port`, in whatever state; perhaps twice. */
function endpointsOf(port: ServicePort, family: Family, slices: readonly EndpointSlice[]): (Target & { readonly endpoint: Endpoint })[] {
  return slices
    .filter((slice) => slice.family === family)
    .flatMap((slice) =>
      slice.ports
        .filter(({ name, protocol }) => name === port.name && protocol === port.protocol)
        .flatMap((to) =>
          slice.endpoints.flatMap((endpoint) =>
            endpoint.addresses.slice(0, 1).map((ip) => ({ endpoint, ip, port: to.port, nodeName: endpoint.nodeName })),
          ),
        ),
    )
}
