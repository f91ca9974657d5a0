/**
 * Which of the nodes that will do suits a pod best: kube-scheduler's scores with their default weights, each from 0 to 100. Pure.
 * @module
 */
import { inDomain, requested, spreadCounts, termSelects, type World } from '#lab/controllers/filters.ts'
import type { Node, Pod, TopologySpread } from '#lab/controllers/objects.ts'
import { termMatches, tolerates } from '#lab/controllers/taints.ts'
import { quantity } from '#lab/quantity.ts'

/** The sum of all scores for each of `nodes`. */
export function scoreNode(pod: Pod, nodes: readonly Node[], world: World): Map<Node, number> {
  const total = new Map(nodes.map((node) => [node, 0]))
  const add = (weight: number, score: (node: Node) => number, o: { lowestIsBest?: boolean } = {}): void => {
    const raw = nodes.map((node) => (o.lowestIsBest ? -score(node) : score(node)))
    const [low, high] = [Math.min(...raw), Math.max(...raw)]
    for (const [i, node] of nodes.entries())
      total.set(node, total.get(node)! + (high === low ? 0 : (weight * 100 * (raw[i]! - low)) / (high - low)))
  }
  add(3, (node) => preferredTaints(pod, node), { lowestIsBest: true })
  add(2, (node) => preferredNode(pod, node))
  add(2, (node) => neighborly(pod, node, world))
  for (const constraint of spreadsOf(pod, world)) add(2, (node) => crowd(pod, constraint, node, world), { lowestIsBest: true })
  // Absolute, unlike the others: a little more load weighs a little.
  for (const node of nodes) total.set(node, total.get(node)! + 100 - used(node, world))
  return total
}

const preferredTaints = (pod: Pod, node: Node): number =>
  (node.spec?.taints ?? []).filter(
    (taint) => taint.effect === 'PreferNoSchedule' && !pod.spec.tolerations?.some((t) => tolerates(t, taint)),
  ).length

const preferredNode = (pod: Pod, node: Node): number =>
  (pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
    .filter(({ preference }) => termMatches(preference, node))
    .reduce((sum, { weight }) => sum + weight, 0)

/** Preferred pod affinity and anti-affinity, the pod's own and that of those already there. */
function neighborly(pod: Pod, node: Node, world: World): number {
  const { podAffinity, podAntiAffinity } = pod.spec.affinity ?? {}
  let score = 0
  for (const { weight, podAffinityTerm } of podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
    score += weight * inDomain(pod, podAffinityTerm, node, world).length
  for (const { weight, podAffinityTerm } of podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [])
    score -= weight * inDomain(pod, podAffinityTerm, node, world).length
  for (const other of world.pods) {
    for (const { weight, podAffinityTerm } of other.spec.affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []) {
      const domain = world.nodeNamed(other.spec.nodeName!)?.metadata.labels?.[podAffinityTerm.topologyKey]
      if (
        domain !== undefined &&
        domain === node.metadata.labels?.[podAffinityTerm.topologyKey] &&
        termSelects(other, podAffinityTerm, pod, world)
      )
        score -= weight
    }
  }
  return score
}

/** The pod's own soft constraints; without any, the scheduler's default: the replicas of one controller apart by host. */
function spreadsOf(pod: Pod, world: World): Pick<TopologySpread, 'topologyKey' | 'labelSelector'>[] {
  const own = (pod.spec.topologySpreadConstraints ?? []).filter((constraint) => constraint.whenUnsatisfiable === 'ScheduleAnyway')
  if (pod.spec.topologySpreadConstraints?.length) return own
  const hash = pod.metadata.labels?.['pod-template-hash']
  if (hash === undefined || world.nodes.length < 2) return []
  return [{ topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: pod.metadata.labels! } }]
}

const crowd = (pod: Pod, constraint: Pick<TopologySpread, 'topologyKey' | 'labelSelector'>, node: Node, world: World): number =>
  spreadCounts(pod, constraint, world).get(node.metadata.labels?.[constraint.topologyKey] ?? '') ?? 0

/** NodeResourcesFit, LeastAllocated: the used share of CPU and memory. */
function used(node: Node, world: World): number {
  const share = (resource: string): number => {
    const room = quantity(node.status?.allocatable?.[resource])
    return room === 0 ? 0 : world.podsOn(node.metadata.name).reduce((sum, pod) => sum + requested(pod, resource), 0) / room
  }
  // In whole percents, so that a pod of no size does not decide.
  return Math.round(50 * (share('cpu') + share('memory')))
}
