import type { BackendCases } from '#plan/backends/contract.ts'
import { dualStack, uplinkOf, vagrantHost } from '#plan/testing.ts'

const viaRouter = { dst: '192.168.20.0/24', hops: [{ dev: 'eth1', via: '192.168.10.1' }], metric: 0 }
const notOnLink = (where: string): string => `peer-not-on-link: k8s-w2 ${where}: host-gw cannot reach its pods`
const own = { own: [], data: 'null' }

export const cases: BackendCases = {
  nodes: [
    { name: 'the golden node', ...own, mtu: 1500 },
    { name: 'jumbo frames', self: { uplink: uplinkOf({ mtu: 9000 }) }, ...own, mtu: 9000 },
  ],
  unfit: [
    {
      name: 'a public IP that is not the interface’s',
      self: { uplink: uplinkOf({ publicIp: '203.0.113.7' }) },
      fault:
        'host-gw-behind-nat: The public IP 203.0.113.7 is not the address of eth1 (192.168.10.101): with NAT between, peers cannot route to this node',
    },
  ],
  peers: [
    { name: 'a peer on link', want: ['route 10.244.1.0/24 via 192.168.10.102 dev eth1 proto 84'] },
    {
      name: 'whatever data it announces',
      lease: { backendData: null },
      want: ['route 10.244.1.0/24 via 192.168.10.102 dev eth1 proto 84'],
    },
    {
      name: 'a peer on link, over IPv6',
      self: dualStack.self,
      lease: dualStack.lease,
      want: ['route fd00:10:244:1::/64 via fd00:192:168:10::102 dev eth1 proto 84'],
    },
    {
      name: 'a router between',
      self: { routes: [...vagrantHost.routes, viaRouter] },
      lease: { publicIp: '192.168.20.102' },
      want: notOnLink('(192.168.20.102) is not on link of eth1 (192.168.10.101), the way is by 192.168.10.1 on eth1'),
    },
    {
      name: 'only the default route leads there',
      lease: { publicIp: '192.168.20.102' },
      want: notOnLink('(192.168.20.102) is not on link of eth1 (192.168.10.101), the way is by 10.0.2.2 on eth0'),
    },
    {
      name: 'on link of another interface',
      lease: { publicIp: '10.0.2.16' },
      want: notOnLink('(10.0.2.16) is not on link of eth1 (192.168.10.101), the way is by eth0'),
    },
    {
      name: 'our own address, as every node has it behind NAT',
      lease: { publicIp: '192.168.10.101' },
      want: notOnLink('(192.168.10.101) is not on link of eth1 (192.168.10.101), it is an address of this node'),
    },
    {
      name: 'no route at all',
      self: { routes: [] },
      want: notOnLink('(192.168.10.102) is not on link of eth1 (192.168.10.101), there is no route to it'),
    },
    {
      name: 'a router for this one address, within our own network',
      self: { routes: [...vagrantHost.routes, { ...viaRouter, dst: '192.168.10.102/32' }] },
      want: notOnLink('(192.168.10.102) is not on link of eth1 (192.168.10.101), the way is by 192.168.10.1 on eth1'),
    },
  ],
}
