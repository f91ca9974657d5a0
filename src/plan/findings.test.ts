import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Finding, NodeRecord } from '#model/cluster.ts'
import { Faults } from '#plan/findings.ts'
import { planPeer } from '#plan/peers.ts'
import { leaseOf, recordOf, selfOf, vxlan } from '#plan/testing.ts'

const witness = {
  node: 'k8s-w1',
  uplink: 'eth0',
  why: 'the default route uses it',
  alternatives: [{ dev: 'eth1', address: '192.168.10.101' }],
}
const node = (o: Partial<NodeRecord> = {}, annotations: Readonly<Record<string, string>> = {}): NodeRecord => ({
  ...recordOf({}, annotations),
  ...o,
})

const cases: { name: string; record: NodeRecord; items: number; want: RegExp[] }[] = [
  { name: 'a good one', record: node(), items: 3, want: [] },
  { name: 'no agent there: nothing, and no fault', record: node({ annotations: {} }), items: 0, want: [] },
  { name: 'managed is not exactly "true"', record: node({}, { 'kube-subnet-manager': 'True' }), items: 0, want: [] },
  { name: 'no pod CIDR', record: node({ podCIDRs: [] }), items: 0, want: [/^missing-podcidr .* has no IPv4 pod CIDR/] },
  { name: 'only the other family', record: node({ podCIDRs: ['fd00:1::/64'] }), items: 0, want: [/^missing-podcidr .*fd00:1::\/64/] },
  { name: 'nonsense for a pod CIDR', record: node({ podCIDRs: ['10.244.1.0'] }), items: 0, want: [/^bad-podcidr .*"10.244.1.0"/] },
  { name: 'outside Network', record: node({ podCIDRs: ['10.1.1.0/24'] }), items: 0, want: [/^podcidr-outside-network .*10.244.0.0\/16/] },
  { name: 'wider than Network', record: node({ podCIDRs: ['0.0.0.0/0'] }), items: 0, want: [/^podcidr-outside-network/] },
  { name: 'our own pod CIDR', record: node({ podCIDRs: ['10.244.2.0/24'] }), items: 0, want: [/^podcidr-overlap/] },
  { name: 'a part of ours', record: node({ podCIDRs: ['10.244.2.128/25'] }), items: 0, want: [/^podcidr-overlap/] },
  { name: 'another backend', record: node({}, { 'backend-type': 'host-gw' }), items: 0, want: [/^other-backend .*"host-gw"/] },
  { name: 'no public IP', record: node({}, { 'public-ip': '' }), items: 0, want: [/^bad-annotation .*public-ip/] },
  { name: 'a public IP of the other family', record: node({}, { 'public-ip': '::1' }), items: 0, want: [/^bad-annotation/] },
  { name: 'data that is not JSON', record: node({}, { 'backend-data': '{' }), items: 0, want: [/^bad-annotation .*backend-data/] },
  { name: 'data without MAC', record: node({}, { 'backend-data': 'null' }), items: 0, want: [/^bad-annotation .*VtepMAC/] },
]
for (const { name, record, items, want } of cases) {
  test(`a peer: ${name}`, () => {
    const plan = planPeer(selfOf(), vxlan, record)
    assert.equal(plan.items.length, items)
    assert.equal(plan.findings.length, want.length)
    for (const [i, pattern] of want.entries()) assert.match(`${plan.findings[i]!.id} ${plan.findings[i]!.text}`, pattern)
    assert.ok(plan.findings.every((finding) => finding.remedy.length > 20 && finding.subject === 'node k8s-w2'))
  })
}

const ids = (findings: readonly Finding[]): string[] => findings.map(({ id, subject }) => `${id} ${subject}`)

test('the NAT trap: every node announces 10.0.2.15, and the remedy names the other interface', () => {
  const faults = new Faults(witness)
  for (const [i, name] of ['k8s-ctr', 'k8s-w1', 'k8s-w2'].entries()) {
    faults.announce(name, leaseOf({ node: name, publicIp: '10.0.2.15', subnet: `10.244.${i}.0/24` }))
  }
  const [finding, ...rest] = faults.list()
  assert.deepEqual(rest, [])
  assert.equal(finding!.id, 'duplicate-public-ip')
  assert.equal(finding!.subject, 'node k8s-w1')
  assert.match(finding!.text, /^k8s-ctr, k8s-w1 and k8s-w2 all announce the public IP 10.0.2.15/)
  assert.match(finding!.remedy, /took eth0 because the default route uses it/)
  assert.match(finding!.remedy, /--iface=eth1 \(here 192\.168\.10\.101\)/)
  assert.match(finding!.remedy, /--node-ip/)
})

test('duplicates come and go with their nodes, event by event', () => {
  const faults = new Faults(witness)
  faults.announce('a', leaseOf({ node: 'a', publicIp: '192.0.2.1', subnet: '10.244.7.0/24' }))
  faults.announce('b', leaseOf({ node: 'b', publicIp: '192.0.2.2', subnet: '10.244.7.0/24' }))
  assert.deepEqual(ids(faults.list()), ['duplicate-podcidr node a'])
  faults.announce('b', leaseOf({ node: 'b', publicIp: '192.0.2.1', subnet: '10.244.8.0/24' }))
  assert.deepEqual(ids(faults.list()), ['duplicate-public-ip node a'])
  faults.announce('a', undefined)
  assert.deepEqual(faults.list(), [])
})
