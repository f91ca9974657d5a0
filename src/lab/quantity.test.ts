import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseQuantity, quantity } from '#lab/quantity.ts'

const cases: [string | number, number | undefined][] = [
  ['100m', 0.1],
  ['70Mi', 73400320],
  ['1500', 1500],
  [2, 2],
  ['.5', 0.5],
  ['10k', 10_000],
  ['1.5Gi', 1610612736],
  ['1e3', 1000],
  ['2E', 2e18],
  ['250u', 0.00025],
  ['', undefined],
  ['1 Gi', undefined],
  ['1K', undefined],
  ['cpu', undefined],
  ['1MB', undefined],
]
for (const [text, want] of cases) test(`the quantity ${JSON.stringify(text)} is ${want}`, () => assert.equal(parseQuantity(text), want))

test('where there is none it counts as 0', () => assert.deepEqual([quantity(undefined), quantity('much')], [0, 0]))
