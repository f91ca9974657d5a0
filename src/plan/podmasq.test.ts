import assert from 'node:assert/strict'
import { test } from 'node:test'
import { show, showOp } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { attachOps, detachOps, podItems } from '#plan/pod.ts'
import { masqSubnets, podMasqBase } from '#plan/podmasq.ts'

const pod: Attachment = {
  network: 'a',
  containerId: 'x',
  ifname: 'eth0',
  netns: '/run/netns/x',
  bridge: 'br0',
  hairpin: false,
  masquerade: true,
  mtu: 1400,
  host: { name: 'veth1', mac: '02:00:00:00:00:01' },
  pod: { mac: '0a:58:0a:01:00:05', addresses: ['10.1.0.5/24', '2001:db8::5/64'] },
  gateways: [],
  routes: [],
}
const { masquerade: _, ...without } = pod

test('each subnet once, of pods with ipMasq only', () => {
  assert.deepEqual(masqSubnets([pod, { ...pod, containerId: 'y' }, { ...without, pod: { ...pod.pod, addresses: ['10.9.0.5/24'] } }]), [
    '10.1.0.0/24',
    '2001:db8::/64',
  ])
})

test('the rules are as many as subnets, not as pods', () => {
  const chains = podMasqBase(masqSubnets([pod])).filter(({ kind }) => kind === 'nft-chain')
  assert.deepEqual(chains.map(show), [
    'chain inet twill podmasq-out { ip saddr 10.1.0.0/24 ip daddr 10.1.0.0/24 return; ip6 saddr 2001:db8::/64 ip6 daddr 2001:db8::/64 return; ip daddr != 224.0.0.0/4 masquerade; ip6 daddr != ff00::/8 masquerade; }',
    'chain inet twill podmasq { type nat hook postrouting priority 100; policy accept; ip saddr @podmasq-ipv4 jump podmasq-out; ip6 saddr @podmasq-ipv6 jump podmasq-out; }',
  ])
})

test('a pod brings its elements, keeps them, and takes them along', () => {
  const mine = (lines: string[]): string[] => lines.filter((line) => line.includes('podmasq'))
  const elements = ['element inet twill podmasq-ipv4 { 10.1.0.5 }', 'element inet twill podmasq-ipv6 { 2001:db8::5 }']
  const puts = elements.map((line) => `put ${line}`)
  assert.deepEqual(mine(attachOps(pod).map(showOp)), puts)
  assert.deepEqual(mine(podItems(pod).map(show)), elements)
  assert.deepEqual(
    mine(detachOps(pod).map(showOp)),
    elements.map((line) => `del ${line}`),
  )
  assert.deepEqual(mine([...attachOps(without), ...detachOps(without)].map(showOp)), [])
})
