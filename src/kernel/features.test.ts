import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isAtLeast, probeFeatures } from '#kernel/features.ts'

test('each feature says what is done without it', () => {
  const features = probeFeatures()
  for (const { name, what, otherwise } of features) assert.ok(name && what && otherwise)
  assert.equal(new Set(features.map(({ name }) => name)).size, features.length)
})

for (const [release, newEnough] of [
  ['6.1.0-50-amd64', true],
  ['5.15.0-204-generic', true],
  ['5.15', true],
  ['10.0-rc1', true],
  ['5.14.21', false],
  ['5.4.0-150-generic', false],
  ['4.18.0-553.el8.x86_64', false],
  ['', false],
] as const) {
  test(`release ${release || '(none)'} is ${newEnough ? '' : 'not '}5.15 or later`, () =>
    assert.equal(isAtLeast(release, [5, 15]), newEnough))
}
