import assert from 'node:assert/strict'
import { test } from 'node:test'
import { vagrantHost } from '#plan/testing.ts'
import { underlayRoutes, waysOf } from '#plan/ways.ts'

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
  { name: 'no address', ip: 'k8s-w1', want: undefined },
]
for (const { name, ip, want } of cases) test(`way to a node: ${name}`, () => assert.deepEqual(waysOf(routes)(ip), want))

test('routes of the pod network lead to pods, not to nodes', () => {
  const pods = [
    { dst: '10.244.1.0/24', hops: [{ dev: 'eth1', via: '192.168.10.102' }], metric: 0 },
    { dst: '10.244.2.0/24', hops: [{ dev: 'cni0' }], metric: 0 },
  ]
  assert.deepEqual(underlayRoutes([...pods, ...routes], '10.244.0.0/16'), routes)
})
