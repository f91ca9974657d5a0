/**
 * Gives each pod its node, as kube-scheduler's default profile does: filters that name why a node will not do, scores that choose
 * among those that will, the binding, and the event when there is none. No preemption: the lab has no priorities to spend.
 * Ties go to the node with fewer pods, then by name, so that a run is the same every time.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { rfc3339, type Store, sameData } from '#lab/control/store.ts'
import type { Recorder } from '#lab/controllers/events.ts'
import { filterNode, type World, worldOf } from '#lab/controllers/filters.ts'
import { type Controller, keyOf, splitKey } from '#lab/controllers/loop.ts'
import { type Condition, conditionOf, isEnded, type Node, type Pod, setCondition } from '#lab/controllers/objects.ts'
import { scoreNode } from '#lab/controllers/scores.ts'

export function scheduler({ store, clock, events }: { store: Store; clock: Clock; events: Recorder }): Controller {
  const waiting = (): string[] =>
    store
      .list<Pod>('pods', { fieldSelector: 'spec.nodeName=' })
      .toSorted(
        (a, b) => (b.spec.priority ?? 0) - (a.spec.priority ?? 0) || (a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1),
      )
      .map(keyOf)
  return {
    name: 'scheduler',
    watches: {
      nodes: (node, old) => (node && old && sameData(relevant(node as Node), relevant(old as Node)) ? [] : waiting()),
      pods: (pod, old) => {
        if (pod && !old) return (pod as Pod).spec.nodeName ? waiting() : [keyOf(pod)]
        // A pod that goes makes room, and one that came makes an affinity come true.
        const freed = !pod || (isEnded(pod as Pod) && !isEnded(old as Pod))
        const bound = pod && !(old as Pod).spec.nodeName && (pod as Pod).spec.nodeName
        return freed || bound ? waiting() : []
      },
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const pod = store.get<Pod>('pods', namespace, name)
      if (!pod || pod.spec.nodeName || pod.metadata.deletionTimestamp || isEnded(pod)) return undefined
      if ((pod.spec.schedulerName ?? 'default-scheduler') !== 'default-scheduler' || (pod.spec.schedulingGates?.length ?? 0) > 0)
        return undefined
      const world = worldOf(store)
      const { node, message } = choose(pod, world)
      const now = rfc3339(clock.date().getTime())
      if (node === undefined) {
        if (conditionOf(pod, 'PodScheduled')?.message === message) return undefined
        setScheduled(store, pod, { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }, now)
        events.record(pod, 'Warning', 'FailedScheduling', message)
        return undefined
      }
      store.edit<Pod>('pods', namespace, name, (draft) => {
        draft.spec.nodeName = node
      })
      setScheduled(store, pod, { type: 'PodScheduled', status: 'True' }, now)
      events.record(pod, 'Normal', 'Scheduled', `Successfully assigned ${key} to ${node}`)
      return undefined
    },
  }
}

/** What of a node decides about pods; its heartbeats do not. */
const relevant = ({ spec, metadata, status }: Node): object => ({ spec, labels: metadata.labels, allocatable: status?.allocatable })

function setScheduled(store: Store, pod: Pod, condition: Condition, now: string): void {
  store.edit<Pod>(
    'pods',
    pod.metadata.namespace,
    pod.metadata.name,
    (draft) => {
      const conditions = (draft.status?.conditions ?? []).map((one) => ({ ...one }))
      const i = conditions.findIndex((one) => one.type === condition.type)
      if (i >= 0) conditions[i] = { type: condition.type, status: conditions[i]!.status, ...pick(conditions[i]!.lastTransitionTime) }
      setCondition(conditions, condition, now)
      draft.status = { ...draft.status, conditions }
    },
    'status',
  )
}

const pick = (lastTransitionTime: string | undefined): Partial<Condition> => (lastTransitionTime ? { lastTransitionTime } : {})

/** The node for `pod`, or kube-scheduler's words for why there is none. Pure. */
export function choose(pod: Pod, world: World): { node?: string; message: string } {
  const { nodes } = world
  if (nodes.length === 0) return { message: 'no nodes available to schedule pods' }
  const reasons = new Map<string, number>()
  const feasible: Node[] = []
  let hopeless = 0
  for (const node of nodes) {
    const refused = filterNode(pod, node, world)
    if (!refused) feasible.push(node)
    else {
      for (const reason of refused.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
      if (refused.unresolvable) hopeless++
    }
  }
  if (feasible.length === 0) {
    const none = `0/${nodes.length} nodes are available`
    const helpless = [
      ...(nodes.length > hopeless ? [`${nodes.length - hopeless} No preemption victims found for incoming pod`] : []),
      ...(hopeless > 0 ? [`${hopeless} Preemption is not helpful for scheduling`] : []),
    ]
    const why = [...reasons].map(([reason, count]) => `${count} ${reason}`).toSorted()
    return { message: `${none}: ${why.join(', ')}. preemption: ${none}: ${helpless.toSorted().join(', ')}.` }
  }
  const scores = scoreNode(pod, feasible, world)
  const load = (node: Node): number => world.podsOn(node.metadata.name).length
  const [best] = feasible.toSorted(
    (a, b) => scores.get(b)! - scores.get(a)! || load(a) - load(b) || (a.metadata.name < b.metadata.name ? -1 : 1),
  )
  return { node: best!.metadata.name, message: '' }
}
