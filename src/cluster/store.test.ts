import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeNode } from '#cluster/decode.ts'
import { isOlder, type Kind, KindStore } from '#cluster/store.ts'
import { nodeObject } from '#cluster/testserver.ts'
import type { NodeRecord } from '#model/cluster.ts'

const kind: Kind<NodeRecord> = {
  name: 'nodes',
  noun: 'node',
  path: '',
  query: {},
  decode: (raw) => decodeNode(raw, 'p/'),
  owner: (n) => `node ${n.name}`,
}
const open = (): KindStore<NodeRecord> => new KindStore(kind, () => {})

test('any order and any repetition of one history ends where the history ends', () => {
  const step = fc.record({ name: fc.constantFrom('a', 'b', 'c'), dead: fc.boolean(), third: fc.nat(255) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 40 }), (history, picks) => {
      const events = history.map(({ name, dead, third }, i) => ({ dead, raw: nodeObject(name, i + 1, { cidr: `10.244.${third}.0/24` }) }))
      const shuffled = [
        ...picks.map((pick) => events[pick % events.length]!).filter(Boolean),
        ...events.toReversed(),
        ...events.slice(0, 3),
      ]
      const apply = (list: typeof events): object[] => {
        const store = open()
        for (const { dead, raw } of list) dead ? store.delete(raw) : store.put(raw)
        return [...store.records].toSorted(([a], [b]) => (a < b ? -1 : 1))
      }
      assert.deepEqual(apply(shuffled), apply(events))
    }),
  )
})

test('a list that breaks off changes nothing', () => {
  const store = open()
  const first = store.beginList()
  first.add(nodeObject('a', 1))
  first.finish('5')
  store.beginList().add(nodeObject('b', 2))
  assert.deepEqual([...store.records.keys()], ['a'])
})

test('an object that turned bad while nobody watched keeps its former record', () => {
  const store = open()
  for (const cidr of ['10.244.1.0/24', 'ten']) {
    const list = store.beginList()
    list.add(nodeObject('a', 1, { cidr }))
    list.finish('5')
  }
  assert.deepEqual(store.records.get('a')?.podCIDRs, ['10.244.1.0/24'])
  assert.deepEqual([...store.bad.keys()], ['a'])
})

const ages = [
  { a: '9', b: '10', want: true },
  { a: '10', b: '9', want: false },
  { a: '10', b: '10', want: false },
  { a: 'x', b: '10', want: false },
  { a: '5', b: '', want: false },
]
for (const { a, b, want } of ages)
  test(`version ${a} is ${want ? '' : 'not '}older than ${b || 'none'}`, () => assert.equal(isOlder(a, b), want))

test('an empty list that cannot be true changes nothing: of nodes never, of anything else after there was something', () => {
  const fresh = new KindStore({ ...kind, isNeverEmpty: true }, () => {})
  assert.equal(fresh.beginList().finish('5'), false)
  assert.equal(fresh.synced, false)
  const store = open()
  assert.equal(store.beginList().finish('5'), true)
  store.put(nodeObject('a', 6))
  assert.equal(store.beginList().finish('7'), false)
  assert.deepEqual([...store.records.keys()], ['a'])
})
