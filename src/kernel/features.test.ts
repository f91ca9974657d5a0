import assert from 'node:assert/strict'
import { test } from 'node:test'
import { probeFeatures } from '#kernel/features.ts'

test('each feature says what is done without it', () => {
  const features = probeFeatures()
  for (const { name, what, otherwise } of features) assert.ok(name && what && otherwise)
  assert.equal(new Set(features.map(({ name }) => name)).size, features.length)
})
