/**
 * Nodes: a pod CIDR for each, taints that follow the Ready condition, Unknown when a kubelet falls silent, eviction from nodes that
 * are not ready, and the end of pods whose node is gone.
 * Source of names, reasons and times: k8s.io/kubernetes/pkg/controller/{nodeipam,nodelifecycle,tainteviction,podgc}.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { rfc3339, type Store, sameData } from '#lab/control/store.ts'
import type { Recorder } from '#lab/controllers/events.ts'
import { type Controller, ownKey } from '#lab/controllers/loop.ts'
import { type Condition, conditionOf, type Node, type Pod, setCondition, type Taint } from '#lab/controllers/objects.ts'
import { tolerates } from '#lab/controllers/taints.ts'
import { addToIp, formatIp, parseCidr } from '#net/ip.ts'

/** --node-monitor-grace-period of Kubernetes 1.33. */
const graceMs = 50_000
/** Kubernetes' DefaultTolerationSeconds; what admission writes into each pod. */
const defaultTolerationSeconds = 300

export interface NodeOptions {
  readonly store: Store
  readonly clock: Clock
  readonly events: Recorder
  /** The cluster's pod network, cut into one /24 a node. */
  readonly podCidr: string
  /** Nodes that are expected: the first gets the first subnet whenever it registers; others follow in order of registration. */
  readonly expected: readonly string[]
}

/** A node with this annotation gets no pod CIDR: a fault to practise on, as of a kube-controller-manager without --allocate-node-cidrs. */
const FORGOTTEN = 'lab.twill.dev/no-pod-cidr'

/** Gives each node its /24 of the cluster's pod CIDR, as kube-controller-manager --allocate-node-cidrs. */
export function nodeIpam({ store, podCidr, expected }: NodeOptions): Controller {
  const base = parseCidr(podCidr)!
  const subnet = (i: number): string => `${formatIp(addToIp(base.bytes, i * 256)!)}/24`
  return {
    name: 'node-ipam',
    watches: { nodes: ownKey },
    reconcile(name) {
      const node = store.get<Node>('nodes', undefined, name)
      if (!node || node.spec?.podCIDR || node.metadata.deletionTimestamp || node.metadata.annotations?.[FORGOTTEN]) return undefined
      const used = new Set(store.list<Node>('nodes').map((other) => other.spec?.podCIDR))
      // Expected nodes keep their place even if another registers first, so that each run of the lab looks the same.
      const place = expected.indexOf(name)
      const reserved = new Set(expected.map((_, i) => subnet(i)))
      let podCIDR = place >= 0 ? subnet(place) : undefined
      if (podCIDR === undefined || used.has(podCIDR)) {
        let i = 0
        while (used.has(subnet(i)) || reserved.has(subnet(i))) i++
        podCIDR = subnet(i)
      }
      const cidr = podCIDR
      store.edit<Node>('nodes', undefined, name, (draft) => {
        draft.spec = { ...draft.spec, podCIDR: cidr, podCIDRs: [cidr] }
      })
      return undefined
    },
  }
}

/** Watches heartbeats and makes taints follow conditions. */
export function nodeLifecycle({ store, clock, events }: NodeOptions): Controller {
  /** When each kubelet was last heard, by our own clock, and what it said: two clocks are never compared. */
  const heard = new Map<string, { beat: string; atMs: number }>()
  return {
    name: 'node-lifecycle',
    watches: {
      nodes: ownKey,
      'leases.coordination.k8s.io': (lease, old) => {
        const { namespace, name } = (lease ?? old)!.metadata
        return namespace === 'kube-node-lease' ? [name] : []
      },
    },
    reconcile(name) {
      const node = store.get<Node>('nodes', undefined, name)
      if (!node) {
        heard.delete(name)
        return undefined
      }
      const beat = beatOf(store, node)
      const now = clock.now()
      let last = heard.get(name)
      if (!last) events.record(node, 'Normal', 'RegisteredNode', `Node ${name} event: Registered Node ${name} in Controller`)
      if (last?.beat !== beat) {
        last = { beat, atMs: now }
        heard.set(name, last)
      }
      const silentMs = now - last.atMs
      if (silentMs >= graceMs) declareSilent(store, clock, events, node)
      syncTaints(store, clock, name)
      return silentMs >= graceMs ? undefined : graceMs - silentMs
    },
  }
}

function beatOf(store: Store, node: Node): string {
  const lease = store.get('leases.coordination.k8s.io', 'kube-node-lease', node.metadata.name)
  const ready = conditionOf(node, 'Ready')
  return `${(lease?.spec as { renewTime?: string } | undefined)?.renewTime} ${ready?.status === 'Unknown' ? '' : ready?.lastHeartbeatTime}`
}

const kubeletConditions = ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready']

function declareSilent(store: Store, clock: Clock, events: Recorder, node: Node): void {
  const { name } = node.metadata
  if (conditionOf(node, 'Ready')?.status === 'Unknown') return
  const now = rfc3339(clock.date().getTime())
  store.edit<Node>(
    'nodes',
    undefined,
    name,
    (draft) => {
      draft.status = { ...draft.status }
      const conditions: Condition[] = [...(draft.status.conditions ?? [])]
      for (const type of kubeletConditions) {
        const never = !conditionOf(node, type)
        const reason = never ? 'NodeStatusNeverUpdated' : 'NodeStatusUnknown'
        const message = never ? 'Kubelet never posted node status.' : 'Kubelet stopped posting node status.'
        setCondition(conditions, { type, status: 'Unknown', reason, message }, now)
      }
      draft.status.conditions = conditions
    },
    'status',
  )
  events.record(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`)
  for (const pod of store.list<Pod>('pods', { fieldSelector: `spec.nodeName=${name}` })) {
    if (conditionOf(pod, 'Ready')?.status !== 'True') continue
    const { namespace } = pod.metadata
    // Nobody answers for these pods any more: services must stop sending to them.
    store.edit<Pod>(
      'pods',
      namespace,
      pod.metadata.name,
      (draft) => setCondition(draft.status!.conditions!, { type: 'Ready', status: 'False' }, now),
      'status',
    )
    events.record(pod, 'Warning', 'NodeNotReady', 'Node is not ready')
  }
}

const managedTaints = new Set([
  'node.kubernetes.io/not-ready',
  'node.kubernetes.io/unreachable',
  'node.kubernetes.io/unschedulable',
  'node.kubernetes.io/network-unavailable',
  'node.kubernetes.io/memory-pressure',
  'node.kubernetes.io/disk-pressure',
  'node.kubernetes.io/pid-pressure',
])

/** Taints that the node's conditions call for. */
function wantedTaints(node: Node): Taint[] {
  const ready = conditionOf(node, 'Ready')?.status ?? 'False'
  const key = ready === 'Unknown' ? 'node.kubernetes.io/unreachable' : 'node.kubernetes.io/not-ready'
  const isTrue = (type: string): boolean => conditionOf(node, type)?.status === 'True'
  return [
    ...(ready === 'True' ? [] : [{ key, effect: 'NoSchedule' } as const, { key, effect: 'NoExecute' } as const]),
    ...(node.spec.unschedulable ? [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const] : []),
    ...(isTrue('NetworkUnavailable') ? [{ key: 'node.kubernetes.io/network-unavailable', effect: 'NoSchedule' } as const] : []),
    ...(isTrue('MemoryPressure') ? [{ key: 'node.kubernetes.io/memory-pressure', effect: 'NoSchedule' } as const] : []),
    ...(isTrue('DiskPressure') ? [{ key: 'node.kubernetes.io/disk-pressure', effect: 'NoSchedule' } as const] : []),
    ...(isTrue('PIDPressure') ? [{ key: 'node.kubernetes.io/pid-pressure', effect: 'NoSchedule' } as const] : []),
  ]
}

function syncTaints(store: Store, clock: Clock, name: string): void {
  store.edit<Node>('nodes', undefined, name, (draft) => {
    const before = draft.spec?.taints ?? []
    const same = (a: Taint, b: Taint): boolean => a.key === b.key && a.effect === b.effect
    const wanted = wantedTaints(draft).map((taint): Taint => {
      const kept = before.find((one) => same(one, taint))
      return kept ?? { ...taint, ...(taint.effect === 'NoExecute' ? { timeAdded: rfc3339(clock.date().getTime()) } : {}) }
    })
    const taints = [...before.filter((taint) => !managedTaints.has(taint.key)), ...wanted]
    if (sameData(taints, before)) return
    draft.spec = { ...draft.spec, taints }
    if (taints.length === 0) delete draft.spec.taints
  })
}

/** Deletes pods that do not tolerate their node's NoExecute taints, when their tolerated time is over; and pods of nodes that are gone. */
export function taintEviction({ store, clock, events }: NodeOptions): Controller {
  return {
    name: 'taint-eviction',
    watches: {
      nodes: (node, old) => {
        const before = (old as Node | undefined)?.spec?.taints
        if (node && old && sameData((node as Node).spec?.taints, before)) return []
        return store
          .list<Pod>('pods', { fieldSelector: `spec.nodeName=${(node ?? old)!.metadata.name}` })
          .flatMap((pod) => ownKey(pod, undefined) as string[])
      },
      pods: ownKey,
    },
    reconcile(key) {
      const [namespace, name] = key.split('/') as [string, string]
      const pod = store.get<Pod>('pods', namespace, name)
      if (!pod?.spec.nodeName) return undefined
      const node = store.get<Node>('nodes', undefined, pod.spec.nodeName)
      if (!node) {
        store.delete('pods', namespace, name, { gracePeriodSeconds: 0 })
        return undefined
      }
      // A mirror pod is the kubelet's to keep: static pods tolerate everything.
      if (pod.metadata.deletionTimestamp || pod.metadata.annotations?.['kubernetes.io/config.mirror']) return undefined
      const leftMs = evictInMs(pod, node, clock.date().getTime())
      if (leftMs === undefined || leftMs > 0) return leftMs
      events.record(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${key}`)
      store.delete('pods', namespace, name)
      return undefined
    },
  }
}

/** Milliseconds until `pod` must leave `node`; undefined if it may stay. */
function evictInMs(pod: Pod, node: Node, nowMs: number): number | undefined {
  let soonest: number | undefined
  for (const taint of node.spec.taints ?? []) {
    if (taint.effect !== 'NoExecute') continue
    const matching = (pod.spec.tolerations ?? []).filter((toleration) => tolerates(toleration, taint))
    if (matching.some((toleration) => toleration.tolerationSeconds === undefined)) continue
    const byDefault =
      taint.key === 'node.kubernetes.io/not-ready' || taint.key === 'node.kubernetes.io/unreachable' ? defaultTolerationSeconds : 0
    const seconds = matching.length > 0 ? Math.min(...matching.map((toleration) => toleration.tolerationSeconds!)) : byDefault
    const since = taint.timeAdded ? Date.parse(taint.timeAdded) : nowMs
    const left = Math.max(0, since + seconds * 1000 - nowMs)
    soonest = Math.min(soonest ?? left, left)
  }
  return soonest
}
