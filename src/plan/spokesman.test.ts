import assert from 'node:assert/strict'
import { test } from 'node:test'
import { speaksFor } from '#plan/spokesman.ts'
import { recordOf } from '#plan/testing.ts'

test('two nodes speak for each fault, other ones for another; nodes without an agent never', () => {
  const nodes = Array.from({ length: 50 }, (_, i) => recordOf({ node: `n${i}` }))
  const idle = Array.from({ length: 50 }, (_, i) => ({ ...recordOf({ node: `idle${i}` }), annotations: {} }))
  const chosen = new Set<string>()
  for (let fault = 0; fault < 40; fault++) {
    const speakers = nodes.filter(({ name }) => speaksFor(`service default/s${fault}`, name, [...idle, ...nodes]))
    assert.equal(speakers.length, 2)
    for (const { name } of speakers) chosen.add(name)
  }
  assert.ok(chosen.size > 20, `${chosen.size} of 50 nodes speak for 40 faults`)
})
