import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Item, show } from '#model/kernel.ts'
import { possibleWith } from '#plan/features.ts'

const items: readonly Item[] = [
  { kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' },
  { kind: 'sysctl', path: 'net/ipv6/conf/cni0/accept_ra', value: '0' },
  { kind: 'flows', memory: 'conntrack', protocol: 'udp', ip: '10.96.0.10', port: 53, targets: [] },
  {
    kind: 'flows',
    memory: { family: 'inet', table: 'twill', map: 'affinity-ipv4' },
    protocol: 'udp',
    ip: '10.96.0.10',
    port: 53,
    targets: [],
  },
]

for (const [lacking, left] of [
  [undefined, [0, 1, 2, 3]],
  ['ipv6', [0, 2, 3]],
  ['conntrack-list', [0, 1, 3]],
  ['large-buffers', [0, 1, 2, 3]],
] as const) {
  test(`a kernel that lacks ${lacking ?? 'nothing'}`, () => {
    const features = ['ipv6', 'conntrack-list', 'large-buffers'].map((name) => ({
      name,
      what: name,
      present: name !== lacking,
      otherwise: 'it is done without',
    }))
    assert.deepEqual(
      items.filter(possibleWith(features)).map(show),
      left.map((i) => show(items[i]!)),
    )
  })
}
