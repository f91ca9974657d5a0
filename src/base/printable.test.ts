import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { printable, printableJson, printableLines, printableValue, quoted } from '#base/printable.ts'

const acts = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u

const cases = [
  { name: 'plain', text: 'default/web-1 “ü” 日本', want: 'default/web-1 “ü” 日本' },
  { name: 'a colour', text: '\u001b[31mred\u001b[0m', want: '\\u001b[31mred\\u001b[0m' },
  { name: 'C1: one character is a whole CSI', text: '\u009b2J', want: '\\u009b2J' },
  { name: 'lines', text: 'a\r\nb\tc\u2028d', want: 'a\\r\\nb\\tc\\u2028d' },
  { name: 'direction', text: 'a\u202eb', want: 'a\\u202eb' },
  { name: 'half a character', text: 'a\ud800b', want: 'a\\ud800b' },
]
for (const { name, text, want } of cases) test(`printable: ${name}`, () => assert.equal(printable(text), want))

test('nothing that a terminal acts on is left in any text, JSON or quotation', () => {
  const texts = fc.string({ unit: 'binary', maxLength: 40 })
  fc.assert(
    fc.property(texts, fc.json(), (text, json) => {
      assert.doesNotMatch(printable(text), acts)
      assert.doesNotMatch(quoted({ [text]: text }), acts)
      assert.doesNotMatch(printableLines(text).replaceAll('\n', ''), acts)
      assert.deepEqual(JSON.parse(printableJson({ text, json })), { text, json }) // the same value, written otherwise
      assert.deepEqual(printableValue({ a: [text, 1, null] }), { a: [printable(text), 1, null] })
    }),
  )
})

test('a quotation is bounded, whatever is quoted', () => {
  assert.equal(quoted('x'.repeat(1 << 18)), `"${'x'.repeat(79)}… (262146 characters)`)
  assert.equal(quoted(JSON.parse('['.repeat(100_000) + ']'.repeat(100_000))), `${'['.repeat(80)}… (200000 characters)`)
  assert.equal(quoted(undefined), 'undefined')
})
