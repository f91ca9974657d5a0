/**
 * The lab's machines as data: one to nine nodes, three by default, as Vagrant and VirtualBox would make them, each behind a NAT of its own.
 *
 *                        internet  198.51.100.0/24   web .10   resolver .53
 *          ┌────────────────┼────────────────┐
 *     .100 nat         .101 nat         .102 nat       each 10.0.2.2 inside (DNS 10.0.2.3)
 *          │eth0            │eth0            │eth0     10.0.2.15 on every node, same MAC: the address trap of issue trackers
 *       k8s-ctr          k8s-w1           k8s-w2
 *          │eth1 .100       │eth1 .101       │eth1 .102
 *          └──────── switch 192.168.10.0/24 ─┘
 *
 * With two segments the last third of the nodes has its eth1 on a second switch, 192.168.20.0/24, behind a router (.1 in both).
 * @module
 */
export interface LabNode {
  readonly name: string
  /** The address on its switch (eth1), without a prefix. */
  readonly ip: string
  /** Which switch: an index of the topology's segments. */
  readonly segment: number
  readonly mac: string
  /** What the internet sees of this node: its NAT box's outside address. */
  readonly outsideIp: string
}

export interface Topology {
  /** Lab name; namespaces, cgroups and the state directory carry it, so that labs can live side by side. */
  readonly lab: string
  readonly nodes: readonly LabNode[]
  /** One per switch. */
  readonly segments: readonly Segment[]
}

/** A layer 2 network of nodes. */
export interface Segment {
  readonly cidr: string
  /** Where the router is, if there is more than one segment. */
  readonly router: string
}

/** eth0 of every node: VirtualBox gives each machine the same address and Vagrant's boxes the same MAC. */
export const natNet = { node: '10.0.2.15', mac: '08:00:27:aa:bb:cc', gateway: '10.0.2.2', dns: '10.0.2.3', prefix: 24 } as const
export const switchNet = { prefix: 24 } as const
export const internetNet = { web: '198.51.100.10', dns: '198.51.100.53', prefix: 24 } as const
/** Names the lab's resolver knows; any other is NXDOMAIN. */
export const internetNames: Readonly<Record<string, string>> = { 'internet.lab': internetNet.web, 'dns.lab': internetNet.dns }
/** Kubernetes' own numbers, as kubeadm and Flannel's manifest have them. */
export const clusterNet = { serviceCidr: '10.96.0.0/16', podCidr: '10.244.0.0/16', dns: '10.96.0.10', apiPort: 6443 } as const

export const controlPlaneNode = 'k8s-ctr'

export const MAX_NODES = 9

/** A control plane and `nodes` - 1 workers, on one switch or on two with a router between. */
export function topology(lab: string, o: { nodes?: number; segments?: number } = {}): Topology {
  const { nodes: count = 3, segments: switches = 1 } = o
  const names = [controlPlaneNode, ...Array.from({ length: count - 1 }, (_, i) => `k8s-w${i + 1}`)]
  const near = switches === 1 ? count : Math.floor((count * 2) / 3)
  const nodes = names.map((name, i) => {
    const segment = i < near ? 0 : 1
    return {
      name,
      segment,
      ip: `${networks[segment]}.${100 + i}`,
      mac: `08:00:27:00:01:${(100 + i).toString(16)}`,
      outsideIp: `198.51.100.${100 + i}`,
    }
  })
  return { lab, nodes, segments: networks.slice(0, switches).map((net) => ({ cidr: `${net}.0/24`, router: `${net}.1` })) }
}

const networks = ['192.168.10', '192.168.20']

/** A lab's name: no hyphen, so that `<lab>-` is never the beginning of another lab's names. */
export function isLabName(text: string): boolean {
  return /^[a-z][a-z0-9]{0,11}$/.test(text)
}

/** Names of the network namespaces, as `ip netns` lists them. */
export const netns = {
  node: (lab: string, node: string): string => `${lab}-${node}`,
  nat: (lab: string, node: string): string => `${lab}-${node}-nat`,
  switch: (lab: string, segment: number): string => `${lab}-switch${segment === 0 ? '' : segment + 1}`,
  router: (lab: string): string => `${lab}-router`,
  internet: (lab: string): string => `${lab}-internet`,
}

/** Every network namespace of the lab. */
export function netnsOf(topology: Topology): string[] {
  const { lab, segments } = topology
  const switches = segments.map((_, i) => netns.switch(lab, i))
  const router = segments.length > 1 ? [netns.router(lab)] : []
  return [...switches, ...router, netns.internet(lab), ...topology.nodes.flatMap((n) => [netns.node(lab, n.name), netns.nat(lab, n.name)])]
}

/** Whether a network namespace is one of this lab's, also of a run whose state is lost. */
export function isNetnsOf(lab: string, name: string): boolean {
  return name.startsWith(`${lab}-`) && /^(switch2?|router|internet|k8s-[a-z0-9]+(-nat)?)$/.test(name.slice(lab.length + 1))
}
