/**
 * Services without iptables: addresses and node ports, each to one of its endpoints. A packet's way through our table:
 *
 *     services-prerouting (all others), services-output (the node itself) → services
 *       affinity-ipv4    map   client . address . protocol . port : the endpoint that the client had before        dnat
 *                        (asked for services that have affinity: sets affinity-SECONDS-ipv4, affinity-nodeports)
 *       service-ipv4     map   address . protocol . port → goto endpoints-N, N = number of endpoints
 *       nodeport-ipv4    map             protocol . port → the same, if the destination is an address of the node
 *     endpoints-N              numgen random mod N vmap @endpoint-index → goto endpoint-I
 *     endpoints-0              refuses: TCP reset, else ICMP port unreachable
 *     endpoint-I               dnat by maps endpoint-I-ipv4 and nodeport-I-ipv4: the same keys → endpoint's address . port
 *     services-postrouting     masquerades what would not find its way back
 *     affinity (from there, and from services-input for endpoints on the node itself) remembers where a client went
 *
 * So there are chains for each *number* of endpoints, and maps for each *position*, but none for a service: a service is
 * elements only (service.ts), and a change to it changes those and no rule. (Maps of a service's own make a load quadratic.)
 * Only the first packet of a connection comes this way; conntrack does the rest. A UDP client that keeps its port never makes a
 * second connection, so what conntrack knows of a UDP service is held to its endpoints (FlowsItem), and what affinity knows as well.
 * @module
 */
import { formatDuration } from '#base/duration.ts'
import type { Item, MapRef } from '#model/kernel.ts'
import type { Family } from '#net/ip.ts'
import { chain, element, families, map, suffixOf, tableItem, twillTable } from '#plan/table.ts'

/** Before the masquerade chain of masq.ts (100): its returns end that chain, not this one. */
const BEFORE_MASQUERADE = 99
const DESTINATION_NAT = -100
/** kube-proxy's masquerade bit; it means the same here. */
const MARK = '0x00004000'
/** Clients and service ports remembered at once; further ones find an endpoint by chance each time. */
const AFFINITY_SIZE = 262_144

/** A kind of session affinity: services of one family and one timeout. */
export interface Affinity {
  readonly family: Family
  readonly seconds: number
}

/** The memory of session affinity of one family: which endpoint a client of a service was given. */
export const affinityMemory = (family: Family): MapRef => ({ ...twillTable, map: `affinity-${suffixOf(family)}` })

/** What services need however many there are. Owner `services`, together with `endpointChains`.
 * @param affinities  Every one that a service has. */
export function serviceBase(affinities: readonly Affinity[] = []): Item[] {
  const nat = { type: 'nat', policy: 'accept' } as const
  return [
    tableItem,
    ...families.flatMap(({ suffix, address }) => [
      map(`service-${suffix}`, [address, 'inet_proto', 'inet_service'], ['verdict']),
      map(`nodeport-${suffix}`, ['inet_proto', 'inet_service'], ['verdict']),
      // source . destination, both the endpoint's . the service's address . protocol . the endpoint's port; a node port has no address
      map(`hairpin-${suffix}`, [address, address, address, 'inet_proto', 'inet_service']),
      map(`hairpin-nodeport-${suffix}`, [address, address, 'inet_proto', 'inet_service']),
    ]),
    map('nodeport-masquerade', ['inet_proto', 'inet_service']),
    map('endpoint-index', ['integer'], ['verdict']),
    chain('endpoints-0', ['meta l4proto tcp reject with tcp reset', 'reject']),
    chain('nodeports', [
      'ip daddr 127.0.0.0/8 return',
      'ip6 daddr ::1 return',
      ...families.map(({ suffix }) => `meta nfproto ${suffix} meta l4proto . th dport vmap @nodeport-${suffix}`),
    ]),
    chain('services', [
      `meta l4proto . th dport @nodeport-masquerade fib daddr type local meta mark set meta mark | ${MARK}`,
      ...recallRules(affinities),
      ...families.map(({ ip, suffix }) => `${ip} daddr . meta l4proto . th dport vmap @service-${suffix}`),
      'fib daddr type local jump nodeports',
    ]),
    chain('services-prerouting', ['jump services'], { ...nat, hook: 'prerouting', priority: DESTINATION_NAT }),
    chain('services-output', ['jump services'], { ...nat, hook: 'output', priority: DESTINATION_NAT }),
    chain(
      'services-postrouting',
      [
        ...(affinities.length === 0 ? [] : ['jump affinity']),
        // A pod that reaches itself through a service would get an answer from itself.
        ...families.flatMap(({ ip, suffix }) => [
          `${ip} saddr . ${ip} daddr . ct original ${ip} daddr . meta l4proto . th dport @hairpin-${suffix} masquerade fully-random`,
          `ct status dnat ${ip} saddr . ${ip} daddr . meta l4proto . th dport @hairpin-nodeport-${suffix} masquerade fully-random`,
        ]),
        // The endpoint of a node port would answer past this node, which the client has never heard of.
        `meta mark & ${MARK} == ${MARK} ct status dnat masquerade fully-random`,
        // The node chose its source address for the service's address: the endpoint's node may have no route back to it.
        'ct status dnat fib saddr type local masquerade fully-random',
      ],
      { ...nat, hook: 'postrouting', priority: BEFORE_MASQUERADE },
    ),
    ...(affinities.length === 0 ? [] : affinityItems(affinities)),
  ]
}

/**
 * Session affinity, on the connection's first packet: it has its endpoint by now, and still its client's address. One rule a protocol,
 * because nft reads `proto-dst` back only where it knows the protocol. (What it lists of IPv6 it cannot read back: nft 1.0 runs out
 * of registers.)
 */
function affinityItems(affinities: readonly Affinity[]): Item[] {
  const sorted = inOrder(affinities)
  return [
    ...familiesOf(affinities).map(({ suffix, address }) => ({
      ...map(`affinity-${suffix}`, [address, address, 'inet_proto', 'inet_service'], [address, 'inet_service']),
      dynamic: { size: AFFINITY_SIZE },
    })),
    map('affinity-nodeports', ['inet_proto', 'inet_service']),
    ...sorted.flatMap(({ family, seconds }) => {
      const { suffix, address } = wordsOf(family)
      return [
        map(`affinity-${seconds}-${suffix}`, [address, 'inet_proto', 'inet_service']),
        // The port alone does not say that a node port was meant: with the endpoint it does.
        map(`affinity-nodeport-${seconds}-${suffix}`, [address, 'inet_service', 'inet_proto', 'inet_service']),
      ]
    }),
    chain(
      'affinity',
      sorted.flatMap(({ family, seconds }) => {
        const { ip, suffix } = wordsOf(family)
        const asked = `ct original ${ip} daddr . meta l4proto . ct original proto-dst`
        const given = `${ip} daddr . ct reply proto-src`
        const remember = `update @affinity-${suffix} { ${ip} saddr . ${asked} timeout ${formatDuration(seconds)} : ${given} }`
        return ['tcp', 'udp', 'sctp'].flatMap((protocol) => [
          `meta l4proto ${protocol} ${asked} @affinity-${seconds}-${suffix} ${remember}`,
          `meta l4proto ${protocol} ${given} . meta l4proto . ct original proto-dst @affinity-nodeport-${seconds}-${suffix} ${remember}`,
        ])
      }),
    ),
    chain('services-input', ['jump affinity'], { type: 'nat', policy: 'accept', hook: 'input', priority: BEFORE_MASQUERADE }),
  ]
}

/** Asks the memory, for what has affinity now: what is remembered of a service that is gone leads nobody anywhere. */
function recallRules(affinities: readonly Affinity[]): string[] {
  const recall = (family: Family): string => {
    const { ip, suffix } = wordsOf(family)
    return `dnat ${ip} to ${ip} saddr . ${ip} daddr . meta l4proto . th dport map @affinity-${suffix}`
  }
  return [
    ...inOrder(affinities).map(({ family, seconds }) => {
      const { ip, suffix } = wordsOf(family)
      return `${ip} daddr . meta l4proto . th dport @affinity-${seconds}-${suffix} ${recall(family)}`
    }),
    ...[...new Set(inOrder(affinities).map(({ family }) => family))].map(
      (family) => `meta l4proto . th dport @affinity-nodeports fib daddr type local ${recall(family)}`,
    ),
  ]
}

const inOrder = (affinities: readonly Affinity[]): Affinity[] => affinities.toSorted((a, b) => a.family - b.family || a.seconds - b.seconds)
const wordsOf = (family: Family): (typeof families)[number] => families[family === 4 ? 0 : 1]
const familiesOf = (affinities: readonly Affinity[]): (typeof families)[number][] =>
  [...new Set(affinities.map(({ family }) => family))].toSorted().map(wordsOf)

/** The chains and maps for services of up to `count` endpoints: the largest `endpointCount` of all services. */
export function endpointChains(count: number): Item[] {
  return Array.from({ length: count }, (_, i) => [
    ...families.flatMap(({ suffix, address }) => [
      map(`endpoint-${i}-${suffix}`, [address, 'inet_proto', 'inet_service'], [address, 'inet_service']),
      map(`nodeport-${i}-${suffix}`, ['inet_proto', 'inet_service'], [address, 'inet_service']),
    ]),
    chain(
      `endpoint-${i}`,
      families.flatMap(({ ip, suffix }) => [
        `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @endpoint-${i}-${suffix}`,
        `meta nfproto ${suffix} dnat ${ip} to meta l4proto . th dport map @nodeport-${i}-${suffix}`,
      ]),
    ),
    chain(`endpoints-${i + 1}`, [`numgen random mod ${i + 1} vmap @endpoint-index`]),
    element('endpoint-index', [String(i)], [`goto endpoint-${i}`]),
  ]).flat()
}
