/**
 * DaemonSets: one pod on each node that will have it, pinned there by node affinity, replaced a few at a time when the template changes.
 * Source: k8s.io/kubernetes/pkg/controller/daemon.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { type Store, sameData } from '#lab/control/store.ts'
import type { Recorder } from '#lab/controllers/events.ts'
import { templateHash } from '#lab/controllers/hash.ts'
import { type Controller, keyOf, ownKey, splitKey } from '#lab/controllers/loop.ts'
import {
  availableInMs,
  controllerOf,
  countOf,
  type DaemonSet,
  isEnded,
  isReady,
  type Node,
  ownedBy,
  type Pod,
  type PodSpec,
  type Toleration,
} from '#lab/controllers/objects.ts'
import { nodeMatches, untolerated } from '#lab/controllers/taints.ts'

const hashLabel = 'controller-revision-hash'

interface Parts {
  readonly store: Store
  readonly clock: Clock
  readonly events: Recorder
}

export function daemonSets(parts: Parts): Controller {
  const { store } = parts
  const all = (): string[] => store.list('daemonsets.apps').map(keyOf)
  return {
    name: 'daemonset',
    watches: {
      'daemonsets.apps': ownKey,
      pods: (pod, old) => {
        const { namespace } = (pod ?? old)!.metadata
        const owner = controllerOf((pod ?? old)!)
        return store
          .list('daemonsets.apps', { namespace: namespace! })
          .filter((ds) => ds.metadata.uid === owner)
          .map(keyOf)
      },
      nodes: (node, old) => (node && old && sameData(relevant(node as Node), relevant(old as Node)) ? [] : all()),
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const ds = store.get<DaemonSet>('daemonsets.apps', namespace, name)
      if (!ds || ds.metadata.deletionTimestamp) return undefined
      const hash = templateHash(ds.spec.template)
      keepRevision(store, ds, hash)
      place(parts, ds, hash)
      replaceOld(parts, ds, hash)
      return writeStatus(parts, ds, hash)
    },
  }
}

const relevant = ({ spec, metadata }: Node): object => ({ spec, labels: metadata.labels })

/** A DaemonSet's pod may come before its node is ready: it may be what makes it ready. */
function tolerationsOf(spec: PodSpec): Toleration[] {
  const always: [string, Toleration['effect']][] = [
    ['not-ready', 'NoExecute'],
    ['unreachable', 'NoExecute'],
    ['disk-pressure', 'NoSchedule'],
    ['memory-pressure', 'NoSchedule'],
    ['pid-pressure', 'NoSchedule'],
    ['unschedulable', 'NoSchedule'],
    ...(spec.hostNetwork ? ([['network-unavailable', 'NoSchedule']] as [string, string][]) : []),
  ]
  const added = always.map(([key, effect]): Toleration => ({ key: `node.kubernetes.io/${key}`, operator: 'Exists', effect: effect! }))
  return [...(spec.tolerations ?? []), ...added]
}

/** May a pod of the set start on `node`, and may one that is there go on? */
function suits(ds: DaemonSet, node: Node): { start: boolean; stay: boolean } {
  const { spec } = ds.spec.template
  if (!nodeMatches(spec, node)) return { start: false, stay: false }
  const tolerations = tolerationsOf(spec)
  return { start: !untolerated(node, tolerations, ['NoSchedule', 'NoExecute']), stay: !untolerated(node, tolerations, ['NoExecute']) }
}

/** The set's pods by the node they are meant for. */
function podsByNode(store: Store, ds: DaemonSet): Map<string, Pod[]> {
  const mine = store.list<Pod>('pods', { namespace: ds.metadata.namespace! }).filter((pod) => controllerOf(pod) === ds.metadata.uid)
  return Map.groupBy(mine, targetOf)
}

/** The node a pod is on, or the one its affinity pins it to. */
function targetOf(pod: Pod): string {
  const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []
  const pinned = terms.flatMap((term) => term.matchFields ?? []).find((field) => field.key === 'metadata.name')
  return pod.spec.nodeName ?? pinned?.values?.[0] ?? ''
}

function place({ store, events }: Parts, ds: DaemonSet, hash: string): void {
  const byNode = podsByNode(store, ds)
  const nodes = store.list<Node>('nodes')
  const remove = (pod: Pod): void => {
    if (pod.metadata.deletionTimestamp) return
    store.delete('pods', pod.metadata.namespace, pod.metadata.name)
    events.record(ds, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`)
  }
  for (const node of nodes) {
    const { start, stay } = suits(ds, node)
    const here = byNode.get(node.metadata.name) ?? []
    const alive = here.filter((pod) => !pod.metadata.deletionTimestamp)
    for (const pod of alive) {
      if (pod.status?.phase !== 'Failed') continue
      events.record(
        ds,
        'Warning',
        'FailedDaemonPod',
        `Found failed daemon pod ${keyOf(pod)} on node ${node.metadata.name}, will try to kill it`,
      )
      remove(pod)
    }
    if (!stay) for (const pod of alive) remove(pod)
    // A pod that is on its way out still holds its host ports: the next one comes when it is gone.
    else if (start && here.length === 0) create(store, events, ds, node.metadata.name, hash)
    else
      for (const pod of alive
        .filter((one) => !isEnded(one))
        .toSorted(oldestFirst)
        .slice(1))
        remove(pod)
  }
}

const oldestFirst = (a: Pod, b: Pod): number => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion)

function create(store: Store, events: Recorder, ds: DaemonSet, node: string, hash: string): void {
  const { metadata, spec } = ds.spec.template
  const term = { matchFields: [{ key: 'metadata.name', operator: 'In' as const, values: [node] }] }
  const pod = store.create<Pod>('pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      generateName: `${ds.metadata.name}-`,
      namespace: ds.metadata.namespace!,
      labels: { ...metadata?.labels, [hashLabel]: hash, 'pod-template-generation': String(ds.metadata.generation ?? 1) },
      ...(metadata?.annotations ? { annotations: metadata.annotations } : {}),
      ownerReferences: ownedBy(ds),
    },
    spec: {
      ...spec,
      // The set has judged the node's labels already; the scheduler only has to bind.
      affinity: { ...spec.affinity, nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } } },
      tolerations: tolerationsOf(spec),
    },
  })
  events.record(ds, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`)
}

/** RollingUpdate: deletes pods of older templates, those that do not serve first, while at most maxUnavailable are missing. */
function replaceOld({ store, clock, events }: Parts, ds: DaemonSet, hash: string): void {
  const { type, rollingUpdate } = ds.spec.updateStrategy ?? {}
  if (type === 'OnDelete') return
  const byNode = podsByNode(store, ds)
  const desired = store.list<Node>('nodes').filter((node) => suits(ds, node).start)
  const nowMs = clock.date().getTime()
  const serves = (pod: Pod): boolean => !pod.metadata.deletionTimestamp && availableInMs(pod, ds.spec.minReadySeconds, nowMs) === 0
  let budget = Math.max(1, countOf(rollingUpdate?.maxUnavailable, desired.length, 'up', 1))
  const serving: Pod[] = []
  for (const node of desired) {
    const here = byNode.get(node.metadata.name) ?? []
    if (!here.some(serves)) budget--
    for (const pod of here) {
      if (pod.metadata.deletionTimestamp || pod.metadata.labels?.[hashLabel] === hash) continue
      if (serves(pod)) serving.push(pod)
      else remove(pod)
    }
  }
  for (const pod of serving.slice(0, Math.max(0, budget))) remove(pod)

  function remove(pod: Pod): void {
    store.delete('pods', pod.metadata.namespace, pod.metadata.name)
    events.record(ds, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`)
  }
}

/** A ControllerRevision for each template: `kubectl rollout history` and `undo` read them. */
function keepRevision(store: Store, ds: DaemonSet, hash: string): void {
  const { namespace, name } = ds.metadata
  const mine = store.list('controllerrevisions.apps', { namespace: namespace! }).filter((one) => controllerOf(one) === ds.metadata.uid)
  const revisionName = `${name}-${hash}`
  const newest = Math.max(0, ...mine.map((one) => Number(one.revision)))
  const known = mine.find((one) => one.metadata.name === revisionName)
  if (known && known.revision === newest) return
  if (known) {
    store.edit('controllerrevisions.apps', namespace, revisionName, (draft) => {
      draft.revision = newest + 1
    })
    return
  }
  store.create('controllerrevisions.apps', {
    apiVersion: 'apps/v1',
    kind: 'ControllerRevision',
    metadata: {
      name: revisionName,
      namespace: namespace!,
      labels: { ...ds.spec.template.metadata?.labels, [hashLabel]: hash },
      ownerReferences: ownedBy(ds),
    },
    data: { spec: { template: { ...ds.spec.template, $patch: 'replace' } } },
    revision: newest + 1,
  })
}

function writeStatus({ store, clock }: Parts, ds: DaemonSet, hash: string): number | undefined {
  const byNode = podsByNode(store, ds)
  const nowMs = clock.date().getTime()
  const status = {
    currentNumberScheduled: 0,
    numberMisscheduled: 0,
    desiredNumberScheduled: 0,
    numberReady: 0,
    observedGeneration: ds.metadata.generation ?? 0,
    updatedNumberScheduled: 0,
    numberAvailable: 0,
    numberUnavailable: 0,
  }
  let soonest: number | undefined
  for (const node of store.list<Node>('nodes')) {
    const [pod] = (byNode.get(node.metadata.name) ?? []).filter((one) => one.spec.nodeName !== undefined).toSorted(oldestFirst)
    if (!suits(ds, node).start) {
      if (pod) status.numberMisscheduled++
      continue
    }
    status.desiredNumberScheduled++
    if (!pod) continue
    status.currentNumberScheduled++
    if (pod.metadata.labels?.[hashLabel] === hash) status.updatedNumberScheduled++
    if (isReady(pod)) status.numberReady++
    const waitMs = availableInMs(pod, ds.spec.minReadySeconds, nowMs)
    if (waitMs === 0) status.numberAvailable++
    else if (waitMs !== undefined) soonest = Math.min(soonest ?? waitMs, waitMs)
  }
  status.numberUnavailable = status.desiredNumberScheduled - status.numberAvailable
  const always = ['currentNumberScheduled', 'numberMisscheduled', 'desiredNumberScheduled', 'numberReady']
  const written = Object.fromEntries(Object.entries(status).filter(([key, value]) => value !== 0 || always.includes(key)))
  store.edit<DaemonSet>(
    'daemonsets.apps',
    ds.metadata.namespace,
    ds.metadata.name,
    (draft) => {
      draft.status = written
    },
    'status',
  )
  return soonest
}
