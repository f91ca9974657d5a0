import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Clock, systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { Teller } from '#daemon/tell.ts'
import { FakeCluster, nodeRecord } from '#daemon/testing.ts'
import type { Repair } from '#model/status.ts'

const node = nodeRecord('k8s-w1')
const repair: Repair = {
  at: '',
  op: 'put route 10.244.2.0/24 via 10.244.2.0',
  object: 'route 10.244.2.0/24',
  owner: 'peer k8s-w2',
  found: 'deleted',
  by: 'ip pid 7',
}

function rig() {
  let nowMs = 0
  const clock: Clock = { ...systemClock, now: () => nowMs }
  const cluster = new FakeCluster([node])
  const teller = new Teller(cluster, silentLog, clock)
  return { teller, texts: () => cluster.events.map(({ reason, message }) => `${reason}: ${message}`), pass: (ms: number) => (nowMs += ms) }
}

test('a pass of repairs is one Event: what was missing, who did it, and how many more', () => {
  const { teller, texts } = rig()
  const { by: _, ...unnamed } = repair
  teller.repaired([repair], node)
  teller.repaired([{ ...unnamed, op: 'del route 10.9.9.0/24', found: 'added' }, repair, repair], node)
  teller.repaired([{ ...repair, op: `put file /etc/a content ${'x'.repeat(200)}`, object: 'file /etc/a' }], node)
  assert.deepEqual(texts(), [
    'ObjectRepaired: route 10.244.2.0/24 via 10.244.2.0 was deleted by ip pid 7: put right',
    'ObjectRepaired: route 10.9.9.0/24 was added by someone whom the kernel does not name: put right, and 2 more',
    'ObjectRepaired: file /etc/a was deleted by ip pid 7: put right',
  ])
})

test('a storm: 25 Events at once, then one in 30 s that counts what went untold', () => {
  const { teller, texts, pass } = rig()
  for (let i = 0; i < 100; i++) teller.repaired([repair], node)
  assert.equal(texts().length, 25)
  pass(30_000)
  teller.repaired([repair], node)
  assert.equal(texts().length, 26)
  assert.match(texts().at(-1)!, /and 75 more$/)
  teller.repaired([repair], node)
  assert.equal(texts().length, 26)
})
