import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { matches, matchesFields, parseFieldSelector, parseLabelSelector, selects, showSelector } from '#lab/control/selectors.ts'

const cases: [selector: string, labels: Record<string, string>, want: boolean][] = [
  ['', {}, true],
  ['a=b', { a: 'b' }, true],
  ['a==b', { a: 'c' }, false],
  ['a!=b', {}, true],
  ['a', { a: '' }, true],
  ['!a', { a: '' }, false],
  ['a in (b, c),d', { a: 'c', d: '1' }, true],
  ['a notin (b)', { a: 'b' }, false],
  ['n>3', { n: '10' }, true],
  ['n<3', { n: '10' }, false],
  ['constructor', {}, false],
  ['node-role.kubernetes.io/control-plane', { 'node-role.kubernetes.io/control-plane': '' }, true],
]
for (const [selector, labels, want] of cases) {
  test(`label selector ${JSON.stringify(selector)} on ${JSON.stringify(labels)}: ${want}`, () =>
    assert.equal(matches(parseLabelSelector(selector), labels), want))
}

test('what is no selector is refused', () => {
  assert.throws(() => parseLabelSelector('a in b'), /unable to parse requirement/)
  assert.throws(() => parseFieldSelector('nonsense'), /invalid selector/)
})

test('a missing field is the empty text', () => {
  assert.ok(matchesFields(parseFieldSelector('spec.nodeName=,status.phase!=Failed'), { status: { phase: 'Pending' } }))
  assert.ok(!matchesFields(parseFieldSelector('spec.nodeName='), { spec: { nodeName: 'w1' } }))
})

const name = fc.constantFrom('a', 'b', 'c')
const labels = fc.dictionary(name, name)
test('property: a selector and its negation split every label set; text and object form agree', () => {
  fc.assert(
    fc.property(name, fc.array(name, { minLength: 1, maxLength: 2 }), labels, (key, values, set) => {
      const list = values.join(',')
      const isIn = matches(parseLabelSelector(`${key} in (${list})`), set)
      assert.equal(matches(parseLabelSelector(`${key} notin (${list})`), set), !isIn)
      assert.equal(selects({ matchExpressions: [{ key, operator: 'In', values }] }, set), isIn)
    }),
  )
})
test('property: what showSelector prints selects the same', () => {
  fc.assert(
    fc.property(fc.dictionary(name, name, { minKeys: 1 }), labels, (matchLabels, set) => {
      assert.equal(matches(parseLabelSelector(showSelector({ matchLabels })), set), selects({ matchLabels }, set))
    }),
  )
})
