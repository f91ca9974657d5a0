import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { jsonPatch, mergePatch, strategicMerge } from '#lab/control/merge.ts'
import type { Tree } from '#lab/control/tree.ts'

const pod = (containers: Tree[]) => ({ spec: { containers, tolerations: [{ key: 'a' }] } })

const strategic: { name: string; target: Tree; patch: Tree; want: Tree }[] = [
  {
    name: 'containers merge by name, what the patch does not name stays',
    target: pod([
      { name: 'a', image: 'x' },
      { name: 'b', image: 'y', env: [{ name: 'K', value: '1' }] },
    ]),
    patch: { spec: { containers: [{ name: 'b', env: [{ name: 'L', value: '2' }] }] } },
    want: pod([
      { name: 'a', image: 'x' },
      {
        name: 'b',
        image: 'y',
        env: [
          { name: 'K', value: '1' },
          { name: 'L', value: '2' },
        ],
      },
    ]),
  },
  {
    name: '$patch: delete takes one element',
    target: pod([{ name: 'a' }, { name: 'b' }]),
    patch: { spec: { containers: [{ name: 'a', $patch: 'delete' }] } },
    want: pod([{ name: 'b' }]),
  },
  {
    name: '$patch: replace takes the list whole',
    target: pod([{ name: 'a' }, { name: 'b' }]),
    patch: { spec: { containers: [{ $patch: 'replace' }, { name: 'c' }] } },
    want: pod([{ name: 'c' }]),
  },
  {
    name: 'a list without a key is replaced',
    target: pod([]),
    patch: { spec: { tolerations: [] } },
    want: { spec: { containers: [], tolerations: [] } },
  },
  {
    name: '$setElementOrder puts named elements in order',
    target: pod([{ name: 'a' }, { name: 'b' }, { name: 'c' }]),
    patch: {
      spec: { '$setElementOrder/containers': [{ name: 'c' }, { name: 'a' }, { name: 'b' }], containers: [{ name: 'a', image: 'z' }] },
    },
    want: pod([{ name: 'c' }, { name: 'a', image: 'z' }, { name: 'b' }]),
  },
  {
    name: '$retainKeys drops the other strategy',
    target: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } },
    patch: { strategy: { $retainKeys: ['type'], type: 'Recreate' } },
    want: { strategy: { type: 'Recreate' } },
  },
  {
    name: 'ports of a service merge by port, of a container by containerPort',
    target: { spec: { ports: [{ port: 80, name: 'a' }], containers: [{ name: 'c', ports: [{ containerPort: 1, name: 'p' }] }] } },
    patch: { spec: { ports: [{ port: 80, nodePort: 30000 }], containers: [{ name: 'c', ports: [{ containerPort: 1, hostPort: 2 }] }] } },
    want: {
      spec: {
        ports: [{ port: 80, name: 'a', nodePort: 30000 }],
        containers: [{ name: 'c', ports: [{ containerPort: 1, name: 'p', hostPort: 2 }] }],
      },
    },
  },
  {
    name: 'finalizers are a set, with $deleteFromPrimitiveList',
    target: { metadata: { finalizers: ['a', 'b'] } },
    patch: { metadata: { finalizers: ['c'], '$deleteFromPrimitiveList/finalizers': ['a'] } },
    want: { metadata: { finalizers: ['b', 'c'] } },
  },
  {
    name: 'node conditions merge by type, as Flannel patches NetworkUnavailable',
    target: { status: { conditions: [{ type: 'Ready', status: 'True' }] } },
    patch: { status: { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] } },
    want: {
      status: {
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'NetworkUnavailable', status: 'False' },
        ],
      },
    },
  },
]
for (const { name, target, patch, want } of strategic) {
  test(`strategic merge: ${name}`, () => {
    const before = structuredClone(target)
    assert.deepEqual(strategicMerge(target, patch), want)
    assert.deepEqual(target, before, 'the target is left alone')
  })
}

test('strategic merge: an element without its key is refused', () => {
  assert.throws(
    () => strategicMerge(pod([{ name: 'a' }]), { spec: { containers: [{ image: 'x' }] } }),
    /does not contain declared merge key: name/,
  )
})

const leaf = fc.oneof(fc.string({ maxLength: 3 }), fc.integer(), fc.boolean())
const tree = fc.letrec<{ node: Tree; value: unknown }>((tie) => ({
  node: fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), tie('value'), { maxKeys: 3 }),
  value: fc.oneof({ depthSize: 'small' }, leaf, tie('node'), fc.array(leaf, { maxLength: 2 })),
})).node

test('property: without lists by key and directives, strategic merge is RFC 7386, and both are idempotent', () => {
  fc.assert(
    fc.property(tree, tree, (target, patch) => {
      const merged = mergePatch(target, patch)
      assert.deepEqual(strategicMerge(target, patch), merged)
      assert.deepEqual(mergePatch(merged, patch), merged)
    }),
  )
})

const elements = fc.uniqueArray(fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e'), value: fc.integer() }), {
  selector: (e) => e.name,
})

test('property: a keyed list after a merge holds each key once, the patched values, and every old key', () => {
  fc.assert(
    fc.property(elements, elements, (old, patch) => {
      const { env } = strategicMerge({ env: old }, { env: patch }) as { env: { name: string; value: number }[] }
      const got = new Map(env.map((e) => [e.name, e.value]))
      assert.equal(got.size, env.length)
      assert.deepEqual(got, new Map([...old, ...patch].map((e) => [e.name, e.value])))
    }),
  )
})

const operations: { name: string; ops: unknown[]; want: unknown }[] = [
  {
    name: 'add to a list, at its end and inside',
    ops: [
      { op: 'add', path: '/l/-', value: 3 },
      { op: 'add', path: '/l/0', value: 0 },
    ],
    want: { l: [0, 1, 3], 'a/b': 1 },
  },
  { name: 'escaped slash', ops: [{ op: 'replace', path: '/a~1b', value: 2 }], want: { l: [1], 'a/b': 2 } },
  {
    name: 'move and test',
    ops: [
      { op: 'test', path: '/l/0', value: 1 },
      { op: 'move', from: '/a~1b', path: '/c' },
    ],
    want: { l: [1], c: 1 },
  },
  { name: 'remove', ops: [{ op: 'remove', path: '/l/0' }], want: { l: [], 'a/b': 1 } },
]
for (const { name, ops, want } of operations)
  test(`JSON patch: ${name}`, () => assert.deepEqual(jsonPatch({ l: [1], 'a/b': 1 }, ops), want))

for (const op of [
  { op: 'remove', path: '/x' },
  { op: 'test', path: '/l/0', value: 2 },
  { op: 'add', path: '/x/y', value: 1 },
  { op: 'nope', path: '/l' },
]) {
  test(`JSON patch refuses ${JSON.stringify(op)}`, () => assert.throws(() => jsonPatch({ l: [1] }, [op]), /is invalid: patch/))
}
