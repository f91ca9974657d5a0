/** For tests: the node k8s-w1 of the golden state, as a planner's Self. */
import { parseNetConf } from '#config/net-conf.ts'
import type { Lease, NodeRecord } from '#model/cluster.ts'
import type { HostView } from '#model/kernel.ts'
import type { Backend, BackendType, Self } from '#plan/backends/backend.ts'
import { vxlan as vxlanType } from '#plan/backends/vxlan.ts'
import type { Uplink } from '#plan/interface.ts'
import { underlayOf, waysOf } from '#plan/ways.ts'

/** Two interfaces as Vagrant makes them: eth0 behind NAT with the default route, eth1 on the network that the nodes share. */
export const vagrantHost: HostView = {
  links: [
    { index: 1, name: 'lo', mtu: 65536, mac: '00:00:00:00:00:00', up: true },
    { index: 2, name: 'eth1', mtu: 1500, mac: '76:f8:c0:56:5d:ea', up: true },
    { index: 3, name: 'eth0', mtu: 1500, mac: '08:00:27:aa:bb:cc', up: true },
  ],
  addresses: [
    { dev: 'lo', cidr: '127.0.0.1/8', scope: 'host', permanent: true, temporary: false, deprecated: false },
    { dev: 'eth1', cidr: 'fe80::74f8:c0ff:fe56:5dea/64', scope: 'link', permanent: true, temporary: false, deprecated: false },
    { dev: 'eth1', cidr: '192.168.10.101/24', scope: 'global', permanent: true, temporary: false, deprecated: false },
    { dev: 'eth0', cidr: '10.0.2.15/24', scope: 'global', permanent: false, temporary: false, deprecated: false },
  ],
  routes: [
    { dst: '0.0.0.0/0', hops: [{ dev: 'eth0', via: '10.0.2.2' }], metric: 0 },
    { dst: '10.0.2.0/24', hops: [{ dev: 'eth0' }], metric: 0 },
    { dst: '192.168.10.0/24', hops: [{ dev: 'eth1' }], metric: 0 },
  ],
}

/** A backend as net-conf.json configures it; `keys` are those beside Type. */
export const backendOf = (kind: BackendType, keys: object = {}): Backend =>
  parseNetConf(
    JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: kind.type, ...keys } }),
    'net-conf.json',
    new Map([[kind.type, kind]]),
  ).backend

/** vxlan as it comes. */
export const vxlan = backendOf(vxlanType)

/** What may differ; the way to peers follows from `routes`. */
export type SelfWish = Partial<Omit<Self, 'wayTo' | 'underlay'>> & { readonly routes?: HostView['routes'] }

export const uplinkOf = (o: Partial<Uplink> = {}): Uplink => ({
  ...{ name: 'eth1', mtu: 1500, address: '192.168.10.101', publicIp: '192.168.10.101', why: '--iface=eth1' },
  ...o,
})

export function selfOf({ routes = vagrantHost.routes, ...o }: SelfWish = {}): Self {
  const underlay = underlayOf({ ...vagrantHost, routes }, o.network ?? '10.244.0.0/16')
  return {
    node: 'k8s-w1',
    family: 4,
    network: '10.244.0.0/16',
    subnet: '10.244.2.0/24',
    uplink: uplinkOf(),
    mac: '8a:75:43:39:9c:7b',
    local: '192.168.10.101',
    underlay,
    wayTo: waysOf(underlay),
    ...o,
  }
}

export function leaseOf(o: Partial<Lease> = {}): Lease {
  return {
    node: 'k8s-w2',
    family: 4,
    subnet: '10.244.1.0/24',
    publicIp: '192.168.10.102',
    backendType: 'vxlan',
    backendData: { VNI: 1, VtepMAC: '16:e4:eb:80:b9:7e' },
    ...o,
  }
}

/** The same two nodes in their other family. */
export const dualStack: { readonly self: SelfWish; readonly lease: Partial<Lease> } = {
  self: {
    family: 6,
    network: 'fd00:10:244::/56',
    subnet: 'fd00:10:244:2::/64',
    local: 'fd00:192:168:10::101',
    uplink: uplinkOf({ address: 'fd00:192:168:10::101', publicIp: 'fd00:192:168:10::101' }),
    routes: [{ dst: 'fd00:192:168:10::/64', hops: [{ dev: 'eth1' }], metric: 1024 }],
  },
  lease: { family: 6, subnet: 'fd00:10:244:1::/64', publicIp: 'fd00:192:168:10::102' },
}

/** A node as its agent announces it. */
export function recordOf(lease: Partial<Lease> = {}, annotations: Readonly<Record<string, string>> = {}): NodeRecord {
  const { node, subnet, publicIp, backendType, backendData } = leaseOf(lease)
  return {
    name: node,
    uid: `uid-${node}`,
    podCIDRs: [subnet],
    internalIPs: [publicIp],
    annotations: {
      'backend-data': JSON.stringify(backendData),
      'backend-type': backendType,
      'kube-subnet-manager': 'true',
      'public-ip': publicIp,
      ...annotations,
    },
  }
}
