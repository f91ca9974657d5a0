/**
 * PodDisruptionBudgets at the eviction subresource. Their status is the disruption controller's (src/lab/controllers/disruption.ts).
 * Source: k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go.
 * @module
 */
import { type LabelSelector, selects } from '#lab/control/selectors.ts'
import { ApiError, internal } from '#lab/control/status.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'

export const budgets = 'poddisruptionbudgets.policy'

export interface Budget extends KubeObject {
  spec: { minAvailable?: string | number; maxUnavailable?: string | number; selector?: LabelSelector }
  status?: {
    observedGeneration?: number
    disruptionsAllowed: number
    currentHealthy: number
    desiredHealthy: number
    expectedPods: number
    conditions?: { type: string; status: 'True' | 'False' | 'Unknown'; reason?: string; message?: string; lastTransitionTime?: string }[]
  }
}

/** The budgets that hold for a pod. An empty selector selects every pod of the namespace, none selects none. */
export const budgetsOf = (store: Store, pod: KubeObject): Budget[] =>
  store
    .list<Budget>(budgets, { namespace: pod.metadata.namespace! })
    .filter(({ spec }) => spec.selector !== undefined && selects(spec.selector, pod.metadata.labels))

/** Takes one disruption from the budget of a pod that is to be evicted, if it has one.
 * @throws {ApiError} 429 if none is left, upon which kubectl tries again. */
export function spendBudget(store: Store, pod: KubeObject): void {
  const [budget, second] = budgetsOf(store, pod)
  if (second) throw internal('This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.')
  if (!budget) return
  const { disruptionsAllowed = 0, desiredHealthy = 0, currentHealthy = 0, observedGeneration = 0 } = budget.status ?? {}
  const { name, namespace, generation = 0 } = budget.metadata
  if (observedGeneration < generation || disruptionsAllowed <= 0) {
    const message =
      observedGeneration < generation
        ? `The disruption budget ${name} is still being processed by the server.`
        : `The disruption budget ${name} needs ${desiredHealthy} healthy pods and has ${currentHealthy} currently`
    const causes = [{ reason: 'DisruptionBudget', message, field: '' }]
    throw new ApiError(429, 'TooManyRequests', "Cannot evict pod as it would violate the pod's disruption budget.", { causes })
  }
  // Spent at once: the controller counts anew only when it sees the pod go.
  const spend = (draft: Budget): void => {
    draft.status!.disruptionsAllowed = disruptionsAllowed - 1
  }
  store.edit<Budget>(budgets, namespace, name, spend, 'status')
}
