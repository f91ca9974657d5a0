import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errandOf } from '#kernel/errand.ts'
import type { Item, Op } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { attachOps } from '#plan/pod.ts'

const pod: Attachment = {
  ...{ network: 'cbr0', containerId: 'abc', ifname: 'eth0', netns: '/run/netns/x', bridge: 'cni0', hairpin: true, mtu: 1450 },
  host: { name: 'veth1', mac: '02:00:00:00:00:01' },
  pod: { mac: '0a:58:0a:f4:01:05', addresses: ['10.244.1.5/24'] },
  gateways: ['10.244.1.1/24'],
  routes: [{ dst: '0.0.0.0/0', via: '10.244.1.1' }],
}
const index = (name: string): number | undefined => ({ cni0: 7 })[name]

/** `kind in-pod patches` of each step. */
function stepsOf(program: Uint8Array): string[] {
  const bytes = Buffer.from(program)
  const out: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const [kind, inPod, patches, length] = [bytes[at]!, bytes[at + 1]!, bytes.readUInt16BE(at + 2), bytes.readUInt32BE(at + 4)]
    const offsets = Array.from({ length: patches }, (_, i) => bytes.readUInt32BE(at + 8 + 4 * i))
    const body = bytes.subarray(at + 8 + 4 * patches, at + 8 + 4 * patches + length)
    assert.ok(offsets.every((offset) => body.readUInt32LE(offset) === 0x7ffffff1))
    out.push(`${['', 'home', 'netns', 'netlink', 'enter', 'index', 'sysctl'][kind]} ${inPod} ${patches}`)
    at += 8 + 4 * patches + length
  }
  return out
}

test('the ops of an ADD are one errand: the pod is entered once, the host end comes up last', () => {
  const errand = errandOf(attachOps(pod), index)!
  assert.deepEqual(stepsOf(errand.program), [
    'home 0 0',
    'netns 0 0',
    'netlink 0 1', // the pair, whose peer is born in the pod's namespace, and its place in the bridge
    'enter 0 0',
    'index 0 0',
    'netlink 1 0', // arp_notify
    'sysctl 0 0', // accept_dad
    'netlink 1 2', // address, up, route: two of them name the device
    'netlink 0 0', // the host end up
  ])
  assert.deepEqual(
    errand.left.map(({ item }) => item.kind === 'sysctl' && item.path),
    ['net/ipv6/conf/veth1/accept_ra'],
  )
})

test('a report is good when every step is there and none failed but a sysctl that does not exist', () => {
  const errand = errandOf(attachOps(pod), index)!
  const step = (errno: number, body = ''): string =>
    errno.toString(16).padStart(8, '0') + (body.length / 2).toString(16).padStart(8, '0') + body
  const report = (...steps: string[]): Uint8Array => Buffer.from(steps.join(''), 'hex')
  const good = Array.from({ length: 9 }, () => step(0))
  const table: [string, Uint8Array, boolean][] = [
    ['all done', report(...good), true],
    ['with answers of the kernel', report(...good.with(2, step(0, 'ff'.repeat(36)))), true],
    ['no IPv6 in this kernel', report(...good.with(6, step(2))), true],
    ['a sysctl that cannot be written', report(...good.with(6, step(13))), false],
    ['the name is taken', report(...good.slice(0, 2), step(17)), false],
    ['cut', report(...good).subarray(0, 70), false],
    ['nothing', report(), false],
    ['too much', report(...good, step(0)), false],
  ]
  for (const [what, bytes, want] of table) assert.equal(errand.done(bytes), want, what)
})

test('ops of another form are no errand', () => {
  const ops = attachOps(pod)
  const del = (item: Item): Op => ({ verb: 'del', item })
  const table: [string, readonly Op[]][] = [
    ['nothing', []],
    ['no pair first', ops.slice(1)],
    ['a deletion among them', [...ops, del(ops[0]!.item)]],
    ['a second pod', [...ops, { verb: 'put', item: { ...ops[5]!.item, netns: '/run/netns/y' } as Item }]],
    [
      'a device of the pod that is not its own',
      attachOps(pod).map((op) => (op.item.kind === 'address' ? { ...op, item: { ...op.item, dev: 'eth1' } } : op)),
    ],
    ['an item that rtnetlink does not carry', [...ops, { verb: 'put', item: { kind: 'nft-table', family: 'ip', table: 'x' } }]],
    ['an address with the word that stands for the unknown', attachOps({ ...pod, pod: { ...pod.pod, addresses: ['241.255.255.127/24'] } })],
  ]
  for (const [what, list] of table) assert.equal(errandOf(list, index), undefined, what)
  assert.equal(
    errandOf(ops, () => undefined),
    undefined,
    'no bridge of that name',
  )
})
