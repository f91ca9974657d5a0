/**
 * What a pod's interface is made of: the node's bridge, the veth pair, and what the pod's namespace holds. Every MAC and
 * name is in the input, so that the CNI result is known before the kernel is asked and nothing is read back.
 *
 * The objects, values and order are those of the reference bridge plugin (plugins/main/bridge), except for two: the
 * bridge's MAC is fixed at creation, so that it does not follow its ports, and a pod's MAC comes from its address, so that
 * an address used again brings no stale ARP entries.
 * @module
 */
import type { AddressItem, Item, LinkItem, NftElementItem, Op, PortItem, RouteItem, SysctlItem, VethPeer } from '#model/kernel.ts'
import { BOOT_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { type Cidr, familyOf, formatIp, maskCidr, parseCidr, parseIp } from '#net/ip.ts'
import { formatMac } from '#net/mac.ts'
import { carriesIpv6 } from '#plan/ipv6.ts'
import { podMasqElements } from '#plan/podmasq.ts'

/** A bridge of ours. `gateways` are its addresses with prefix, at most one a family; without any it only switches. */
export interface BridgePlan {
  readonly name: string
  readonly mac: string
  readonly mtu: number
  readonly gateways: readonly string[]
  readonly promisc?: true
}

/** A MAC that belongs to an address: 0a:58 and IPv4's four bytes, or IPv6's last four. Locally administered, unicast. */
export function macOfIp(ip: string): string {
  return formatMac(Uint8Array.of(0x0a, 0x58, ...parseIp(ip)!.bytes.slice(-4)))
}

export const bridgeOwner = (name: string): string => `bridge ${name}`

/** Unique among sandboxes: a pod that is started anew has two for a while. */
export function podOwner(a: Pick<Attachment, 'podName' | 'containerId' | 'ifname'>): string {
  const id = /^[0-9a-f]{64}$/.test(a.containerId) ? a.containerId.slice(0, 12) : a.containerId
  return `pod ${a.podName === undefined ? '' : `${a.podName} `}${id} ${a.ifname}`
}

/** Everything the bridge needs, in the order of making. Forwarding is the node's, and kept on while the bridge exists. */
export function bridgeItems(bridge: BridgePlan): Item[] {
  const owner = bridgeOwner(bridge.name)
  const families = new Set(bridge.gateways.map(familyOf))
  return [
    {
      kind: 'link',
      name: bridge.name,
      type: 'bridge',
      up: true,
      mac: bridge.mac,
      ...mtuOf(bridge.mtu),
      ...(bridge.promisc && { promisc: true }),
      owner,
    },
    ...(carriesIpv6(bridge.mtu) ? [sysctl(`net/ipv6/conf/${bridge.name}/accept_ra`, '0', owner)] : []),
    ...bridge.gateways.map((cidr) => address(bridge.name, cidr, owner)),
    ...(families.has(4) ? [sysctl('net/ipv4/ip_forward', '1', owner)] : []),
    ...(families.has(6) ? [sysctl('net/ipv6/conf/all/forwarding', '1', owner)] : []),
  ]
}

/** What the agent keeps repairing of an attachment: the host end, its place in the bridge, and its masquerade. */
export function podItems(a: Attachment): [LinkItem, PortItem, ...NftElementItem[]] {
  const owner = podOwner(a)
  return [
    { kind: 'link', name: a.host.name, type: 'veth', up: true, mac: a.host.mac, ...mtuOf(a.mtu), owner },
    { kind: 'port', dev: a.host.name, bridge: a.bridge, hairpin: a.hairpin, ...(a.isolated && { isolated: true }), owner },
    ...podMasqElements(a).map((one) => ({ ...one, owner })),
  ]
}

/** The ops of ADD. The first makes the pair, and fails if either name is taken; then nothing that stands on it is tried. Both
 * ends come up late, the host end last: an end that is up while the other is down has no carrier, and when the kernel notices
 * (linkwatch) it holds the rtnl lock for an RCU grace period (dev_deactivate), a millisecond that the next message waits for. */
export function attachOps(a: Attachment): Op[] {
  const owner = podOwner(a)
  const [host, port, ...masquerade] = podItems(a)
  const peer: VethPeer = { name: a.ifname, netns: a.netns, mac: a.pod.mac, ...mtuOf(a.mtu) }
  const conf = (path: string, value: string): SysctlItem => ({ ...sysctl(path, value, owner), netns: a.netns })
  const items: Item[] = [
    { ...host, up: false, peer },
    port,
    ...masquerade,
    ...(carriesIpv6(a.mtu) ? [sysctl(`net/ipv6/conf/${a.host.name}/accept_ra`, '0', owner)] : []),
    ...(a.pod.addresses.length === 0
      ? []
      : [
          conf(`net/ipv4/conf/${a.ifname}/arp_notify`, '1'),
          ...(a.dad && carriesIpv6(a.mtu) ? [conf(`net/ipv6/conf/${a.ifname}/enhanced_dad`, '1')] : []),
          ...(carriesIpv6(a.mtu) ? [conf(`net/ipv6/conf/${a.ifname}/accept_dad`, a.dad ? '1' : '0')] : []),
        ]),
    ...(a.pod.addresses.some((cidr) => familyOf(cidr) === 6)
      ? [
          conf('net/ipv6/conf/lo/disable_ipv6', '0'),
          conf(`net/ipv6/conf/${a.ifname}/disable_ipv6`, '0'),
          conf(`net/ipv6/conf/${a.ifname}/keep_addr_on_down`, '1'),
        ]
      : []),
    ...a.pod.addresses.map((cidr): AddressItem => ({ ...address(a.ifname, cidr, owner), ...(a.dad && { dad: true }), netns: a.netns })),
    ...(a.containerDown ? [] : [{ kind: 'link', name: a.ifname, type: 'veth', up: true, owner, netns: a.netns } as const]),
    ...podRoutes(a).map((route): RouteItem => ({ ...route, owner, netns: a.netns })),
    host,
  ]
  return items.map((item) => ({ verb: 'put', item }))
}

/** The ops of DEL. Both ends of a veth die with either, and everything in the pod's namespace hangs on them. */
export function detachOps(a: Attachment): Op[] {
  const owner = podOwner(a)
  const masquerade = podMasqElements(a).map((item): Op => ({ verb: 'del', item: { ...item, owner } }))
  return [{ verb: 'del', item: { kind: 'link', name: a.host.name, type: 'veth', up: false, owner } }, ...masquerade]
}

/** For a pod that another maker's plugin attached: all that is known of it is its end. */
export function detachByPodEnd(netns: string, ifname: string, owner: string): Op[] {
  return [{ verb: 'del', item: { kind: 'link', name: ifname, type: 'veth', up: false, netns, owner } }]
}

/** The pod's lo, which its namespace is born with, down. */
export function loopbackOps(netns: string, owner: string, up: boolean): Op[] {
  return [{ verb: 'put', item: { kind: 'link', name: 'lo', type: 'loopback', up, netns, owner } }]
}

const podRoutes = (a: Attachment): RouteItem[] =>
  a.routes.map(({ dst, via, ...more }) => ({
    kind: 'route',
    dst,
    ...(via === undefined ? {} : { via }),
    ...more,
    dev: a.ifname,
    protocol: BOOT_ROUTE_PROTOCOL,
  }))

function address(dev: string, cidr: string, owner: string): AddressItem {
  const broadcast = broadcastOf(parseCidr(cidr)!)
  return { kind: 'address', dev, cidr, ...(broadcast === undefined ? {} : { broadcast }), owner }
}

/** The last address of an IPv4 network that has room for one. */
function broadcastOf(cidr: Cidr): string | undefined {
  if (cidr.family === 6 || cidr.prefix > 30) return undefined
  const bytes = maskCidr(cidr).bytes.map((byte, i) => byte | (0xff >> Math.max(0, Math.min(8, cidr.prefix - 8 * i))))
  return formatIp(bytes)
}

const sysctl = (path: string, value: string, owner: string): SysctlItem => ({ kind: 'sysctl', path, value, owner })

/** MTU 0 leaves the kernel's default. */
const mtuOf = (mtu: number): { mtu?: number } => (mtu === 0 ? {} : { mtu })
