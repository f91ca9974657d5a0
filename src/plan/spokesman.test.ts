import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isSpokesman } from '#plan/spokesman.ts'
import { recordOf } from '#plan/testing.ts'

test('the three oldest nodes with an agent speak for all; of one age the first by name', () => {
  const at = (name: string, created: string) => ({ ...recordOf({ node: name }), created })
  const nodes = [at('a', '2026'), at('b', '2025'), at('c', '2025'), at('d', '2026'), { ...at('idle', '2020'), annotations: {} }]
  assert.deepEqual(
    nodes
      .slice(0, 4)
      .filter((node) => isSpokesman(node, nodes))
      .map(({ name }) => name),
    ['a', 'b', 'c'],
  )
})
