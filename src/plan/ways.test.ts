import assert from 'node:assert/strict'
import { test } from 'node:test'
import { vagrantHost } from '#plan/testing.ts'
import { deviceOnLink, underlayOf, waysOf } from '#plan/ways.ts'

const routes = [
  ...vagrantHost.routes,
  { dst: '192.168.20.0/24', hops: [{ dev: 'eth1', via: '192.168.10.1' }], metric: 0 },
  { dst: '192.168.20.128/25', hops: [{ dev: 'eth2' }], metric: 100 },
  { dst: '192.168.20.128/25', hops: [{ dev: 'eth1', via: '192.168.10.1' }], metric: 200 },
  { dst: '192.168.30.0/24', hops: [{ dev: 'eth1', via: '192.168.10.1' }, { dev: 'eth2' }], metric: 0 },
  { dst: 'fd00::/64', hops: [{ dev: 'eth1' }], metric: 1024 },
]
const cases = [
  { name: 'on link', ip: '192.168.10.102', want: { dev: 'eth1' } },
  { name: 'by the default route', ip: '203.0.113.7', want: { dev: 'eth0', via: '10.0.2.2' } },
  { name: 'by a router', ip: '192.168.20.7', want: { dev: 'eth1', via: '192.168.10.1' } },
  { name: 'the longest prefix, then the lowest metric', ip: '192.168.20.200', want: { dev: 'eth2' } },
  { name: 'by one of several hops', ip: '192.168.30.7', want: { dev: 'eth1', via: '192.168.10.1' } },
  { name: 'the other family, on link', ip: 'fd00::7', want: { dev: 'eth1' } },
  { name: 'the other family, no route', ip: 'fd01::7', want: undefined },
  { name: 'our own address', ip: '192.168.10.101', want: { dev: 'lo', local: true } },
  { name: 'a broadcast address of the link', ip: '192.168.10.255', want: { dev: 'eth1', broadcast: true } },
  { name: 'the other one', ip: '192.168.10.0', want: { dev: 'eth1', broadcast: true } },
  { name: 'no address', ip: 'k8s-w1', want: undefined },
]
for (const { name, ip, want } of cases)
  test(`way to a node: ${name}`, () => assert.deepEqual(waysOf({ routes, addresses: ['192.168.10.101'] })(ip), want))

test('only a neighbor is on link', () => {
  assert.equal(deviceOnLink({ dev: 'eth1' }), 'eth1')
  for (const way of [
    undefined,
    { dev: 'eth1', via: '192.168.10.1' },
    { dev: 'lo', local: true as const },
    { dev: 'eth1', broadcast: true as const },
  ])
    assert.equal(deviceOnLink(way), undefined)
})

test('routes and addresses of the pod network lead to pods, not to nodes', () => {
  const pods = [
    { dst: '10.244.1.0/24', hops: [{ dev: 'eth1', via: '192.168.10.102' }], metric: 0 },
    { dst: '10.244.2.0/24', hops: [{ dev: 'cni0' }], metric: 0 },
  ]
  const bridge = { ...vagrantHost.addresses[0]!, dev: 'cni0', cidr: '10.244.2.1/24' }
  const host = { routes: [...pods, ...routes], addresses: [...vagrantHost.addresses, bridge] }
  const own = ['127.0.0.1', 'fe80::74f8:c0ff:fe56:5dea', '192.168.10.101', '10.0.2.15']
  assert.deepEqual(underlayOf(host, '10.244.0.0/16'), { routes, addresses: own })
})
