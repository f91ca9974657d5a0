import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { type Budget, budgets, spendBudget } from '#lab/control/budgets.ts'
import { MemoryStore } from '#lab/control/store.ts'
import { disruption } from '#lab/controllers/disruption.ts'

/** A deployment of `replicas`, of whose pods `ready` are. */
function cluster(replicas: number, ready: number, spec: object): { store: MemoryStore; count: () => Budget['status'] } {
  const store = new MemoryStore()
  const labels = { app: 'web' }
  const make = (resource: string, kind: string, name: string, more: object = {}, owner?: { kind: string; name: string; uid: string }) =>
    store.create(resource, {
      apiVersion: 'v1',
      kind,
      metadata: {
        ...{ name, namespace: 'default', labels },
        ...(owner
          ? { ownerReferences: [{ apiVersion: 'apps/v1', kind: owner.kind, name: owner.name, uid: owner.uid, controller: true }] }
          : {}),
      },
      ...more,
    })
  const deployment = make('deployments.apps', 'Deployment', 'web', { spec: { replicas } })
  const set = make('replicasets.apps', 'ReplicaSet', 'web-1', { spec: { replicas: 99 } }, { ...deployment.metadata, kind: 'Deployment' })
  for (let i = 0; i < replicas; i++) {
    const conditions = [{ type: 'Ready', status: i < ready ? 'True' : 'False' }]
    make('pods', 'Pod', `web-${i}`, { spec: {}, status: { phase: 'Running', conditions } }, { ...set.metadata, kind: 'ReplicaSet' })
  }
  make(budgets, 'PodDisruptionBudget', 'web', { spec: { selector: { matchLabels: labels }, ...spec } })
  const controller = disruption({ store, clock: systemClock })
  return {
    store,
    count: () => {
      controller.reconcile('default/web')
      return store.get<Budget>(budgets, 'default', 'web')!.status
    },
  }
}

const cases: {
  spec: object
  replicas: number
  ready: number
  want: [expected: number, desired: number, healthy: number, allowed: number]
}[] = [
  { spec: { minAvailable: 2 }, replicas: 3, ready: 3, want: [3, 2, 3, 1] },
  { spec: { minAvailable: 2 }, replicas: 3, ready: 1, want: [3, 2, 1, 0] },
  { spec: { minAvailable: '50%' }, replicas: 3, ready: 3, want: [3, 2, 3, 1] },
  { spec: { maxUnavailable: 1 }, replicas: 3, ready: 3, want: [3, 2, 3, 1] },
  { spec: { maxUnavailable: '34%' }, replicas: 3, ready: 3, want: [3, 1, 3, 2] },
  { spec: { maxUnavailable: 5 }, replicas: 3, ready: 2, want: [3, 0, 2, 2] },
  { spec: { maxUnavailable: 0 }, replicas: 3, ready: 3, want: [3, 3, 3, 0] },
  { spec: { minAvailable: 0 }, replicas: 0, ready: 0, want: [0, 0, 0, 0] },
]
for (const { spec, replicas, ready, want } of cases)
  test(`${JSON.stringify(spec)} with ${ready} of ${replicas} ready`, () => {
    const status = cluster(replicas, ready, spec).count()!
    assert.deepEqual([status.expectedPods, status.desiredHealthy, status.currentHealthy, status.disruptionsAllowed], want)
    assert.equal(status.conditions![0]!.status, want[3] > 0 ? 'True' : 'False')
  })

test('an eviction spends the budget, the next is refused with 429 until the controller has counted anew', () => {
  const { store, count } = cluster(3, 3, { minAvailable: 2 })
  const pod = store.get('pods', 'default', 'web-0')!
  assert.equal(count()!.disruptionsAllowed, 1)
  spendBudget(store, pod)
  const refused = { code: 429, message: "Cannot evict pod as it would violate the pod's disruption budget." }
  assert.throws(() => spendBudget(store, pod), refused)
  count()
  spendBudget(store, pod)
})

test('a pod without a budget may go; one with two is an error, as at kube-apiserver', () => {
  const { store } = cluster(1, 1, { minAvailable: 1 })
  const other = store.create('pods', { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x', namespace: 'default' } })
  spendBudget(store, other)
  const spec = { selector: {}, minAvailable: 1 }
  store.create(budgets, { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'all', namespace: 'default' }, spec })
  assert.throws(() => spendBudget(store, store.get('pods', 'default', 'web-0')!), { code: 500 })
})
