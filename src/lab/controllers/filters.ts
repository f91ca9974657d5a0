/**
 * Why a node will not do for a pod, in kube-scheduler's words and order (k8s.io/kubernetes/pkg/scheduler/framework/plugins):
 * NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread, InterPodAffinity. Pure.
 * @module
 */
import { selects } from '#lab/control/selectors.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import { isEnded, type Node, type Pod, type PodAffinityTerm, type TopologySpread } from '#lab/controllers/objects.ts'
import { nodeMatches, tolerates, untolerated } from '#lab/controllers/taints.ts'
import { quantity } from '#lab/quantity.ts'

/** What the scheduler looks at: nodes, the pods that are on them, namespaces' labels. */
export interface World {
  readonly nodes: readonly Node[]
  /** Pods that have a node and have not ended. */
  readonly pods: readonly Pod[]
  podsOn(node: string): readonly Pod[]
  nodeNamed(name: string): Node | undefined
  labelsOf(namespace: string): Readonly<Record<string, string>>
}

export function worldOf(store: Store): World {
  const nodes = store.list<Node>('nodes')
  const pods = store.list<Pod>('pods', { fieldSelector: 'spec.nodeName!=' }).filter((pod) => !isEnded(pod))
  const byNode = Map.groupBy(pods, (pod) => pod.spec.nodeName!)
  const byName = new Map(nodes.map((node) => [node.metadata.name, node]))
  const namespaces = new Map(store.list<KubeObject>('namespaces').map((ns) => [ns.metadata.name, ns.metadata.labels ?? {}]))
  return {
    nodes,
    pods,
    podsOn: (node) => byNode.get(node) ?? [],
    nodeNamed: (name) => byName.get(name),
    labelsOf: (namespace) => namespaces.get(namespace) ?? {},
  }
}

export interface Refusal {
  readonly reasons: readonly string[]
  /** No pod that left this node would change it. */
  readonly unresolvable: boolean
}

/** The first filter that refuses, or undefined if the node will do. */
export function filterNode(pod: Pod, node: Node, world: World): Refusal | undefined {
  const never = (reason: string): Refusal => ({ reasons: [reason], unresolvable: true })
  const now = (...reasons: string[]): Refusal => ({ reasons, unresolvable: false })
  const { spec } = pod
  const cordon = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' } as const
  if (node.spec?.unschedulable && !spec.tolerations?.some((t) => tolerates(t, cordon))) return never('node(s) were unschedulable')
  const taint = untolerated(node, spec.tolerations, ['NoSchedule', 'NoExecute'])
  if (taint) return never(`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`)
  if (!nodeMatches(spec, node)) return never("node(s) didn't match Pod's node affinity/selector")
  const here = world.podsOn(node.metadata.name)
  if (portsClash(pod, here)) return now("node(s) didn't have free ports for the requested pod ports")
  const lacking = lackingResources(pod, node, here)
  if (lacking.length > 0) return now(...lacking)
  if (!spreadHolds(pod, node, world)) return now("node(s) didn't match pod topology spread constraints")
  const terms = spec.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []
  if (!terms.every((term) => affinityHolds(pod, term, node, world))) return never("node(s) didn't match pod affinity rules")
  const anti = spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []
  if (anti.some((term) => inDomain(pod, term, node, world).length > 0)) return now("node(s) didn't match pod anti-affinity rules")
  if (repelled(pod, node, world)) return now("node(s) didn't satisfy existing pods anti-affinity rules")
  return undefined
}

/** Does `term`, which lies in `owner`, select `other`? */
export function termSelects(owner: Pod, term: PodAffinityTerm, other: Pod, world: World): boolean {
  const namespace = other.metadata.namespace ?? ''
  const named = term.namespaces?.includes(namespace) ?? false
  const selected = term.namespaceSelector !== undefined && selects(term.namespaceSelector, world.labelsOf(namespace))
  const own = !term.namespaces?.length && !term.namespaceSelector && namespace === owner.metadata.namespace
  return (named || selected || own) && term.labelSelector !== undefined && selects(term.labelSelector, other.metadata.labels)
}

/** The pods that `term` selects in the topology domain of `node`; none if the node is in no domain. */
export function inDomain(pod: Pod, term: PodAffinityTerm, node: Node, world: World): readonly Pod[] {
  const domain = node.metadata.labels?.[term.topologyKey]
  if (domain === undefined) return []
  return world.pods.filter(
    (other) =>
      world.nodeNamed(other.spec.nodeName!)?.metadata.labels?.[term.topologyKey] === domain && termSelects(pod, term, other, world),
  )
}

/** Required affinity; the first pod of a group that attracts itself may go anywhere. */
function affinityHolds(pod: Pod, term: PodAffinityTerm, node: Node, world: World): boolean {
  if (node.metadata.labels?.[term.topologyKey] === undefined) return false
  if (inDomain(pod, term, node, world).length > 0) return true
  return termSelects(pod, term, pod, world) && !world.pods.some((other) => termSelects(pod, term, other, world))
}

/** A pod that is here already does not want this one near. */
function repelled(pod: Pod, node: Node, world: World): boolean {
  return world.pods.some((other) =>
    (other.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).some((term) => {
      const domain = world.nodeNamed(other.spec.nodeName!)?.metadata.labels?.[term.topologyKey]
      return domain !== undefined && domain === node.metadata.labels?.[term.topologyKey] && termSelects(other, term, pod, world)
    }),
  )
}

/** How many pods of each domain of `constraint.topologyKey` it selects; only domains that the pod could use. */
export function spreadCounts(
  pod: Pod,
  constraint: Pick<TopologySpread, 'topologyKey' | 'labelSelector'>,
  world: World,
): Map<string, number> {
  const counts = new Map<string, number>()
  for (const node of world.nodes) {
    const domain = node.metadata.labels?.[constraint.topologyKey]
    if (domain !== undefined && nodeMatches(pod.spec, node)) counts.set(domain, counts.get(domain) ?? 0)
  }
  for (const other of world.pods) {
    const domain = world.nodeNamed(other.spec.nodeName!)?.metadata.labels?.[constraint.topologyKey]
    if (domain === undefined || !counts.has(domain) || other.metadata.deletionTimestamp) continue
    if (other.metadata.namespace === pod.metadata.namespace && selects(constraint.labelSelector ?? {}, other.metadata.labels))
      counts.set(domain, counts.get(domain)! + 1)
  }
  return counts
}

function spreadHolds(pod: Pod, node: Node, world: World): boolean {
  return (pod.spec.topologySpreadConstraints ?? [])
    .filter((constraint) => constraint.whenUnsatisfiable === 'DoNotSchedule')
    .every((constraint) => {
      const domain = node.metadata.labels?.[constraint.topologyKey]
      if (domain === undefined) return false
      const counts = spreadCounts(pod, constraint, world)
      const self = selects(constraint.labelSelector ?? {}, pod.metadata.labels) ? 1 : 0
      return (counts.get(domain) ?? 0) + self - Math.min(...counts.values()) <= constraint.maxSkew
    })
}

function portsClash(pod: Pod, here: readonly Pod[]): boolean {
  const hostPorts = (one: Pod): string[][] =>
    one.spec.containers
      .flatMap((container) => container.ports ?? [])
      .filter((port) => port.hostPort)
      .map((port) => [port.hostIP ?? '0.0.0.0', `${port.protocol ?? 'TCP'}/${port.hostPort}`])
  const taken = here.flatMap(hostPorts)
  return hostPorts(pod).some(([ip, port]) =>
    taken.some(([ip2, port2]) => port === port2 && (ip === ip2 || ip === '0.0.0.0' || ip2 === '0.0.0.0')),
  )
}

function lackingResources(pod: Pod, node: Node, here: readonly Pod[]): string[] {
  const allocatable = node.status?.allocatable ?? {}
  const lacking = allocatable.pods !== undefined && here.length + 1 > quantity(allocatable.pods) ? ['Too many pods'] : []
  for (const name of ['cpu', 'memory']) {
    const wanted = requested(pod, name)
    const room = allocatable[name]
    if (wanted === 0 || room === undefined) continue
    if (here.reduce((sum, other) => sum + requested(other, name), wanted) > quantity(room)) lacking.push(`Insufficient ${name}`)
  }
  return lacking
}

/** What a pod asks for: its containers together, or its greediest init container if that is more. */
export function requested(pod: Pod, resource: string): number {
  const of = (container: { resources?: { requests?: Record<string, string | number> } }): number =>
    quantity(container.resources?.requests?.[resource])
  const together = pod.spec.containers.reduce((sum, container) => sum + of(container), 0)
  return Math.max(together, ...(pod.spec.initContainers ?? []).map(of))
}
