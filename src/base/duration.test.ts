import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatDuration, parseDuration } from '#base/duration.ts'

const cases = { '3h': 10_800, '1s': 1, '1m30s': 90, '1d1h1m1s': 90_061, '1d': 86_400 }
for (const [text, seconds] of Object.entries(cases)) {
  test(`${seconds} seconds are ${text}`, () => {
    assert.equal(formatDuration(seconds), text)
    assert.equal(parseDuration(text), seconds)
  })
}
for (const text of ['', '3', 'h', '1s1m', '-1s', '1.5h'])
  test(`"${text}" is no duration`, () => assert.equal(parseDuration(text), undefined))
