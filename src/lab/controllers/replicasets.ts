/**
 * ReplicaSets: as many pods as asked for, those that go first being those that matter least.
 * Source: k8s.io/kubernetes/pkg/controller/replicaset and ActivePods in controller_utils.go.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { selects } from '#lab/control/selectors.ts'
import type { Store } from '#lab/control/store.ts'
import type { Recorder } from '#lab/controllers/events.ts'
import { type Controller, ownKey, splitKey } from '#lab/controllers/loop.ts'
import {
  availableInMs,
  conditionOf,
  controllerOf,
  isActive,
  isReady,
  ownedBy,
  type Pod,
  type ReplicaSet,
} from '#lab/controllers/objects.ts'

export function replicaSets({ store, clock, events }: { store: Store; clock: Clock; events: Recorder }): Controller {
  return {
    name: 'replicaset',
    watches: {
      'replicasets.apps': ownKey,
      pods: (pod, old) => [pod, old].flatMap((one) => (one ? ownersOf(store, one as Pod) : [])),
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const rs = store.get<ReplicaSet>('replicasets.apps', namespace, name)
      if (!rs) return undefined
      const pods = claim(store, rs)
      if (!rs.metadata.deletionTimestamp) scale(store, events, rs, pods)
      return writeStatus(store, clock, rs, claim(store, rs))
    },
  }
}

/** The set that owns a pod, or those that may want it if nobody does. */
function ownersOf(store: Store, pod: Pod): string[] {
  const { namespace, labels } = pod.metadata
  const owner = controllerOf(pod)
  return store
    .list<ReplicaSet>('replicasets.apps', { namespace: namespace! })
    .filter((rs) => (owner === undefined ? selects(rs.spec.selector, labels) : rs.metadata.uid === owner))
    .map((rs) => `${namespace}/${rs.metadata.name}`)
}

/** The active pods of a set: its own, and orphans with its labels, which it adopts; one that lost the labels is let go. */
function claim(store: Store, rs: ReplicaSet): Pod[] {
  const mine: Pod[] = []
  for (const pod of store.list<Pod>('pods', { namespace: rs.metadata.namespace! })) {
    if (!isActive(pod)) continue
    const owner = controllerOf(pod)
    const wanted = selects(rs.spec.selector, pod.metadata.labels)
    if (owner === rs.metadata.uid && wanted) mine.push(pod)
    else if (owner === rs.metadata.uid || (owner === undefined && wanted && !rs.metadata.deletionTimestamp)) {
      const changed = store.edit<Pod>('pods', pod.metadata.namespace, pod.metadata.name, (draft) => {
        const others = (draft.metadata.ownerReferences ?? []).filter((reference) => reference.uid !== rs.metadata.uid)
        draft.metadata.ownerReferences = wanted ? [...others, ...ownedBy(rs)] : others
      })
      if (changed && wanted) mine.push(changed)
    }
  }
  return mine
}

function scale(store: Store, events: Recorder, rs: ReplicaSet, pods: readonly Pod[]): void {
  const { namespace, name } = rs.metadata
  const missing = (rs.spec.replicas ?? 1) - pods.length
  for (let i = 0; i < missing; i++) {
    const { labels, annotations } = rs.spec.template.metadata ?? {}
    const pod = store.create<Pod>('pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        generateName: `${name}-`,
        namespace: namespace!,
        labels: { ...labels },
        ...(annotations ? { annotations } : {}),
        ownerReferences: ownedBy(rs),
      },
      spec: rs.spec.template.spec,
    })
    events.record(rs, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`)
  }
  for (const pod of pods.toSorted(leastFirst(pods)).slice(0, Math.max(0, -missing))) {
    store.delete('pods', namespace, pod.metadata.name)
    events.record(rs, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`)
  }
}

/** Unscheduled before scheduled, pending before running, unready before ready, crowded nodes before others, young before old. */
function leastFirst(pods: readonly Pod[]): (a: Pod, b: Pod) => number {
  const crowd = (pod: Pod): number => pods.filter((other) => other.spec.nodeName === pod.spec.nodeName).length
  const rank = (pod: Pod): number[] => [
    pod.spec.nodeName ? 1 : 0,
    pod.status?.phase === 'Running' ? 1 : 0,
    isReady(pod) ? 1 : 0,
    -crowd(pod),
    -Date.parse(conditionOf(pod, 'Ready')?.lastTransitionTime ?? pod.metadata.creationTimestamp),
  ]
  return (a, b) => {
    const [x, y] = [rank(a), rank(b)]
    for (const [i, value] of x.entries()) if (value !== y[i]) return value - y[i]!
    return a.metadata.name < b.metadata.name ? -1 : 1
  }
}

function writeStatus(store: Store, clock: Clock, rs: ReplicaSet, pods: readonly Pod[]): number | undefined {
  const nowMs = clock.date().getTime()
  const waits = pods.map((pod) => availableInMs(pod, rs.spec.minReadySeconds, nowMs))
  const template = rs.spec.template.metadata?.labels ?? {}
  const count = (ok: (pod: Pod, i: number) => boolean): number => pods.filter(ok).length
  const fullyLabeled = count((pod) => Object.entries(template).every(([key, value]) => pod.metadata.labels?.[key] === value))
  const ready = count(isReady)
  const available = count((_, i) => waits[i] === 0)
  const status: NonNullable<ReplicaSet['status']> = {
    replicas: pods.length,
    ...(fullyLabeled ? { fullyLabeledReplicas: fullyLabeled } : {}),
    ...(ready ? { readyReplicas: ready } : {}),
    ...(available ? { availableReplicas: available } : {}),
    observedGeneration: rs.metadata.generation ?? 0,
  }
  store.edit<ReplicaSet>(
    'replicasets.apps',
    rs.metadata.namespace,
    rs.metadata.name,
    (draft) => {
      draft.status = status
    },
    'status',
  )
  const soonest = Math.min(...waits.filter((wait) => wait !== undefined && wait > 0).map(Number))
  return Number.isFinite(soonest) ? soonest : undefined
}
