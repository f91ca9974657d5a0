import assert from 'node:assert/strict'
import { test } from 'node:test'
import { show } from '#model/kernel.ts'
import { nodeItems } from '#plan/node.ts'
import { selfOf, vxlan } from '#plan/testing.ts'

const flags = { 'subnet-file': '/run/flannel/subnet.env', 'ip-masq': true, 'ip-blackhole-route': false }
const lines = (more: Partial<typeof flags> = {}): string[] => nodeItems(selfOf(), vxlan, { ...flags, ...more }).map(show)

test('a node: forwarding, the backend’s own, subnet.env last', () => {
  const [first, ...rest] = lines()
  assert.equal(first, 'sysctl net/ipv4/ip_forward=1')
  assert.deepEqual(rest.slice(0, -1), vxlan.own(selfOf()).map(show))
  assert.match(rest.at(-1)!, /^file \/run\/flannel\/subnet\.env mode 644 content "FLANNEL_NETWORK=.*FLANNEL_IPMASQ=true/)
})

test('--ip-blackhole-route: the own pod CIDR ends here, behind every other route to it', () => {
  const more = lines({ 'ip-blackhole-route': true }).filter((line) => !lines().includes(line))
  assert.deepEqual(more, ['route blackhole 10.244.2.0/24 proto 84 metric 2147483648'])
})
