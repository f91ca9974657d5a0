import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Admit, type KubeObject, MemoryStore, type StoreEvent } from '#lab/control/store.ts'

const pod = (name: string, extra: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', ...extra },
  spec: {},
})
const podRules: Admit = {
  admit: () => {},
  countsGeneration: (resource) => resource === 'deployments.apps',
  gracePeriodOf: (resource) => (resource === 'pods' ? 30 : 0),
}
const store = (o: ConstructorParameters<typeof MemoryStore>[0] = {}) => new MemoryStore({ admit: podRules, now: () => 1_000_000, ...o })
const code = (n: number) => (error: unknown) => (error as { code: number }).code === n
/** Everything a watch gives, as text, once the microtask that delivers has run. */
const shown = (events: StoreEvent[]) => events.map((e) => `${e.type} ${e.object.metadata.name} ${e.object.metadata.resourceVersion}`)

test('create numbers, stamps and freezes; a second one with the same name is refused', () => {
  const s = store()
  const made = s.create('pods', pod('a'))
  assert.equal(made.metadata.resourceVersion, '1')
  assert.equal(made.metadata.creationTimestamp, '1970-01-01T00:16:40Z')
  assert.throws(() => {
    made.metadata.name = 'b'
  }, TypeError)
  assert.throws(() => s.create('pods', pod('a')), { message: 'pods "a" already exists' })
  assert.match(s.create('pods', { ...pod(''), metadata: { generateName: 'web-', namespace: 'x' } }).metadata.name, /^web-[a-z0-9]{5}$/)
})

test('update: conflict on a stale resourceVersion, no event without a change, status and spec apart', () => {
  const s = store()
  const first = s.create('deployments.apps', {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd', namespace: 'x' },
    spec: { n: 1 },
  })
  const second = s.update('deployments.apps', { ...first, spec: { n: 2 }, status: { ignored: true } })
  assert.equal(second.metadata.generation, 2)
  assert.equal(second.status, undefined)
  assert.throws(() => s.update('deployments.apps', first), code(409))
  const third = s.update('deployments.apps', { ...second, spec: { n: 9 }, status: { ready: 1 } }, 'status')
  assert.deepEqual([third.spec, third.status, third.metadata.generation], [{ n: 2 }, { ready: 1 }, 2])
  assert.equal(s.update('deployments.apps', third), third)
  assert.equal(s.resourceVersion, 3)
})

test('deletion: grace period, then zero; finalizers hold; a namespace ends when its spec.finalizers are gone', () => {
  const s = store()
  s.create('pods', pod('a'))
  const going = s.delete('pods', 'default', 'a')
  assert.equal(going.metadata.deletionTimestamp, '1970-01-01T00:17:10Z')
  assert.equal(s.delete('pods', 'default', 'a'), s.get('pods', 'default', 'a'), 'a second delete changes nothing')
  s.delete('pods', 'default', 'a', { gracePeriodSeconds: 0 })
  assert.equal(s.get('pods', 'default', 'a'), undefined)
  assert.throws(() => s.delete('pods', 'default', 'a'), code(404))

  s.create('configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'x', finalizers: ['f'] } })
  s.delete('configmaps', 'x', 'c')
  assert.ok(s.get('configmaps', 'x', 'c')?.metadata.deletionTimestamp)
  s.edit('configmaps', 'x', 'c', (c) => {
    c.metadata.finalizers = []
  })
  assert.equal(s.get('configmaps', 'x', 'c'), undefined)

  s.create('namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'n' }, spec: { finalizers: ['kubernetes'] } })
  assert.deepEqual(s.delete('namespaces', undefined, 'n').status, { phase: 'Terminating' })
  s.edit<KubeObject & { spec: { finalizers: string[] } }>('namespaces', undefined, 'n', (n) => {
    n.spec.finalizers = []
  })
  assert.equal(s.get('namespaces', undefined, 'n'), undefined)
})

test('watch: replay, then live, each event once and in order, also to a watcher that writes', async () => {
  const s = store()
  s.create('pods', pod('a'))
  const seen: StoreEvent[] = []
  const late: StoreEvent[] = []
  s.watch(
    'pods',
    (event) => {
      seen.push(event)
      if (event.object.metadata.name === 'a') {
        s.create('pods', pod('c'))
        s.watch('pods', (e) => late.push(e), 0)
      }
    },
    0,
  )
  s.create('pods', pod('b'))
  await Promise.resolve()
  assert.deepEqual(shown(seen), ['ADDED a 1', 'ADDED b 2', 'ADDED c 3'])
  assert.deepEqual(shown(late), shown(seen))
})

test('watch: 410 once the ring has forgotten, and after a restore', () => {
  const s = store({ ringSize: 2 })
  for (let i = 0; i < 5; i++) s.create('pods', pod(`p${i}`))
  assert.throws(() => s.watch('pods', () => {}, 1), code(410))
  s.watch('pods', () => {}, 3)
  const again = store()
  again.restore(JSON.parse(JSON.stringify(s.snapshot())))
  assert.equal(again.list('pods').length, 5)
  assert.equal(again.create('pods', pod('x')).metadata.resourceVersion, '6')
  assert.throws(() => again.watch('pods', () => {}, 4), code(410))
})

test('list selects by namespace, labels and fields', () => {
  const s = store()
  s.create('pods', { ...pod('a', { labels: { app: 'web' } }), spec: { nodeName: 'w1' } })
  s.create('pods', pod('b', { labels: { app: 'db' } }))
  s.create('pods', pod('c', { namespace: 'other', labels: { app: 'web' } }))
  const names = (query: Parameters<typeof s.list>[1]) => s.list('pods', query).map((p) => p.metadata.name)
  assert.deepEqual(names({ labelSelector: 'app in (web)' }), ['a', 'c'])
  assert.deepEqual(names({ namespace: 'default', labelSelector: 'app!=web' }), ['b'])
  assert.deepEqual(names({ fieldSelector: 'spec.nodeName=' }), ['b', 'c'])
  assert.deepEqual(names({ fieldSelector: 'metadata.namespace=other' }), ['c'])
})
