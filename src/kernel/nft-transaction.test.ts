import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode, judge, type Maps, slices } from '#kernel/nft-transaction.ts'
import { type Item, keyOf, type NftMapItem, type Op, show } from '#model/kernel.ts'
import { endpointChains, serviceBase } from '#plan/services.ts'
import { twillTable } from '#plan/table.ts'
import { NFT } from '#wire/nftables/messages.ts'

const base = [...serviceBase(), ...endpointChains(2)]
const maps: Maps = new Map(base.filter((item): item is NftMapItem => item.kind === 'nft-map').map((item) => [keyOf(item), item]))
const element = (map: string, i: number, value: string[]): Item => ({
  kind: 'nft-element',
  ...twillTable,
  map,
  key: [`10.96.0.${i}`, 'tcp', '80'],
  value,
})
const elements = [0, 1, 2, 3].flatMap((i) => [
  element('service-ipv4', i, ['goto endpoints-1']),
  element('endpoint-0-ipv4', i, ['10.244.0.1', '80']),
])
const ops = (verb: Op['verb'], items: readonly Item[]): Op[] => items.map((item) => ({ verb, item }))
const retry = () => {
  const dropped: string[] = []
  return {
    anew: new Set<Op>(),
    alone: new Set<Op>(),
    absent: new Set<Op>(),
    dropped,
    drop: (op: Op, error?: Error) => void dropped.push(`${show(op.item)}${error ? ` ${error.message}` : ''}`),
  }
}
const kinds = (slice: readonly Op[]): string =>
  [...new Set(slice.map(({ verb, item }) => `${verb} ${'base' in item ? 'base-chain' : 'map' in item ? item.map : item.kind}`))].join(', ')

test('what fits is one transaction', () => {
  assert.equal(slices(ops('put', [...base, ...elements]), maps).length, 1)
})

test('a load is cut so that no packet meets half of it: chains that are only jumped to, elements, then base chains', () => {
  const cut = slices(ops('put', [...base, ...elements].toReversed()), maps, 5).map(kinds)
  assert.deepEqual(cut, [
    'put nft-table, put nft-map, put nft-chain',
    'put endpoint-0-ipv4, put service-ipv4',
    'put service-ipv4, put endpoint-index',
    'put base-chain',
  ])
})

test('on the way back, verdicts go before what they lead to', () => {
  const cut = slices(ops('del', [...base, ...elements]), maps, 5).map(kinds)
  assert.deepEqual(cut, [
    'del endpoint-index, del service-ipv4',
    'del service-ipv4, del endpoint-0-ipv4',
    'del nft-chain, del base-chain, del nft-map, del nft-table',
  ])
})

test('elements of one map go in one message, apart when they are to be judged alone', () => {
  const all = slices(ops('put', elements), maps)[0]!
  assert.deepEqual(
    encode(all, maps, retry()).map((piece) => piece.ops.length),
    [4, 4],
  )
  const one = all[1]!
  assert.deepEqual(
    encode(all, maps, { ...retry(), alone: new Set([one]) }).map((piece) => piece.ops.length),
    [1, 1, 2, 4],
  )
  const pieces = encode(all, maps, { ...retry(), anew: new Set([one]) })
  assert.deepEqual(
    pieces.map(({ request }) => request.type),
    [NFT.delElement, NFT.newElement, NFT.newElement],
  )
})

test('chains are all made before the first rule', () => {
  const types = encode(
    ops(
      'put',
      base.filter(({ kind }) => kind === 'nft-chain'),
    ),
    maps,
    retry(),
  ).map(({ request }) => request.type)
  assert.ok(types.lastIndexOf(NFT.newChain) < types.indexOf(NFT.delRule))
  assert.ok(types.indexOf(NFT.delRule) < types.indexOf(NFT.newRule))
})

const chainOp: Op = { verb: 'put', item: base.find(({ kind }) => kind === 'nft-chain')! }
const elementOp: Op = { verb: 'put', item: elements[0]! }
const replacing: Op = { ...elementOp, replaces: true }
const failure = (errno: number, ...of: Op[]) => ({
  piece: { ops: of, request: { type: 0, flags: 0, body: new Uint8Array() } },
  ack: { errno },
})
const ENOENT = 2
const EBUSY = 16
const EINVAL = 22
const judged: readonly {
  name: string
  failures: Parameters<typeof judge>[0]
  dropped?: readonly RegExp[]
  /** Ops that were to be made anew before. */
  first?: readonly Op[]
  anew?: number
  alone?: number
}[] = [
  { name: 'a message of several elements: each goes alone', failures: [failure(EINVAL, elementOp, { ...elementOp })], alone: 2 },
  { name: 'an element with another value is there: deleted first', failures: [failure(EBUSY, elementOp)], anew: 1 },
  { name: 'an element that is not there to be replaced: put as it is', failures: [failure(ENOENT, replacing)], first: [replacing] },
  { name: 'nothing there to delete: done', failures: [failure(ENOENT, { ...elementOp, verb: 'del' })], dropped: [/goto endpoints-1 }$/] },
  {
    name: 'a chain cannot be: an element that misses it is not to blame yet',
    failures: [failure(EINVAL, chainOp), failure(ENOENT, elementOp)],
    dropped: [/^chain .*refuses to put chain .*EINVAL/],
  },
  {
    name: 'elements alone have failed: all are to blame',
    failures: [failure(ENOENT, elementOp), failure(EINVAL, { ...elementOp })],
    dropped: [/ENOENT/, /EINVAL/],
  },
]
for (const { name, failures, dropped = [], first = [], anew = 0, alone = 0 } of judged) {
  test(`refused: ${name}`, () => {
    const next = { ...retry(), anew: new Set(first) }
    judge(failures, next)
    assert.equal(next.dropped.length, dropped.length)
    for (const [i, text] of dropped.entries()) assert.match(next.dropped[i]!, text)
    assert.deepEqual([next.anew.size, next.alone.size], [anew, alone])
  })
}
