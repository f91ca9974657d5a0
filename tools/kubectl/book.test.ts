import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { readBook, renderBook } from './book.ts'
import { normal } from './normal.ts'

const steps = readBook().flatMap((section) => section.steps)

test('docs/kubectl.md is what the data says (node tools/kubectl/book.ts doc writes it)', () => {
  assert.equal(readFileSync('docs/kubectl.md', 'utf8'), renderBook(readBook()))
})

test('each command has an output on record, and at least sixty differ', () => {
  for (const { run, output } of steps) assert.notEqual(output, undefined, run)
  assert.ok(new Set(steps.map(({ run }) => run)).size >= 60)
})

test('the verbs that an administrator knows are there', () => {
  const typed = new Set(steps.flatMap(({ run }) => [...run.matchAll(/\bkubectl ([a-z-]+)/g)].map(([, verb]) => verb)))
  const verbs =
    'get describe apply create delete edit patch label annotate scale rollout expose run logs exec wait cluster-info api-resources api-versions ' +
    'events top explain diff port-forward cp auth taint cordon uncordon drain set autoscale config version replace attach debug'
  for (const verb of verbs.split(' ')) assert.ok(typed.has(verb), verb)
})

const cases: [string, string][] = [
  ['webpod   2/2     2            2           10s', 'webpod 2/2 2 2 <age>'],
  ['    uid: 3b3afcde-e66d-4f50-b64a-d7ccef992027', 'uid: <uid>'],
  ['  resourceVersion: "270"', 'resourceVersion: <version>'],
  ['IP:                       10.96.1.1', 'IP: <cluster-ip>'],
  ['service/kubernetes   ClusterIP   10.96.0.1    <none>', 'service/kubernetes ClusterIP 10.96.0.1 <none>'],
  ['      Container ID:  twill-lab://4f1ecd601a8d4c7c01c06bc177a2eb9a955f6b2bf80367ae445ce0da04d242b3', 'Container ID: <runtime>://<id>'],
  [
    '+++ /tmp/MERGED-63649875/v1.ConfigMap.shop.prices\t2026-11-23 12:27:15.822475588 +0000',
    '+++ /tmp/MERGED-<n>/v1.ConfigMap.shop.prices <time>',
  ],
  ['Forwarding from 127.0.0.1:41233 -> 80', 'Forwarding from 127.0.0.1:<port> -> 80'],
]
for (const [from, to] of cases) test(`normal: ${from.trim()}`, () => assert.deepEqual(normal(from), [to]))

test('progress does not count, and the order only where it is not chance', () => {
  assert.deepEqual(normal('Waiting for deployment "web" rollout to finish: 0 of 2 updated replicas are available...\nb\na\n'), ['b', 'a'])
  assert.deepEqual(normal('b\na\n', { unordered: true }), ['a', 'b'])
})
