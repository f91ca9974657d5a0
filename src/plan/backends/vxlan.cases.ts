import type { BackendCases } from '#plan/backends/contract.ts'
import { dualStack, uplinkOf } from '#plan/testing.ts'

const data = '{"VNI":1,"VtepMAC":"8a:75:43:39:9c:7b"}'
const tunnel = [
  'neigh 10.244.1.0 lladdr 16:e4:eb:80:b9:7e dev flannel.1 permanent',
  'fdb 16:e4:eb:80:b9:7e dst 192.168.10.102 dev flannel.1 self permanent',
  'route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 84 onlink',
]
const noMac = (backendData: string): string =>
  `bad-annotation: k8s-w2 cannot be reached by vxlan: its backend-data ${backendData} holds no VtepMAC`

export const cases: BackendCases = {
  nodes: [
    {
      name: 'the golden device',
      own: [
        'link flannel.1 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1450 up',
        'sysctl net/ipv6/conf/flannel.1/accept_ra=0',
        'address 10.244.2.0/32 dev flannel.1',
      ],
      data,
      mtu: 1450,
    },
    {
      name: 'every key',
      keys: { VNI: 7, Port: 4789, MTU: 1400, GBP: true, Learning: true },
      own: [
        'link flannel.7 type vxlan id 7 local 192.168.10.101 dev eth1 dstport 4789 learning gbp address 8a:75:43:39:9c:7b mtu 1350 up',
        'sysctl net/ipv6/conf/flannel.7/accept_ra=0',
        'address 10.244.2.0/32 dev flannel.7',
      ],
      data: '{"VNI":7,"VtepMAC":"8a:75:43:39:9c:7b"}',
      mtu: 1350,
    },
    {
      name: 'keys in any case; zeros are defaults; an MTU that the interface cannot carry is cut to it',
      keys: { vni: 9999999, port: 0, mtu: 9000, directrouting: false },
      own: [
        'link flannel.9999999 type vxlan id 9999999 local 192.168.10.101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1450 up',
        'sysctl net/ipv6/conf/flannel.9999999/accept_ra=0',
        'address 10.244.2.0/32 dev flannel.9999999',
      ],
      data: '{"VNI":9999999,"VtepMAC":"8a:75:43:39:9c:7b"}',
      mtu: 1450,
    },
    {
      name: 'an MTU that IPv6 does not fit through: the device has none, and nothing of it to switch off',
      keys: { MTU: 1300 },
      own: [
        'link flannel.1 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1250 up',
        'address 10.244.2.0/32 dev flannel.1',
      ],
      data,
      mtu: 1250,
    },
    {
      name: 'behind NAT: the device speaks from the address that the node has',
      self: { uplink: uplinkOf({ publicIp: '203.0.113.7' }) },
      own: [
        'link flannel.1 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1450 up',
        'sysctl net/ipv6/conf/flannel.1/accept_ra=0',
        'address 10.244.2.0/32 dev flannel.1',
      ],
      data,
      mtu: 1450,
    },
    {
      name: 'IPv6',
      self: dualStack.self,
      own: [
        'link flannel-v6.1 type vxlan id 1 local fd00:192:168:10::101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1450 up',
        'sysctl net/ipv6/conf/flannel-v6.1/accept_ra=0',
        'address fd00:10:244:2::/128 dev flannel-v6.1',
      ],
      data,
      mtu: 1450,
    },
  ],
  refused: [
    { keys: { VNI: 10_000_000 }, problems: ['Backend.VNI: found 10000000, allowed is an integer from 0 to 9999999'] },
    {
      keys: { VNI: '7', Port: 65536, Learning: 1 },
      problems: [
        'Backend.VNI: found "7", allowed is an integer from 0 to 9999999',
        'Backend.Port: found 65536, allowed is an integer from 0 to 65535',
        'Backend.Learning: found 1, allowed is true or false',
      ],
    },
    { keys: { MTU: 117 }, problems: ['Backend.MTU: found 117, allowed is 0, or an integer from 118 to 65535'] },
  ],
  peers: [
    { name: 'a peer behind the tunnel', want: tunnel },
    { name: 'old and foreign ways to write the data', lease: { backendData: { vtepmac: '16:E4:EB:80:B9:7E', other: 1 } }, want: tunnel },
    {
      name: 'DirectRouting, on link',
      keys: { DirectRouting: true },
      want: ['route 10.244.1.0/24 via 192.168.10.102 dev eth1 proto 84'],
    },
    {
      name: 'DirectRouting, on link of another interface than the tunnel’s',
      keys: { DirectRouting: true },
      lease: { publicIp: '10.0.2.16' },
      want: ['route 10.244.1.0/24 via 10.0.2.16 dev eth0 proto 84'],
    },
    {
      name: 'DirectRouting, a router between',
      keys: { DirectRouting: true },
      lease: { publicIp: '192.168.20.102' },
      want: [tunnel[0]!, 'fdb 16:e4:eb:80:b9:7e dst 192.168.20.102 dev flannel.1 self permanent', tunnel[2]!],
    },
    {
      name: 'DirectRouting, our own address, as every node has it behind NAT',
      keys: { DirectRouting: true },
      lease: { publicIp: '10.0.2.15' },
      want: [tunnel[0]!, 'fdb 16:e4:eb:80:b9:7e dst 10.0.2.15 dev flannel.1 self permanent', tunnel[2]!],
    },
    { name: 'DirectRouting, no route at all', keys: { DirectRouting: true }, self: { routes: [] }, want: tunnel },
    { name: 'on link, without DirectRouting', want: tunnel },
    {
      name: 'IPv6',
      self: dualStack.self,
      lease: dualStack.lease,
      want: [
        'neigh fd00:10:244:1:: lladdr 16:e4:eb:80:b9:7e dev flannel-v6.1 permanent',
        'fdb 16:e4:eb:80:b9:7e dst fd00:192:168:10::102 dev flannel-v6.1 self permanent',
        'route fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel-v6.1 proto 84 onlink',
      ],
    },
    { name: 'data of another backend', lease: { backendData: null }, want: noMac('null') },
    { name: 'no data', lease: { backendData: undefined }, want: noMac('undefined') },
    { name: 'data that is a text', lease: { backendData: 'x' }, want: noMac('"x"') },
    { name: 'data without a MAC', lease: { backendData: { VNI: 1 } }, want: noMac('{"VNI":1}') },
    { name: 'an empty MAC', lease: { backendData: { VtepMAC: '' } }, want: noMac('{"VtepMAC":""}') },
    {
      name: 'a group MAC',
      lease: { backendData: { VtepMAC: '01:00:00:00:00:01' } },
      want: noMac('{"VtepMAC":"01:00:00:00:00:01"}'),
    },
    {
      name: 'a MAC of zeros',
      lease: { backendData: { VtepMAC: '00:00:00:00:00:00' } },
      want: noMac('{"VtepMAC":"00:00:00:00:00:00"}'),
    },
  ],
}
