import assert from 'node:assert/strict'
import { test } from 'node:test'
import { show } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'
import { vtepMac, vxlan } from '#plan/backends/vxlan.ts'
import { confOf, leaseOf, selfOf } from '#plan/testing.ts'

const own = [
  {
    name: 'the golden device',
    self: selfOf(),
    want: [
      'link flannel.1 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning address 8a:75:43:39:9c:7b mtu 1450 up',
      'sysctl net/ipv6/conf/flannel.1/accept_ra=0',
      'address 10.244.2.0/32 dev flannel.1',
    ],
  },
  {
    name: 'every key of the backend',
    self: selfOf({ conf: confOf({ VNI: 7, Port: 4789, MTU: 9000, GBP: true, Learning: true }) }),
    want: [
      'link flannel.7 type vxlan id 7 local 192.168.10.101 dev eth1 dstport 4789 learning gbp address 8a:75:43:39:9c:7b mtu 8950 up',
      'sysctl net/ipv6/conf/flannel.7/accept_ra=0',
      'address 10.244.2.0/32 dev flannel.7',
    ],
  },
]
for (const { name, self, want } of own) test(`vxlan needs: ${name}`, () => assert.deepEqual(vxlan.own(self).map(show), want))

const tunnel = [
  'neigh 10.244.1.0 lladdr 16:e4:eb:80:b9:7e dev flannel.1 permanent',
  'fdb 16:e4:eb:80:b9:7e dst 192.168.10.102 dev flannel.1 self permanent',
  'route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 84 onlink',
]
const direct = selfOf({ conf: confOf({ DirectRouting: true }) })
const peers = [
  { name: 'a peer behind the tunnel', self: selfOf(), lease: leaseOf(), want: tunnel },
  {
    name: 'old and foreign ways to write the data',
    self: selfOf(),
    lease: leaseOf({ backendData: { vtepmac: '16:E4:EB:80:B9:7E', other: 1 } }),
    want: tunnel,
  },
  {
    name: 'DirectRouting on one network',
    self: direct,
    lease: leaseOf(),
    want: ['route 10.244.1.0/24 via 192.168.10.102 dev eth1 proto 84'],
  },
  {
    name: 'DirectRouting through a router',
    self: direct,
    lease: leaseOf({ publicIp: '192.168.20.102' }),
    want: [tunnel[0], 'fdb 16:e4:eb:80:b9:7e dst 192.168.20.102 dev flannel.1 self permanent', tunnel[2]],
  },
]
for (const { name, self, lease, want } of peers)
  test(`vxlan plans: ${name}`, () => assert.deepEqual(vxlan.peer(self, lease).map(show), want))

test('data that holds no usable MAC is a problem', () => {
  for (const data of [null, undefined, 'x', {}, { VtepMAC: '' }, { VtepMAC: '01:00:00:00:00:01' }, { VtepMAC: '00:00:00:00:00:00' }]) {
    assert.equal(vtepMac(data), undefined)
    assert.match(vxlan.problem(leaseOf({ backendData: data }))!, /holds no VtepMAC/)
  }
  assert.equal(vxlan.problem(leaseOf()), undefined)
})

for (const backend of backends.values()) {
  test(`contract of a backend: ${backend.type}`, () => {
    const self = selfOf()
    assert.deepEqual(backend.own(self), backend.own(self))
    assert.deepEqual(backend.peer(self, leaseOf()), backend.peer(self, leaseOf()))
    assert.doesNotThrow(() => JSON.parse(backend.data(self)))
    assert.ok(backend.mtu(self) <= self.uplink.mtu)
  })
}
