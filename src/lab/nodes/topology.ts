/**
 * The lab's machines as data: three nodes as Vagrant and VirtualBox would make them, each behind a NAT of its own.
 *
 *                        internet  198.51.100.0/24   web .10   resolver .53
 *          ┌────────────────┼────────────────┐
 *     .100 nat         .101 nat         .102 nat       each 10.0.2.2 inside (DNS 10.0.2.3)
 *          │eth0            │eth0            │eth0     10.0.2.15 on every node, same MAC: the address trap of issue trackers
 *       k8s-ctr          k8s-w1           k8s-w2
 *          │eth1 .100       │eth1 .101       │eth1 .102
 *          └──────── switch 192.168.10.0/24 ─┘
 * @module
 */
export interface LabNode {
  readonly name: string
  /** The address on the shared switch (eth1), without a prefix. */
  readonly ip: string
  readonly mac: string
  /** What the internet sees of this node: its NAT box's outside address. */
  readonly outsideIp: string
}

export interface Topology {
  /** Lab name; namespaces, cgroups and the state directory carry it, so that labs can live side by side. */
  readonly lab: string
  readonly nodes: readonly LabNode[]
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

/** The lab of issue A: one control plane and `workers` workers. */
export function topology(lab: string, workers = 2): Topology {
  const names = [controlPlaneNode, ...Array.from({ length: workers }, (_, i) => `k8s-w${i + 1}`)]
  const nodes = names.map((name, i) => ({
    name,
    ip: `192.168.10.${100 + i}`,
    mac: `08:00:27:00:01:${(100 + i).toString(16)}`,
    outsideIp: `198.51.100.${100 + i}`,
  }))
  return { lab, nodes }
}

/** A lab's name: no hyphen, so that `<lab>-` is never the beginning of another lab's names. */
export function isLabName(text: string): boolean {
  return /^[a-z][a-z0-9]{0,11}$/.test(text)
}

/** Names of the network namespaces, as `ip netns` lists them. */
export const netns = {
  node: (lab: string, node: string): string => `${lab}-${node}`,
  nat: (lab: string, node: string): string => `${lab}-${node}-nat`,
  switch: (lab: string): string => `${lab}-switch`,
  internet: (lab: string): string => `${lab}-internet`,
}

/** Every network namespace of the lab. */
export function netnsOf(topology: Topology): string[] {
  const { lab } = topology
  return [netns.switch(lab), netns.internet(lab), ...topology.nodes.flatMap((n) => [netns.node(lab, n.name), netns.nat(lab, n.name)])]
}

/** Whether a network namespace is one of this lab's, also of a run whose state is lost. */
export function isNetnsOf(lab: string, name: string): boolean {
  return name.startsWith(`${lab}-`) && /^(switch|internet|k8s-[a-z0-9]+(-nat)?)$/.test(name.slice(lab.length + 1))
}
