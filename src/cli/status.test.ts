import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planExit, renderPlan } from '#cli/plan.ts'
import { renderStatus, statusExit } from '#cli/status.ts'
import { columns, wantsColor, wrap } from '#cli/table.ts'
import type { StatusDocument } from '#model/status.ts'

const status: StatusDocument = {
  kind: 'TwillStatus',
  version: 1,
  agent: { version: '0.1.0', pid: 42, phase: 'serving', uptimeSeconds: 90, startMs: 123 },
  node: { name: 'k8s-w1', internalIPs: ['10.0.2.15'] },
  lease: { network: '10.244.0.0/16', subnet: '10.244.2.0/24', publicIp: '10.0.2.15', announced: true },
  interface: { name: 'eth0', address: '10.0.2.15', mtu: 1500, why: 'the default route uses it' },
  backend: { type: 'vxlan', device: 'flannel.1', mac: '8a:75:43:39:9c:7b', mtu: 1450 },
  peers: [{ node: 'k8s-ctr', subnet: '10.244.0.0/24', publicIp: '10.0.2.15', backendType: 'vxlan', objects: 3, dev: 'flannel.1' }],
  findings: [],
  objects: { route: 1, fdb: 1 },
  pods: 2,
  services: false,
  repairs: {
    total: 1,
    byKind: { route: 1 },
    contested: [{ object: 'route x', times: 12, by: ['ip'], delaySeconds: 4 }],
    recent: [
      { at: '2026-11-23T03:07:34.000Z', op: 'put route x', object: 'route x', owner: 'peer k8s-ctr', found: 'deleted', by: 'ip pid 7' },
    ],
  },
  kernel: {
    release: '5.15',
    mutations: 10,
    refused: [],
    features: [
      { name: 'ipv6', what: 'IPv6', present: true, otherwise: 'settings of IPv6 are left out' },
      { name: 'large-buffers', what: 'large netlink buffers', present: false, otherwise: 'small ones' },
    ],
  },
  api: { server: 'https://192.168.10.100:6443', connected: true },
}
const trap = {
  id: 'duplicate-public-ip',
  severity: 'error',
  subject: 'node k8s-w1',
  text: 'k8s-ctr and k8s-w1 all announce the public IP 10.0.2.15',
  remedy: 'Name the interface that the nodes share: add --iface=eth1',
} as const

test('a page for people: facts, peers, repairs', () => {
  const page = renderStatus(status, { color: false, width: 100 })
  assert.match(page, /^k8s-w1: serving\n/)
  assert.match(page, /^ {2}lease +10\.244\.2\.0\/24 of 10\.244\.0\.0\/16, announced$/m)
  assert.match(page, /^ {2}interface +eth0, 10\.0\.2\.15, MTU 1500: the default route uses it$/m)
  assert.match(page, /^k8s-ctr +10\.244\.0\.0\/24 +10\.0\.2\.15 +vxlan +by flannel\.1$/m)
  assert.match(page, /^ {2}kernel +5\.15, 10 changes sent, 1 repaired: 1 route\n +IPv6: yes\n +large netlink buffers: no, small ones$/m)
  assert.match(page, /^CONTESTED +TIMES +BY +PAUSE\nroute x +12 +ip +4s$/m)
  assert.match(page, /deleted +ip pid 7 +put route x$/m)
  assert.ok(
    renderStatus(status, { color: false, width: 50 })
      .split('\n')
      .some((line) => line.startsWith('2026') && line.length === 50 && line.endsWith('…')),
  )
  assert.match(page, /Nothing is wrong\.\n$/)
  assert.equal(statusExit(status), 0)
})

test('findings: text, then what to do, and exit 1', () => {
  const page = renderStatus({ ...status, findings: [trap] }, { color: false, width: 60 })
  assert.match(page, /^error duplicate-public-ip \(node k8s-w1\)\n {2}k8s-ctr and/m)
  assert.match(page, /\n {2}→ Name the interface that the nodes share: add\n {4}--iface=eth1\n$/)
  assert.equal(statusExit({ ...status, findings: [trap] }), 1)
  assert.equal(statusExit({ ...status, agent: { ...status.agent, phase: 'waiting' } }), 1)
})

test('colour only on a terminal, and never with NO_COLOR', () => {
  assert.equal(wantsColor({ isTTY: true }, {}), true)
  assert.equal(wantsColor({ isTTY: true }, { NO_COLOR: '1' }), false)
  assert.equal(wantsColor({}, {}), false)
  const escapeCode = String.fromCharCode(27)
  assert.ok(!renderStatus(status, { color: false, width: 80 }).includes(escapeCode))
  assert.ok(renderStatus(status, { color: true, width: 80 }).includes(escapeCode))
})

test('the dry run', () => {
  const plan = { kind: 'TwillPlan', version: 1, node: 'k8s-w1', ops: [] } as const
  assert.equal(renderPlan(plan, { color: false }), 'The kernel of k8s-w1 holds what is wanted: nothing to do.\n')
  assert.equal(planExit(plan), 0)
  const two = { ...plan, ops: [{ verb: 'put', object: 'route a', owner: 'peer b' } as const, { verb: 'del', object: 'route c' } as const] }
  const remade = { ...plan, ops: [{ verb: 'put' as const, object: 'link a', owner: 'node', reason: 'made anew: dstport is 4789' }] }
  assert.equal(renderPlan(remade, { color: false }), '+ link a  (node; made anew: dstport is 4789)\n1 to put, 0 to delete.\n')
  assert.equal(renderPlan(two, { color: false }), '+ route a  (peer b)\n- route c\n1 to put, 1 to delete.\n')
  assert.equal(planExit(two), 1)
  assert.match(renderPlan({ ...plan, waitingFor: 'no pod CIDR' }, { color: false }), /^Nothing is planned yet on k8s-w1: no pod CIDR/)
})

test('columns and wrapping', () => {
  assert.equal(columns(['A', 'BB'], [['aaa', 'b']]), 'A     BB\naaa   b')
  assert.equal(wrap('one two three', 9, '  '), '  one two\n  three')
})
