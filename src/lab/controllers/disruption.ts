/**
 * How many pods may be evicted now: the status of PodDisruptionBudgets, which the eviction subresource obeys.
 * A pod without a controller counts for itself (kube-controller-manager cannot tell how many there should be, and gives up).
 * Source: k8s.io/kubernetes/pkg/controller/disruption.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { type Budget, budgets, budgetsOf } from '#lab/control/budgets.ts'
import { selects } from '#lab/control/selectors.ts'
import { rfc3339, type Store } from '#lab/control/store.ts'
import { type Controller, keyOf, ownKey, splitKey } from '#lab/controllers/loop.ts'
import {
  controllerOf,
  countOf,
  type Deployment,
  isEnded,
  isReady,
  type Pod,
  type ReplicaSet,
  setCondition,
} from '#lab/controllers/objects.ts'

export function disruption({ store, clock }: { store: Store; clock: Clock }): Controller {
  return {
    name: 'disruption',
    watches: {
      [budgets]: ownKey,
      pods: (pod, old) => [pod, old].flatMap((one) => (one ? budgetsOf(store, one).map(keyOf) : [])),
      'deployments.apps': (deployment, old) => {
        const { namespace } = (deployment ?? old)!.metadata
        return store.list<Budget>(budgets, { namespace: namespace! }).map(keyOf)
      },
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const budget = store.get<Budget>(budgets, namespace, name)
      if (budget && !budget.metadata.deletionTimestamp) writeStatus(store, clock, budget)
      return undefined
    },
  }
}

function writeStatus(store: Store, clock: Clock, budget: Budget): void {
  const { namespace, name, generation } = budget.metadata
  const { minAvailable, maxUnavailable, selector } = budget.spec
  const pods = store
    .list<Pod>('pods', { namespace: namespace! })
    .filter((pod) => selector !== undefined && selects(selector, pod.metadata.labels) && !isEnded(pod))
  const wanted = wantedOf(store, pods)
  const counted = maxUnavailable === undefined && typeof minAvailable === 'number'
  const expectedPods = counted ? pods.length : wanted
  const desiredHealthy =
    maxUnavailable === undefined
      ? countOf(minAvailable, wanted, 'up', 1)
      : Math.max(0, wanted - countOf(maxUnavailable, wanted, 'up', maxUnavailable))
  const currentHealthy = pods.filter((pod) => isReady(pod) && !pod.metadata.deletionTimestamp).length
  const disruptionsAllowed = expectedPods === 0 ? 0 : Math.max(0, currentHealthy - desiredHealthy)
  const conditions = (budget.status?.conditions ?? []).map((condition) => ({ ...condition }))
  const enough = disruptionsAllowed > 0
  const verdict = enough
    ? ({ status: 'True', reason: 'SufficientPods' } as const)
    : ({ status: 'False', reason: 'InsufficientPods' } as const)
  setCondition(conditions, { type: 'DisruptionAllowed', ...verdict, message: '' }, rfc3339(clock.date().getTime()))
  store.edit<Budget>(
    budgets,
    namespace,
    name,
    (draft) => {
      draft.status = {
        ...{ observedGeneration: generation ?? 0, disruptionsAllowed, currentHealthy, desiredHealthy, expectedPods, conditions },
      }
    },
    'status',
  )
}

/** How many pods there should be: the replicas of their controllers, each counted once. */
function wantedOf(store: Store, pods: readonly Pod[]): number {
  const byUid = new Map<string, number>()
  let alone = 0
  for (const pod of pods) {
    const { namespace } = pod.metadata
    const set = store.list<ReplicaSet>('replicasets.apps', { namespace: namespace! }).find((one) => one.metadata.uid === controllerOf(pod))
    const deployment =
      set && store.list<Deployment>('deployments.apps', { namespace: namespace! }).find((one) => one.metadata.uid === controllerOf(set))
    const controller = deployment ?? set
    if (controller) byUid.set(controller.metadata.uid, controller.spec.replicas ?? 1)
    else alone++
  }
  return [...byUid.values()].reduce((sum, replicas) => sum + replicas, alone)
}
