import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atLeast, probeFeatures } from '#kernel/features.ts'

const cases: [version: string, want: boolean][] = [
  ['6.18.44', true],
  ['6.2.0-rc1', true],
  ['6.1.0-30-amd64', false],
  ['5.15.0', false],
  ['10.0', true],
  ['', false],
]
for (const [version, want] of cases)
  test(`${version || 'nothing'} is ${want ? '' : 'not '}at least 6.2`, () => assert.equal(atLeast(version, 6, 2), want))

test('each feature says what is done without it', () => {
  const features = probeFeatures()
  for (const { name, what, otherwise } of features) assert.ok(name && what && otherwise)
  assert.equal(new Set(features.map(({ name }) => name)).size, features.length)
})
