/** Codecs against the kernel and iproute2: what we encode, `ip` and `bridge` show; what they make, we decode as they show it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import type { Request } from '#wire/netlink.ts'
import { decodeAddress, deleteAddress, dumpAddresses, newAddress } from '#wire/rtnetlink/address.ts'
import { decodeLink, deleteLink, dumpLinks, getLink, type Link, newLink, setLink, setPort } from '#wire/rtnetlink/link.ts'
import { decodeNeighbor, deleteFdb, deleteNeighbor, dumpFdb, dumpNeighbors, replaceFdb, replaceNeighbor } from '#wire/rtnetlink/neighbor.ts'
import { decodeRoute, deleteRoute, dumpRoutes, replaceRoute } from '#wire/rtnetlink/route.ts'
import { decodeRule, dumpRules } from '#wire/rtnetlink/rule.ts'

sys.unshare(CLONE_NEWNET)
const socket = NetlinkSocket.open({ protocol: NETLINK_ROUTE })
after(() => socket.close())

type Json = Record<string, unknown>
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
const ip = (...args: string[]): Json[] => JSON.parse(run('ip', '-d', '-j', ...args) || '[]')
const bridge = (...args: string[]): Json[] => JSON.parse(run('bridge', '-d', '-j', ...args) || '[]')

async function send(...requests: Request[]): Promise<void> {
  const replies = await socket.request(requests)
  assert.deepEqual(
    replies.map(({ errno, message }) => ({ errno, message })),
    replies.map(() => ({ errno: 0, message: undefined })),
  )
}
async function link(name: string): Promise<Link> {
  const [reply] = await socket.request([getLink(name)])
  return decodeLink(reply!.messages[0]!)
}

run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'switch')
for (const dev of ['lo', 'eth1', 'switch']) run('ip', 'link', 'set', dev, 'up')
run('ip', 'address', 'add', '192.168.10.101/24', 'dev', 'eth1')

test('a vxlan device is Flannel’s, attribute for attribute', async () => {
  const { index: uplink } = await link('eth1')
  const vxlan = { vni: 1, port: 8472, local: '192.168.10.101', uplink, learning: false, gbp: false }
  await send(newLink({ name: 'flannel.1', kind: 'vxlan', mac: '8a:75:43:39:9c:7b', up: true, mtu: 1450, vxlan }))
  const [seen] = ip('link', 'show', 'flannel.1') as [Json & { linkinfo: Json }]
  // golden/flannel-v0.27.1/vxlan-iptables/k8s-w1/link.json, less the indexes.
  assert.deepEqual(seen.linkinfo, {
    info_kind: 'vxlan',
    info_data: {
      id: 1,
      local: '192.168.10.101',
      link: 'eth1',
      port_range: { low: 0, high: 0 },
      port: 8472,
      learning: false,
      ttl: 0,
      df: 'unset',
      ageing: 300,
      udp_csum: true,
      udp_zero_csum6_tx: false,
      udp_zero_csum6_rx: false,
    },
  })
  const { mtu, address, flags, qdisc, group, txqlen } = seen
  assert.deepEqual(
    { mtu, address, flags, qdisc, group, txqlen },
    {
      mtu: 1450,
      address: '8a:75:43:39:9c:7b',
      flags: ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'],
      qdisc: 'noqueue',
      group: 'default',
      txqlen: undefined,
    },
  )
  const decoded = await link('flannel.1')
  assert.deepEqual(decoded.vxlan, vxlan)
  assert.deepEqual(
    [decoded.name, decoded.mac, decoded.mtu, decoded.up, decoded.kind],
    ['flannel.1', '8a:75:43:39:9c:7b', 1450, true, 'vxlan'],
  )
})

test('GBP, learning and an IPv6 underlay', async () => {
  const { index: uplink } = await link('eth1')
  const vxlan = { vni: 7, port: 4789, local: '2001:db8::1', uplink, learning: true, gbp: true }
  await send(newLink({ name: 'flannel-v6.7', kind: 'vxlan', mac: '8a:75:43:39:9c:7d', up: false, vxlan }))
  const [seen] = ip('link', 'show', 'flannel-v6.7') as [{ linkinfo: { info_data: Json } }]
  const { id, local6, port, learning, gbp } = seen.linkinfo.info_data
  assert.deepEqual({ id, local6, port, learning, gbp }, { id: 7, local6: '2001:db8::1', port: 4789, learning: true, gbp: true })
  assert.deepEqual((await link('flannel-v6.7')).vxlan, vxlan)
  await send(deleteLink('flannel-v6.7'))
})

test('a bridge, a veth pair, a port with hairpin', async () => {
  await send(newLink({ name: 'cni0', kind: 'bridge', mac: '22:5c:71:ce:7d:df', up: true }))
  const cni0 = await link('cni0')
  await send(
    newLink({
      name: 'veth0',
      kind: 'veth',
      mac: '02:00:00:00:00:0a',
      up: true,
      mtu: 1450,
      peer: { name: 'p0', mac: '02:00:00:00:00:0b', mtu: 1400 },
    }),
    setLink('p0', { up: true }),
    setLink('veth0', { master: cni0.index }),
  )
  const veth = await link('veth0')
  await send(setPort('veth0', { hairpin: true }))
  const [seen] = ip('link', 'show', 'veth0') as [Json & { linkinfo: { info_slave_data: Json } }]
  assert.deepEqual([seen.address, seen.mtu, seen.master, seen.linkinfo.info_slave_data.hairpin], ['02:00:00:00:00:0a', 1450, 'cni0', true])
  const peer = await link('p0')
  assert.deepEqual([peer.mac, peer.mtu, peer.peer, (await link('veth0')).peer], ['02:00:00:00:00:0b', 1400, veth.index, peer.index])
  const port = await link('veth0')
  assert.deepEqual([port.master, port.hairpin], [cni0.index, true])
  run('bridge', 'link', 'set', 'dev', 'veth0', 'hairpin', 'off')
  assert.equal((await link('veth0')).hairpin, false)
  await send(setLink('veth0', { master: 0, mtu: 1300, mac: '02:00:00:00:00:0c', group: 77 }))
  const moved = await link('veth0')
  assert.deepEqual([moved.master, moved.mtu, moved.mac, moved.group], [undefined, 1300, '02:00:00:00:00:0c', 77])
})

test('every link is decoded as ip shows it', async () => {
  const decoded = (await socket.dump(dumpLinks)).map(decodeLink)
  const seen = ip('link') as {
    ifindex: number
    ifname: string
    mtu: number
    address: string
    flags: string[]
    linkinfo?: { info_kind?: string }
  }[]
  assert.deepEqual(
    decoded.map(({ index, name, mtu, mac, up, kind }) => ({ index, name, mtu, mac, up, kind })).toSorted((a, b) => a.index - b.index),
    seen
      .map(({ ifindex, ifname, mtu, address, flags, linkinfo }) => ({
        index: ifindex,
        name: ifname,
        mtu,
        mac: address,
        up: flags.includes('UP'),
        kind: linkinfo?.info_kind,
      }))
      .toSorted((a, b) => a.index - b.index),
  )
})

test('addresses: scope global, the device’s label, no duplicate detection', async () => {
  const { index } = await link('cni0')
  await send(
    newAddress({ index, cidr: '10.244.1.1/24', broadcast: '10.244.1.255' }),
    newAddress({ index, cidr: '10.244.9.0/32' }),
    newAddress({ index, cidr: 'fd00:10:244:1::1/64' }),
  )
  const [seen] = ip('address', 'show', 'cni0') as [{ addr_info: Json[] }]
  const shown = seen.addr_info.filter(({ scope }) => scope === 'global')
  assert.deepEqual(
    shown.map(({ local, prefixlen, broadcast, scope, label, nodad }) => ({ local, prefixlen, broadcast, scope, label, nodad })),
    [
      { local: '10.244.1.1', prefixlen: 24, broadcast: '10.244.1.255', scope: 'global', label: 'cni0', nodad: undefined },
      { local: '10.244.9.0', prefixlen: 32, broadcast: undefined, scope: 'global', label: 'cni0', nodad: undefined },
      { local: 'fd00:10:244:1::1', prefixlen: 64, broadcast: undefined, scope: 'global', label: undefined, nodad: true },
    ],
  )
  const decoded = (await socket.dump(dumpAddresses(index))).map(decodeAddress)
  assert.ok(decoded.every((address) => address?.index === index))
  assert.deepEqual(
    decoded.filter((address) => address?.scope === 'global').map((address) => [address?.cidr, address?.broadcast, address?.permanent]),
    [
      ['10.244.1.1/24', '10.244.1.255', true],
      ['10.244.9.0/32', undefined, true],
      ['fd00:10:244:1::1/64', undefined, true],
    ],
  )
  run('ip', 'address', 'add', '10.99.0.1/24', 'dev', 'cni0', 'valid_lft', '100', 'preferred_lft', '50')
  const lease = (await socket.dump(dumpAddresses(index))).map(decodeAddress).find((address) => address?.cidr === '10.99.0.1/24')
  assert.equal(lease?.permanent, false)
  await send(deleteAddress({ index, cidr: '10.244.9.0/32' }), deleteAddress({ index, cidr: '10.99.0.1/24' }))
})

test('routes, both families', async () => {
  const { index: tunnel } = await link('flannel.1')
  const { index: cni0 } = await link('cni0')
  await send(
    replaceRoute({ dst: '10.244.2.0/24', via: '10.244.2.0', index: tunnel, onlink: true, protocol: 84 }),
    replaceRoute({ dst: '10.245.0.0/16', index: tunnel, scope: 'link', protocol: 3 }),
    replaceRoute({ dst: '10.244.0.0/16', type: 'blackhole', protocol: 84 }),
    replaceRoute({ dst: '0.0.0.0/0', via: '192.168.10.1', protocol: 3 }),
    replaceRoute({ dst: 'fd00:10:244:2::/64', via: 'fd00:10:244:1::9', index: cni0, protocol: 84 }),
  )
  run('ip', 'route', 'add', '10.77.0.0/16', 'nexthop', 'via', '192.168.10.3', 'nexthop', 'via', '192.168.10.4', 'weight', '2')
  const routes4 = ip('-4', 'route', 'show', 'proto', '84').map(({ type, dst, gateway, dev, flags }) => ({ type, dst, gateway, dev, flags }))
  assert.deepEqual(routes4, [
    { type: 'blackhole', dst: '10.244.0.0/16', gateway: undefined, dev: undefined, flags: [] },
    { type: 'unicast', dst: '10.244.2.0/24', gateway: '10.244.2.0', dev: 'flannel.1', flags: ['onlink'] },
  ])
  const [direct] = ip('-4', 'route', 'show', '10.245.0.0/16')
  assert.deepEqual([direct!.scope, direct!.protocol], ['link', 'boot'])
  const [six] = ip('-6', 'route', 'show', 'proto', '84')
  assert.deepEqual([six!.dst, six!.gateway, six!.dev, six!.metric], ['fd00:10:244:2::/64', 'fd00:10:244:1::9', 'cni0', 1024])

  const four = (await socket.dump(dumpRoutes(4))).map(decodeRoute)
  const of = (dst: string) => four.find((route) => route?.dst === dst)
  assert.ok(four.every((route) => route?.table === 254))
  assert.deepEqual(of('10.244.2.0/24')?.hops, [{ index: tunnel, via: '10.244.2.0' }])
  assert.deepEqual([of('10.244.2.0/24')?.onlink, of('10.244.2.0/24')?.protocol, of('10.244.2.0/24')?.metric], [true, 84, 0])
  assert.deepEqual([of('10.245.0.0/16')?.scopeLink, of('10.244.0.0/16')?.type], [true, 'blackhole'])
  assert.deepEqual(of('0.0.0.0/0')?.hops[0]?.via, '192.168.10.1')
  assert.deepEqual(
    of('10.77.0.0/16')?.hops.map(({ via }) => via),
    ['192.168.10.3', '192.168.10.4'],
  )
  assert.deepEqual([of('192.168.10.0/24')?.src, of('192.168.10.0/24')?.protocol], ['192.168.10.101', 2])
  const sixth = (await socket.dump(dumpRoutes(6))).map(decodeRoute).find((route) => route?.dst === 'fd00:10:244:2::/64')
  assert.deepEqual([sixth?.metric, sixth?.hops], [1024, [{ index: cni0, via: 'fd00:10:244:1::9' }]])

  await send(
    deleteRoute({ dst: '10.244.2.0/24', via: '10.244.2.0', index: tunnel, protocol: 84 }),
    deleteRoute({ dst: '10.245.0.0/16', index: tunnel, protocol: 3 }),
    deleteRoute({ dst: '10.244.0.0/16', protocol: 84 }),
    deleteRoute({ dst: 'fd00:10:244:2::/64', via: 'fd00:10:244:1::9', index: cni0, protocol: 84 }),
  )
  const [reply] = await socket.request([deleteRoute({ dst: '0.0.0.0/0', via: '192.168.10.1', protocol: 84 })])
  assert.equal(reply!.errno, 3, 'a default route of another protocol is not ours to delete')
})

test('neighbors and FDB entries', async () => {
  const { index } = await link('flannel.1')
  const mac = '16:e4:eb:80:b9:7e'
  await send(
    replaceNeighbor({ index, ip: '10.244.2.0', mac }),
    replaceNeighbor({ index, ip: 'fd00:10:244:2::', mac }),
    replaceFdb({ index, mac, ip: '192.168.10.102' }),
  )
  const neighbors = ip('neigh', 'show', 'nud', 'permanent', 'dev', 'flannel.1').map(({ dst, lladdr, state }) => ({ dst, lladdr, state }))
  assert.deepEqual(
    neighbors.toSorted((a, b) => (String(a.dst) < String(b.dst) ? -1 : 1)),
    [
      { dst: '10.244.2.0', lladdr: mac, state: ['PERMANENT'] },
      { dst: 'fd00:10:244:2::', lladdr: mac, state: ['PERMANENT'] },
    ],
  )
  const fdb = bridge('fdb', 'show', 'dev', 'flannel.1').map(({ mac, dst, flags, state }) => ({ mac, dst, flags, state }))
  assert.deepEqual(fdb, [{ mac, dst: '192.168.10.102', flags: ['self'], state: 'permanent' }])
  const entry = { index, permanent: true, mac }
  const listed = (await socket.dump(dumpNeighbors(index))).map(decodeNeighbor)
  // The kernel's own entries for multicast come and go.
  const decoded = listed.filter((neighbor) => neighbor.permanent).toSorted((a, b) => (a.ip! < b.ip! ? -1 : 1))
  assert.deepEqual(decoded, [
    { fdb: false, self: false, ...entry, ip: '10.244.2.0' },
    { fdb: false, self: false, ...entry, ip: 'fd00:10:244:2::' },
  ])
  assert.deepEqual((await socket.dump(dumpFdb(index))).map(decodeNeighbor), [{ fdb: true, self: true, ...entry, ip: '192.168.10.102' }])
  await send(replaceFdb({ index, mac, ip: '192.168.10.103' }), deleteNeighbor({ index, ip: '10.244.2.0' }))
  assert.deepEqual(
    bridge('fdb', 'show', 'dev', 'flannel.1').map(({ dst }) => dst),
    ['192.168.10.103'],
  )
  await send(deleteFdb({ index, mac }))
  assert.deepEqual(bridge('fdb', 'show', 'dev', 'flannel.1'), [])
})

test('rules', async () => {
  run('ip', 'rule', 'add', 'from', '10.244.0.0/16', 'iif', 'eth1', 'fwmark', '0x4000/0xf000', 'lookup', '300', 'priority', '99')
  const seen = ip('rule').map(({ priority }) => priority)
  const decoded = (await socket.dump(dumpRules(4))).map(decodeRule)
  assert.deepEqual(
    decoded.map(({ priority }) => priority),
    seen,
  )
  assert.deepEqual(
    decoded.find(({ priority }) => priority === 99),
    { priority: 99, table: 300, src: '10.244.0.0/16', iif: 'eth1', fwmark: 0x4000, fwmask: 0xf000 },
  )
})

test('an interface name that does not fit is refused before the kernel sees it', () => {
  assert.throws(() => getLink('sixteen-letters!'), { code: 'ERR_FIELD_TOO_LONG' })
})

test('the kernel’s own words come back with a refusal', async () => {
  const [reply] = await socket.request([newLink({ name: 'x0', kind: 'no-such' as 'veth', mac: '02:00:00:00:00:01', up: false })])
  assert.deepEqual([reply!.errno, reply!.message], [95, 'Unknown device type'])
})
