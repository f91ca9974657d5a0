import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Overlaps } from '#plan/overlaps.ts'

test('of pod CIDRs that lie over each other the older node keeps its own; the others are told when one goes', () => {
  const overlaps = new Overlaps()
  for (const n of [1, 2, 3]) assert.deepEqual(overlaps.set(`n${n}`, `10.244.${n}.0/24`, '2026-01'), new Set())
  assert.deepEqual(overlaps.set('half', '10.244.2.128/25', '2026-02'), new Set(['n2']))
  assert.deepEqual(overlaps.set('wide', '10.244.2.0/23', '2025-01'), new Set(['n2', 'n3', 'half']))
  assert.deepEqual(
    ['n1', 'n2', 'n3', 'half', 'wide'].map((node) => overlaps.olderThan(node)),
    [undefined, 'wide', 'wide', 'n2', undefined],
  )
  assert.deepEqual(overlaps.set('wide', undefined), new Set(['n2', 'n3', 'half']))
  assert.equal(overlaps.olderThan('n3'), undefined)
  assert.equal(overlaps.olderThan('half'), 'n2')
})
