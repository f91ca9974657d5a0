/**
 * The lab's wiring as text for iproute2 and nft: pure, a topology in, batches out.
 * Both ends of each veth are created inside their namespaces, so nothing ever shows in the machine's own.
 * @module
 */
import { internetNet, natNet, netns, netnsOf, switchNet, type Topology } from '#lab/nodes/topology.ts'

/** What is fed to one namespace: `ip -batch` lines, sysctl settings, nft rules. */
export interface Wiring {
  readonly netns: string
  readonly ip: readonly string[]
  readonly sysctls: readonly string[]
  readonly nft: string
}

/** One `ip -batch`: the namespaces and the cables between them. */
export function cables(topology: Topology): string[] {
  const { lab, segments } = topology
  return [
    ...netnsOf(topology).map((name) => `netns add ${name}`),
    ...(segments.length < 2
      ? []
      : segments.map((_, i) => `link add eth${i} netns ${netns.router(lab)} type veth peer name router netns ${netns.switch(lab, i)}`)),
    ...topology.nodes.flatMap((node, i) => {
      const inside = netns.node(lab, node.name)
      const nat = netns.nat(lab, node.name)
      return [
        `link add eth0 netns ${inside} address ${natNet.mac} type veth peer name inside netns ${nat}`,
        `link add eth1 netns ${inside} address ${node.mac} type veth peer name port${i} netns ${netns.switch(lab, node.segment)}`,
        `link add outside netns ${nat} type veth peer name port${i} netns ${netns.internet(lab)}`,
      ]
    }),
  ]
}

/** What each namespace gets once the cables are in; they do not depend on each other. */
export function wirings(topology: Topology): Wiring[] {
  const { lab, nodes, segments } = topology
  const routed = segments.length > 1
  const bridge = (name: string, ports: readonly string[]): string[] => [
    'link set lo up',
    `link add ${name} type bridge`,
    `link set ${name} up`,
    ...ports.map((port) => `link set ${port} master ${name} up`),
  ]
  return [
    ...segments.map((_, segment) => {
      const ports = nodes.flatMap((node, i) => (node.segment === segment ? [`port${i}`] : []))
      return {
        netns: netns.switch(lab, segment),
        ip: bridge('br1', [...ports, ...(routed ? ['router'] : [])]),
        sysctls: bridgeSysctls,
        nft: '',
      }
    }),
    ...(routed ? [router(topology)] : []),
    {
      netns: netns.internet(lab),
      ip: [
        ...bridge(
          'br0',
          nodes.map((_, i) => `port${i}`),
        ),
        `addr add ${internetNet.web}/${internetNet.prefix} dev br0`,
        `addr add ${internetNet.dns}/${internetNet.prefix} dev br0`,
      ],
      sysctls: bridgeSysctls,
      nft: '',
    },
    ...nodes.flatMap((node) => [
      {
        netns: netns.node(lab, node.name),
        ip: [
          'link set lo up',
          `addr add ${natNet.node}/${natNet.prefix} brd + dev eth0`,
          `addr add ${node.ip}/${switchNet.prefix} brd + dev eth1`,
          'link set eth0 up',
          'link set eth1 up',
          `route add default via ${natNet.gateway} dev eth0`,
          ...segments.flatMap(({ cidr }, i) => (i === node.segment ? [] : [`route add ${cidr} via ${segments[node.segment]!.router}`])),
        ],
        sysctls: forwarding,
        nft: '',
      },
      {
        netns: netns.nat(lab, node.name),
        ip: [
          'link set lo up',
          `addr add ${natNet.gateway}/${natNet.prefix} dev inside`,
          `addr add ${natNet.dns}/${natNet.prefix} dev inside`,
          `addr add ${node.outsideIp}/${internetNet.prefix} dev outside`,
          'link set inside up',
          'link set outside up',
        ],
        sysctls: forwarding,
        nft: natRules(node.outsideIp),
      },
    ]),
  ]
}

/** Between the segments; it knows nodes, and nothing of pods. */
function router({ lab, segments }: Topology): Wiring {
  const ip = segments.flatMap((segment, i) => [`addr add ${segment.router}/${switchNet.prefix} dev eth${i}`, `link set eth${i} up`])
  return { netns: netns.router(lab), ip: ['link set lo up', ...ip], sysctls: forwarding, nft: '' }
}

// Set here, not inherited: a new namespace copies the machine's current values, which whoever ran before may have changed.
const forwarding = ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0']

// A bridge that only carries frames: their packets are no business of its namespace's firewall.
const bridgeSysctls = ['net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0']

/**
 * The NAT box. It masquerades the machine's own address alone: a packet that leaves with a pod's address goes out as it is
 * (and is counted), so that a missing masquerade shows at the far end instead of being hidden by this one.
 */
function natRules(outsideIp: string): string {
  return `table ip nat-box {
  counter foreign-source { comment "packets that left the machine with another source than ${natNet.node}" }
  chain forward {
    type filter hook forward priority filter;
    iifname "inside" ip saddr != ${natNet.node} counter name foreign-source
  }
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr ${natNet.dns} meta l4proto { tcp, udp } th dport 53 dnat to ${internetNet.dns}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "outside" ip saddr ${natNet.node} snat to ${outsideIp}
  }
}
`
}
