/** For tests: what the doctor knows of k8s-w1, healthy, beside k8s-w2; and variations. */
import type { FdbItem, NeighborItem } from '#model/kernel.ts'
import type { StatusDocument } from '#model/status.ts'
import { examine } from '#plan/doctor/checks.ts'
import type { AgentSet, ClusterNode, Culprit, Facts, PeerProbe } from '#plan/doctor/facts.ts'
import { vagrantHost } from '#plan/testing.ts'

export const mac = '16:e4:eb:80:b9:7e'
export const status: StatusDocument = {
  kind: 'TwillStatus',
  version: 1,
  agent: { version: '1.0.0', pid: 42, phase: 'serving', uptimeSeconds: 90 },
  node: { name: 'k8s-w1', internalIPs: ['192.168.10.101'] },
  lease: { network: '10.244.0.0/16', subnet: '10.244.1.0/24', publicIp: '192.168.10.101', announced: true },
  interface: { name: 'eth1', address: '192.168.10.101', mtu: 1500, why: '--iface=eth1' },
  backend: { type: 'vxlan', device: 'flannel.1', mac: '8a:75:43:39:9c:7b', mtu: 1450 },
  peers: [],
  findings: [],
  objects: {},
  pods: 1,
  services: true,
  repairs: { total: 0, byKind: {}, recent: [], contested: [] },
  kernel: { release: '6.18', mutations: 0, features: [], refused: [] },
  api: { server: 'https://192.168.10.100:6443', connected: true },
}
export const node = (o: Partial<ClusterNode> = {}, annotations: Readonly<Record<string, string>> = {}): ClusterNode => ({
  name: 'k8s-w1',
  uid: '1',
  podCIDRs: ['10.244.1.0/24'],
  internalIPs: ['192.168.10.101'],
  ready: true,
  createdAt: '2026-11-23T00:00:00Z',
  ...o,
  annotations: {
    'kube-subnet-manager': 'true',
    'backend-type': 'vxlan',
    'backend-data': '{"VtepMAC":"8a:75:43:39:9c:7b"}',
    'public-ip': '192.168.10.101',
    ...annotations,
  },
})
export const peer = (o: Partial<ClusterNode> = {}, annotations: Readonly<Record<string, string>> = {}): ClusterNode =>
  node(
    { name: 'k8s-w2', uid: '2', podCIDRs: ['10.244.2.0/24'], internalIPs: ['192.168.10.102'], ...o },
    { 'public-ip': '192.168.10.102', 'backend-data': `{"VtepMAC":"${mac}"}`, ...annotations },
  )
export const agents: AgentSet = {
  namespace: 'kube-flannel',
  name: 'kube-flannel-ds',
  image: 'twill:1',
  args: ['--ip-masq', '--kube-subnet-mgr'],
  onDelete: false,
  pods: [{ name: 'ds-a', node: 'k8s-w1', image: 'twill:1' }],
  config: { name: 'kube-flannel-cfg', netConf: '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}' },
}
export const cluster = (o: Partial<Facts['cluster'] & object> = {}): NonNullable<Facts['cluster']> => ({
  nodes: [node(), peer()],
  agents,
  others: [],
  policies: [],
  clockSkewMs: 400,
  ...o,
})
export const probe = (o: Partial<PeerProbe> = {}): PeerProbe => ({
  node: 'k8s-w2',
  publicIp: '192.168.10.102',
  vtep: '10.244.2.0',
  underlay: true,
  tunnel: true,
  checksum: true,
  culprits: [],
  ...o,
})
export const neighbor: NeighborItem = { kind: 'neighbor', dev: 'flannel.1', ip: '10.244.2.0', mac }
export const fdb: FdbItem = { kind: 'fdb', dev: 'flannel.1', mac, vtep: '192.168.10.102' }
export const kernel: Facts['kernel'] = {
  links: [
    {
      kind: 'link',
      name: 'flannel.1',
      type: 'vxlan',
      up: true,
      mac: '8a:75:43:39:9c:7b',
      mtu: 1450,
      vxlan: { vni: 1, port: 8472, local: '192.168.10.101', uplink: 'eth1', learning: false, gbp: false },
    },
    { kind: 'link', name: 'cni0', type: 'bridge', up: true, mtu: 1450 },
  ],
  neighbors: [neighbor],
  fdb: [fdb],
  sysctls: { 'net/ipv4/ip_forward': '1', 'net/bridge/bridge-nf-call-iptables': '1', 'net/ipv4/conf/all/rp_filter': '0' },
  routes: { '192.168.10.102': { dev: 'eth1' }, '10.244.2.254': { dev: 'flannel.1', via: '10.244.2.0' }, '10.244.1.254': { dev: 'cni0' } },
}
export const files: Facts['files'] = {
  subnetEnv: { path: '/run/flannel/subnet.env', network: '10.244.0.0/16', subnet: '10.244.1.1/24', mtu: 1450 },
  confDir: '/etc/cni/net.d',
  confs: [{ name: '10-flannel.conflist', network: 'cbr0', plugins: ['flannel', 'portmap'] }],
  binDir: '/opt/cni/bin',
  plugins: ['bridge', 'flannel', 'host-local', 'loopback', 'portmap'],
  addresses: {
    reservations: [
      { network: 'cbr0', path: '/var/lib/cni/networks/cbr0/10.244.1.2', address: '10.244.1.2', containerId: 'abc', ours: true, live: true },
    ],
    pods: [],
  },
  kubelet: { path: '/var/lib/kubelet/kubeadm-flags.env', nodeIp: '192.168.10.101' },
  programs: ['iptables', 'iptables-nft', 'nft'],
}
export const healthy: Facts = {
  hostname: 'k8s-w1',
  version: '1.0.0',
  host: vagrantHost,
  agent: { state: 'answers' },
  status,
  kernel,
  files,
  cluster: cluster(),
  probes: [probe()],
  forwarding: { dropped: [] },
}
export const silent: Facts['agent'] = { state: 'silent', process: { pid: 7, stopped: true } }
export const { status: _, ...withoutAgent } = healthy
export const { cluster: __, ...withoutCluster } = healthy
export const sysctl = (values: Readonly<Record<string, string>>): Facts => ({
  ...healthy,
  kernel: { ...kernel, sysctls: { ...kernel.sysctls, ...values } },
})
export const inChain = (o: Partial<Culprit> = {}): Culprit => ({
  ...{ tool: 'iptables', family: 'ip', table: 'filter', chain: 'FORWARD', base: 'FORWARD', hook: 'forward' },
  ...o,
})
export const rejects: Culprit = inChain({
  tool: 'nft',
  family: 'inet',
  table: 'firewalld',
  chain: 'filter_FORWARD',
  base: 'filter_FORWARD',
  handle: 5,
})

/** A name, the facts, and what must be found: id, its text, its commands. */
export interface Case {
  readonly name: string
  readonly facts: Facts
  readonly want: readonly (readonly [id: string, text: RegExp, ...fix: string[]])[]
}

/** What the doctor finds, beside what it must: ids in order, each with its text (or "as expected") and its commands. */
export function outcome({ facts, want }: Case): { readonly found: string[][]; readonly wanted: string[][] } {
  const found = examine(facts).map(({ id, text, why, remedy, where, subject, fix }, i) => {
    const whole = why !== '' && remedy !== '' && where !== '' && subject !== ''
    return [id, whole && want[i]?.[1].test(text) ? 'as expected' : text, ...fix]
  })
  return { found, wanted: want.map(([id, , ...fix]) => [id, 'as expected', ...fix]) }
}
