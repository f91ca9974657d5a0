import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HostView } from '#model/kernel.ts'
import { alternatives, chooseInterface, type InterfaceWish, usableAddresses } from '#plan/interface.ts'
import { vagrantHost } from '#plan/testing.ts'

const none: InterfaceWish = { family: 4, iface: [], regex: [], publicIp: '' }
const cases: { name: string; wish: Partial<InterfaceWish>; want?: [string, string, string]; misses?: RegExp[] }[] = [
  { name: 'nothing given: the default route', wish: {}, want: ['eth0', '10.0.2.15', '10.0.2.15'] },
  { name: 'by name', wish: { iface: ['eth1'] }, want: ['eth1', '192.168.10.101', '192.168.10.101'] },
  { name: 'by address', wish: { iface: ['192.168.10.101'] }, want: ['eth1', '192.168.10.101', '192.168.10.101'] },
  {
    name: 'the first that matches',
    wish: { iface: ['eth9', 'eth1'] },
    want: ['eth1', '192.168.10.101', '192.168.10.101'],
    misses: [/no interface is named eth9/],
  },
  { name: 'a regex on addresses, before names', wish: { regex: [/^192\.168/] }, want: ['eth1', '192.168.10.101', '192.168.10.101'] },
  { name: 'a regex on names', wish: { regex: [/^eth/] }, want: ['eth1', '192.168.10.101', '192.168.10.101'] },
  {
    name: 'each iface before any regex',
    wish: { iface: ['eth0'], regex: [/^192/] },
    want: ['eth0', '10.0.2.15', '10.0.2.15'],
  },
  {
    name: 'what a route lookup gives',
    wish: { canReach: { target: '192.168.10.1', dev: 'eth1', src: '192.168.10.101' } },
    want: ['eth1', '192.168.10.101', '192.168.10.101'],
  },
  { name: 'the holder of the public IP', wish: { publicIp: '192.168.10.101' }, want: ['eth1', '192.168.10.101', '192.168.10.101'] },
  {
    name: 'a public IP that nobody holds: NAT',
    wish: { publicIp: '203.0.113.7' },
    want: ['eth0', '10.0.2.15', '203.0.113.7'],
    misses: [/no interface has the address 203.0.113.7/],
  },
  {
    name: 'iface with another public IP',
    wish: { iface: ['eth1'], publicIp: '203.0.113.7' },
    want: ['eth1', '192.168.10.101', '203.0.113.7'],
  },
  {
    name: 'nothing matches: no falling back to the default route',
    wish: { iface: ['eth9'], regex: [/^wlan/], canReach: { target: '192.0.2.1' } },
    misses: [/eth9/, /no address and no name matches \^wlan among lo:\[\], eth1:\[192.168.10.101\], eth0/, /no route leads to 192.0.2.1/],
  },
  { name: 'loopback has no usable address', wish: { iface: ['lo'] }, misses: [/lo \(--iface=lo\) has no usable IPv4 address/] },
]
for (const { name, wish, want, misses = [] } of cases) {
  test(`interface: ${name}`, () => {
    const choice = chooseInterface({ ...none, ...wish }, vagrantHost)
    assert.deepEqual(choice.uplink && [choice.uplink.name, choice.uplink.address, choice.uplink.publicIp], want)
    assert.equal(choice.misses.length, misses.length)
    for (const [i, miss] of misses.entries()) assert.match(choice.misses[i]!, miss)
  })
}

test('a multipath default route gives its first hop; of several the lowest metric wins', () => {
  const host: HostView = {
    ...vagrantHost,
    routes: [
      { dst: '0.0.0.0/0', hops: [{ dev: 'eth0', via: '10.0.2.2' }], metric: 200 },
      {
        dst: '0.0.0.0/0',
        hops: [
          { dev: 'eth1', via: '192.168.10.1' },
          { dev: 'eth0', via: '10.0.2.2' },
        ],
        metric: 100,
      },
    ],
  }
  assert.equal(chooseInterface(none, host).uplink?.name, 'eth1')
})

test('addresses: global before link-local, permanent before leased, temporary last, deprecated never', () => {
  const address = { dev: 'eth1', scope: 'global', permanent: true, temporary: false, deprecated: false } as const
  const host: HostView = {
    ...vagrantHost,
    addresses: [
      { ...address, cidr: '169.254.1.1/16', scope: 'link' },
      { ...address, cidr: '192.168.10.1/24', permanent: false },
      { ...address, cidr: '192.168.10.2/24', temporary: true },
      { ...address, cidr: '192.168.10.3/24', deprecated: true },
      { ...address, cidr: '192.168.10.4/24' },
    ],
  }
  assert.deepEqual(usableAddresses(host, 'eth1', 4), ['192.168.10.4', '192.168.10.2', '192.168.10.1', '169.254.1.1'])
})

test('what --iface could name instead', () => {
  assert.deepEqual(alternatives(vagrantHost, 'eth0', 4), [{ dev: 'eth1', address: '192.168.10.101' }])
})
