import assert from 'node:assert/strict'
import { test } from 'node:test'
import { show, showOp } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { attachOps, bridgeItems, detachOps, macOfIp, podItems, podOwner } from '#plan/pod.ts'

const pod: Attachment = {
  network: 'cbr0',
  containerId: '2de181e7ba65d8330ee46fd397f07e856ddc97e7e0666af7bfcff5805534858b',
  ifname: 'eth0',
  podName: 'default/web',
  netns: '/run/netns/x',
  bridge: 'cni0',
  hairpin: true,
  mtu: 1450,
  host: { name: 'veth1a2b3c4d', mac: '02:00:00:00:00:01' },
  pod: { mac: '0a:58:0a:f4:01:05', addresses: ['10.244.1.5/24'] },
  gateways: ['10.244.1.1/24'],
  routes: [
    { dst: '10.244.0.0/16', via: '10.244.1.1' },
    { dst: '0.0.0.0/0', via: '10.244.1.1' },
  ],
}

test('a bridge is what the reference plugin makes of cni0', () => {
  assert.deepEqual(bridgeItems({ name: 'cni0', mac: '0a:58:0a:f4:01:01', mtu: 1450, gateways: ['10.244.1.1/24'] }).map(show), [
    'link cni0 type bridge address 0a:58:0a:f4:01:01 mtu 1450 up',
    'sysctl net/ipv6/conf/cni0/accept_ra=0',
    'address 10.244.1.1/24 brd 10.244.1.255 dev cni0',
    'sysctl net/ipv4/ip_forward=1',
  ])
  assert.deepEqual(bridgeItems({ name: 'br9', mac: '0a:58:00:00:00:01', mtu: 0, gateways: ['2001:db8::1/64'] }).map(show), [
    'link br9 type bridge address 0a:58:00:00:00:01 up',
    'sysctl net/ipv6/conf/br9/accept_ra=0',
    'address 2001:db8::1/64 dev br9',
    'sysctl net/ipv6/conf/all/forwarding=1',
  ])
})

test('ADD in order: the pair, its port, sysctls, addresses, and only then the ends come up, the host end last', () => {
  assert.deepEqual(attachOps(pod).map(showOp), [
    'put link veth1a2b3c4d type veth address 02:00:00:00:00:01 mtu 1450 down',
    'put port veth1a2b3c4d master cni0 hairpin on',
    'put sysctl net/ipv6/conf/veth1a2b3c4d/accept_ra=0',
    'put netns /run/netns/x sysctl net/ipv4/conf/eth0/arp_notify=1',
    'put netns /run/netns/x sysctl net/ipv6/conf/eth0/accept_dad=0',
    'put netns /run/netns/x address 10.244.1.5/24 brd 10.244.1.255 dev eth0',
    'put netns /run/netns/x link eth0 type veth up',
    'put netns /run/netns/x route 10.244.0.0/16 via 10.244.1.1 dev eth0 proto 3',
    'put netns /run/netns/x route default via 10.244.1.1 dev eth0 proto 3',
    'put link veth1a2b3c4d type veth address 02:00:00:00:00:01 mtu 1450 up',
  ])
  const first = attachOps(pod)[0]!.item
  assert.deepEqual(first.kind === 'link' && first.peer, { name: 'eth0', netns: '/run/netns/x', mac: '0a:58:0a:f4:01:05', mtu: 1450 })
})

test('where the MTU is too small for IPv6, nothing of it is set', () => {
  const bridge = bridgeItems({ name: 'cni0', mac: '0a:58:0a:f4:01:01', mtu: 1250, gateways: ['10.244.1.1/24'] })
  const lines = [...bridge.map(show), ...attachOps({ ...pod, mtu: 1250 }).map(showOp)]
  assert.deepEqual(
    lines.filter((line) => line.includes('ipv6')),
    [],
  )
})

test('an IPv6 address brings its sysctls; options of the bridge plugin show in what they set', () => {
  const dual: Attachment = {
    ...pod,
    mtu: 0,
    pod: { ...pod.pod, addresses: ['10.244.1.5/24', '2001:db8:1::5/64'] },
    gateways: ['10.244.1.1/24', '2001:db8:1::1/64'],
    routes: [
      { dst: '10.244.0.0/16', via: '10.244.1.1' },
      { dst: '2001:db8::/56', via: '2001:db8:1::1', metric: 7 },
      { dst: '192.0.2.0/24', via: '10.244.1.9' },
    ],
  }
  const lines = attachOps(dual).map(showOp)
  assert.deepEqual(
    lines.filter((line) => /keep_addr|disable_ipv6|route/.test(line)),
    [
      'put netns /run/netns/x sysctl net/ipv6/conf/lo/disable_ipv6=0',
      'put netns /run/netns/x sysctl net/ipv6/conf/eth0/disable_ipv6=0',
      'put netns /run/netns/x sysctl net/ipv6/conf/eth0/keep_addr_on_down=1',
      'put netns /run/netns/x route 10.244.0.0/16 via 10.244.1.1 dev eth0 proto 3',
      'put netns /run/netns/x route 2001:db8::/56 via 2001:db8:1::1 dev eth0 proto 3 metric 7',
      'put netns /run/netns/x route 192.0.2.0/24 via 10.244.1.9 dev eth0 proto 3',
    ],
  )
  assert.ok(lines.includes('put netns /run/netns/x address 2001:db8:1::5/64 dev eth0'))
  assert.ok(lines.every((line) => !line.includes('mtu')))
  const optional = attachOps({ ...dual, isolated: true, dad: true, containerDown: true }).map(showOp)
  assert.deepEqual(
    optional.filter((line) => !lines.includes(line)),
    [
      'put port veth1a2b3c4d master cni0 hairpin on isolated',
      'put netns /run/netns/x sysctl net/ipv6/conf/eth0/enhanced_dad=1',
      'put netns /run/netns/x sysctl net/ipv6/conf/eth0/accept_dad=1',
    ],
  )
  assert.ok(!optional.includes('put netns /run/netns/x link eth0 type veth up'))
  assert.equal(
    show(bridgeItems({ name: 'cni0', mac: '0a:58:0a:f4:01:01', mtu: 0, gateways: [], promisc: true })[0]!),
    'link cni0 type bridge address 0a:58:0a:f4:01:01 promisc up',
  )
})

test('DEL needs no namespace; the host end and its port are what is kept repaired', () => {
  assert.deepEqual(detachOps(pod).map(showOp), ['del link veth1a2b3c4d type veth down'])
  assert.deepEqual(podItems(pod).map(show), [
    'link veth1a2b3c4d type veth address 02:00:00:00:00:01 mtu 1450 up',
    'port veth1a2b3c4d master cni0 hairpin on',
  ])
})

test('broadcast addresses at the edges, owners, MACs', () => {
  const brd = (cidr: string) =>
    bridgeItems({ name: 'b', mac: '', mtu: 0, gateways: [cidr] })
      .map(show)
      .find((line) => line.startsWith('address'))
  assert.equal(brd('10.0.0.1/30'), 'address 10.0.0.1/30 brd 10.0.0.3 dev b')
  assert.equal(brd('10.0.0.1/31'), 'address 10.0.0.1/31 dev b')
  assert.equal(brd('10.7.9.1/17'), 'address 10.7.9.1/17 brd 10.7.127.255 dev b')
  assert.equal(podOwner(pod), 'pod default/web 2de181e7ba65 eth0')
  assert.equal(podOwner({ containerId: 'cnitool-0a', ifname: 'net1' }), 'pod cnitool-0a net1')
  assert.equal(macOfIp('10.244.1.5'), '0a:58:0a:f4:01:05')
  assert.equal(macOfIp('2001:db8::1:5'), '0a:58:00:01:00:05')
})
