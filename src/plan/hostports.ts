/**
 * hostPorts: connections to a port of the node itself go to a pod. A packet's way through our table:
 *
 *     hostports-prerouting (all others), hostports-output (the node), if the destination is the node's → hostports
 *       hostport-ipv4      address . protocol . port → goto hostport-near | hostport-all | hostport-dnat      mappings with a hostIP
 *       hostport-any-ipv4            protocol . port → the same                                               those without
 *     hostport-near              marks what comes from the pods' own subnets and from 127.0.0.1
 *     hostport-all               marks everything (masqAll)
 *     hostport-dnat              dnat by hostport-to-ipv4 and hostport-any-to-ipv4: the same keys → pod's address . port
 *     hostports-postrouting      masquerades what is marked: its answers would not come back this way otherwise
 *     hostports-input            keeps the node's loopback to itself: localhost → hostPort needs route_localnet, which opens it
 *
 * A UDP client that keeps its port never makes a second connection: what conntrack knows of a UDP mapping is held to it (FlowsItem).
 * The rules are the same however many mappings there are: a mapping is elements. Mark and conditions are the reference portmap's
 * (plugins/meta/portmap); it tests the pod's subnet for each container, here the subnets of all of them are one set.
 * hostPorts come after services (priority -100; CVE-2019-9946): a hostPort must not catch what is meant for a service.
 * @module
 */
import type { FlowsItem, Item, NftElementItem, NftMapItem, SysctlItem } from '#model/kernel.ts'
import type { PodPorts, PortMapping } from '#model/pod.ts'
import { addressOf, type Cidr, contains, familyOf, formatCidr, formatIp, maskCidr, parseCidr } from '#net/ip.ts'
import { podOwner } from '#plan/pod.ts'
import { chain, element, families, map, suffixOf, tableItem } from '#plan/table.ts'

/** The reference's markMasqBit, 13. */
const MARK = '0x00002000'
const AFTER_SERVICES = -99
const BEFORE_MASQUERADE = 99

const ofPods = /^(hostport|podmasq)/
/** Maps and chains of ours that are there for pods (podmasq.ts too), and nothing else. */
export const isPodObject = (item: Item): boolean =>
  item.kind === 'nft-map' || item.kind === 'nft-chain' ? ofPods.test(item.name) : item.kind === 'nft-element' && ofPods.test(item.map)

export const HOST_PORTS_OWNER = 'hostports'
export const portsOwner = (ports: PodPorts): string => `${podOwner(ports)} hostports`

/** What hostPorts need however many there are, and the subnets that pods with hostPorts live in. */
export function hostPortBase(all: Iterable<PodPorts>): Item[] {
  const nat = { type: 'nat', policy: 'accept' } as const
  const mark = `meta mark set meta mark | ${MARK}`
  return [
    tableItem,
    ...families.flatMap(({ suffix, address }): NftMapItem[] => [
      map(`hostport-${suffix}`, [address, 'inet_proto', 'inet_service'], ['verdict']),
      map(`hostport-any-${suffix}`, ['inet_proto', 'inet_service'], ['verdict']),
      map(`hostport-to-${suffix}`, [address, 'inet_proto', 'inet_service'], [address, 'inet_service']),
      map(`hostport-any-to-${suffix}`, ['inet_proto', 'inet_service'], [address, 'inet_service']),
      { ...map(`hostport-near-${suffix}`, [address]), interval: true },
    ]),
    ...sources(all),
    chain(
      'hostport-dnat',
      families.flatMap(({ ip, suffix }) => [
        `dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @hostport-to-${suffix}`,
        `meta nfproto ${suffix} dnat ${ip} to meta l4proto . th dport map @hostport-any-to-${suffix}`,
      ]),
    ),
    chain('hostport-near', [...families.map(({ ip, suffix }) => `${ip} saddr @hostport-near-${suffix} ${mark}`), 'goto hostport-dnat']),
    chain('hostport-all', [mark, 'goto hostport-dnat']),
    chain('hostports', [
      ...families.map(({ ip, suffix }) => `${ip} daddr . meta l4proto . th dport vmap @hostport-${suffix}`),
      ...families.map(({ suffix }) => `meta nfproto ${suffix} meta l4proto . th dport vmap @hostport-any-${suffix}`),
    ]),
    chain('hostports-prerouting', ['fib daddr type local jump hostports'], { ...nat, hook: 'prerouting', priority: AFTER_SERVICES }),
    chain('hostports-output', ['fib daddr type local jump hostports'], { ...nat, hook: 'output', priority: AFTER_SERVICES }),
    chain('hostports-postrouting', [`meta mark & ${MARK} == ${MARK} ct status dnat masquerade`], {
      ...nat,
      hook: 'postrouting',
      priority: BEFORE_MASQUERADE,
    }),
    chain('hostports-input', ['ip saddr != 127.0.0.0/8 ip daddr 127.0.0.0/8 ct status ! dnat ct state ! established,related drop'], {
      type: 'filter',
      hook: 'input',
      priority: 0,
      policy: 'accept',
    }),
  ]
}

/** Intervals of one set must not overlap: a subnet inside of another stays out. */
function sources(all: Iterable<PodPorts>): NftElementItem[] {
  const cidrs = ['127.0.0.1/32', ...[...all].flatMap(({ addresses }) => addresses)].map((text) => maskCidr(parseCidr(text)!))
  const widest: Cidr[] = []
  for (const cidr of cidrs.toSorted((a, b) => a.prefix - b.prefix)) if (!widest.some((wide) => contains(wide, cidr))) widest.push(cidr)
  return widest.map((cidr) => {
    const alone = cidr.prefix === 8 * cidr.bytes.length
    return element(`hostport-near-${suffixOf(cidr.family)}`, [alone ? formatIp(cidr.bytes) : formatCidr(cidr)])
  })
}

/**
 * The elements of each pod's hostPorts, by owner. Where two pods have the same one, the later has it: the earlier is on its way out,
 * and gets it back should the later go first.
 * @param all  In the order in which the pods came.
 */
export function hostPortItems(all: readonly PodPorts[]): Map<string, Item[]> {
  const taken = new Set<string>()
  const items = all.toReversed().map((ports): [string, Item[]] => {
    const free = mappingItems(ports).filter(([go]) => !taken.has(keyText(go)) && taken.add(keyText(go)))
    return [portsOwner(ports), [...free.flat(), ...localnet(ports)]]
  })
  return new Map(items.reverse())
}

const keyText = ({ map: name, key }: NftElementItem): string => `${name} ${key.join(' ')}`

/** Of a mapping and family: what to do, where to, and for UDP that flows from before go there too. */
type MappingItems = readonly [NftElementItem, NftElementItem, ...FlowsItem[]]

function mappingItems(ports: PodPorts): MappingItems[] {
  const verdict = `goto hostport-${ports.masquerade === 'none' ? 'dnat' : ports.masquerade}`
  return ports.addresses.flatMap((cidr) => {
    const address = addressOf(cidr)
    const family = familyOf(address)
    const anyIp = family === 4 ? '0.0.0.0' : '::'
    const mine = ({ hostIp }: PortMapping): boolean => hostIp === undefined || familyOf(hostIp) === family
    return ports.mappings.filter(mine).map(({ hostIp = anyIp, protocol, hostPort, containerPort }): MappingItems => {
      const key = [...(hostIp === anyIp ? [] : [hostIp]), protocol, String(hostPort)]
      const name = hostIp === anyIp ? 'hostport-any' : 'hostport'
      const target = [address, String(containerPort)]
      return [
        element(`${name}-${suffixOf(family)}`, key, [verdict]),
        element(`${name}-to-${suffixOf(family)}`, key, target),
        ...(protocol === 'udp'
          ? ([{ kind: 'flows', memory: 'conntrack', protocol, ip: hostIp, port: hostPort, targets: [target.join(' . ')] }] as const)
          : []),
      ]
    })
  })
}

/** Lets packets from 127.0.0.1 leave by the pods' device. The kernel has nothing like it for IPv6. */
function localnet({ addresses, dev, masquerade }: PodPorts): SysctlItem[] {
  const wanted = masquerade !== 'none' && addresses.some((cidr) => familyOf(cidr) === 4)
  return wanted ? [{ kind: 'sysctl', path: `net/ipv4/conf/${dev}/route_localnet`, value: '1' }] : []
}
