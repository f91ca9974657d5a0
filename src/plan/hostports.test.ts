import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Item, show } from '#model/kernel.ts'
import type { PodPorts } from '#model/pod.ts'
import { hostPortBase, hostPortItems } from '#plan/hostports.ts'
import { serviceBase } from '#plan/services.ts'

const pod = (id: string, more: Partial<PodPorts> = {}): PodPorts => ({
  network: 'cbr0',
  containerId: id,
  ifname: 'eth0',
  podName: `default/${id}`,
  addresses: ['10.244.1.5/24'],
  dev: 'cni0',
  mappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  masquerade: 'near',
  ...more,
})
const lines = (...pods: PodPorts[]): Record<string, string[]> =>
  Object.fromEntries(
    [...hostPortItems(pods)].map(([owner, items]) => [owner, items.map((item) => show(item).replace('element inet twill ', ''))]),
  )
const localnet = 'sysctl net/ipv4/conf/cni0/route_localnet=1'

const cases: readonly { name: string; pod: Partial<PodPorts>; want: string[] }[] = [
  {
    name: 'a port of any address of the node',
    pod: {},
    want: ['hostport-any-ipv4 { tcp . 8080 : goto hostport-near }', 'hostport-any-to-ipv4 { tcp . 8080 : 10.244.1.5 . 80 }', localnet],
  },
  {
    name: 'a hostIP, and no masquerade',
    pod: {
      masquerade: 'none',
      mappings: [{ hostPort: 53, containerPort: 5353, protocol: 'udp', hostIp: '192.168.10.1' }],
    },
    want: [
      'hostport-ipv4 { 192.168.10.1 . udp . 53 : goto hostport-dnat }',
      'hostport-to-ipv4 { 192.168.10.1 . udp . 53 : 10.244.1.5 . 5353 }',
      'flows udp 192.168.10.1 . 53 lead to 10.244.1.5 . 5353',
    ],
  },
  {
    name: 'both families; :: is any address of IPv6 only',
    pod: {
      addresses: ['10.244.1.5/24', 'fd00:10:0:1::5/64'],
      masquerade: 'all',
      mappings: [
        { hostPort: 1, containerPort: 2, protocol: 'sctp', hostIp: '::' },
        { hostPort: 3, containerPort: 4, protocol: 'tcp' },
      ],
    },
    want: [
      'hostport-any-ipv4 { tcp . 3 : goto hostport-all }',
      'hostport-any-to-ipv4 { tcp . 3 : 10.244.1.5 . 4 }',
      'hostport-any-ipv6 { sctp . 1 : goto hostport-all }',
      'hostport-any-to-ipv6 { sctp . 1 : fd00:10:0:1::5 . 2 }',
      'hostport-any-ipv6 { tcp . 3 : goto hostport-all }',
      'hostport-any-to-ipv6 { tcp . 3 : fd00:10:0:1::5 . 4 }',
      localnet,
    ],
  },
  {
    name: 'an address of the other family leads nowhere',
    pod: { mappings: [{ hostPort: 1, containerPort: 2, protocol: 'tcp', hostIp: 'fd00::1' }] },
    want: [localnet],
  },
  {
    name: 'of two mappings of one port the first counts',
    pod: {
      mappings: [
        { hostPort: 1, containerPort: 2, protocol: 'tcp' },
        { hostPort: 1, containerPort: 3, protocol: 'tcp' },
      ],
    },
    want: ['hostport-any-ipv4 { tcp . 1 : goto hostport-near }', 'hostport-any-to-ipv4 { tcp . 1 : 10.244.1.5 . 2 }', localnet],
  },
]
for (const { name, pod: more, want } of cases) {
  test(`hostPorts: ${name}`, () => assert.deepEqual(lines(pod('a', more)), { 'pod default/a a eth0 hostports': want }))
}

test('of two pods with one hostPort the later has it, until it goes', () => {
  const older = pod('a')
  const newer = pod('b', { addresses: ['10.244.1.6/24'] })
  const both = lines(older, newer)
  assert.deepEqual(both['pod default/a a eth0 hostports'], [localnet])
  assert.equal(both['pod default/b b eth0 hostports']![1], 'hostport-any-to-ipv4 { tcp . 8080 : 10.244.1.6 . 80 }')
  assert.equal(lines(older)['pod default/a a eth0 hostports']![1], 'hostport-any-to-ipv4 { tcp . 8080 : 10.244.1.5 . 80 }')
})

test('the near subnets never overlap', () => {
  const near = (...cidrs: string[]): string[] =>
    hostPortBase([pod('a', { addresses: cidrs })]).flatMap((item) =>
      item.kind === 'nft-element' && item.map.startsWith('hostport-near') ? item.key : [],
    )
  assert.deepEqual(near('10.244.1.5/24', '10.244.1.6/24', '10.244.0.9/16', 'fd00::1/64'), ['10.244.0.0/16', '127.0.0.1', 'fd00::/64'])
  assert.deepEqual(near('127.0.0.9/8', '10.0.0.1/32'), ['127.0.0.0/8', '10.0.0.1'])
})

test('services are asked first on every hook that changes destinations (CVE-2019-9946)', () => {
  const priorities = (items: readonly Item[], hook: string): number[] =>
    items.flatMap((item) => (item.kind === 'nft-chain' && item.base?.type === 'nat' && item.base.hook === hook ? [item.base.priority] : []))
  for (const hook of ['prerouting', 'output']) {
    const [[service], [hostPort]] = [priorities(serviceBase(), hook), priorities(hostPortBase([]), hook)]
    assert.ok(service! < hostPort!, hook)
    assert.ok(hostPort! > -100, "and kube-proxy's, which are at -100")
  }
})
