/**
 * ipMasq of the bridge plugin: what a pod sends out of its own subnet leaves with the node's address. The reference plugin has two
 * rules and a chain a pod (pkg/ip/ipmasq_*_linux.go); here a pod is one element of a set, and a subnet one rule:
 *
 *     podmasq (postrouting)    from @podmasq-ipv4, @podmasq-ipv6 → podmasq-out
 *     podmasq-out              within a subnet: as it is; not to multicast: masqueraded
 *
 * The agent's own masquerade (masq.ts) is the cluster's; a network gets this one only if its configuration asks for it.
 * @module
 */
import type { Item, NftElementItem } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { addressOf, canonicalNetwork, familyOf } from '#net/ip.ts'
import { chain, element, families, map, suffixOf, tableItem } from '#plan/table.ts'

const multicast = { ipv4: '224.0.0.0/4', ipv6: 'ff00::/8' } as const

export const POD_MASQ_OWNER = 'podmasq'

/** The subnets that masqueraded pods of `all` live in, each once. */
export const masqSubnets = (all: Iterable<Attachment>): string[] => [
  ...new Set([...all].filter((a) => a.masquerade).flatMap((a) => a.pod.addresses.map((cidr) => canonicalNetwork(cidr)!))),
]

/** What it takes however many pods there are. */
export function podMasqBase(subnets: readonly string[]): Item[] {
  const within = subnets.map((subnet) => {
    const { ip } = families.find(({ suffix }) => suffix === suffixOf(familyOf(subnet)))!
    return `${ip} saddr ${subnet} ${ip} daddr ${subnet} return`
  })
  return [
    tableItem,
    ...families.map(({ suffix, address }) => map(`podmasq-${suffix}`, [address])),
    chain('podmasq-out', [...within, ...families.map(({ ip, suffix }) => `${ip} daddr != ${multicast[suffix]} masquerade`)]),
    chain(
      'podmasq',
      families.map(({ ip, suffix }) => `${ip} saddr @podmasq-${suffix} jump podmasq-out`),
      { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
    ),
  ]
}

/** What it takes for one pod: nothing if its network does not ask for it. */
export const podMasqElements = ({ masquerade, pod }: Attachment): NftElementItem[] =>
  masquerade ? pod.addresses.map((cidr) => element(`podmasq-${suffixOf(familyOf(cidr))}`, [addressOf(cidr)])) : []
