/**
 * The Kubernetes objects that controllers read and write, cut down to the fields they look at. Names and meaning are the API's.
 * @module
 */
import type { LabelSelector } from '#lab/control/selectors.ts'
import type { KubeObject, ObjectMeta } from '#lab/control/store.ts'
import type { ContainerPort } from '#lab/kubelet/types.ts'

export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason?: string
  message?: string
  lastTransitionTime?: string
  lastUpdateTime?: string
  lastHeartbeatTime?: string
}

export interface Taint {
  key: string
  value?: string
  effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute'
  timeAdded?: string
}

export interface Toleration {
  key?: string
  operator?: 'Exists' | 'Equal'
  value?: string
  effect?: string
  tolerationSeconds?: number
}

export interface Node extends KubeObject {
  spec: { podCIDR?: string; podCIDRs?: string[]; taints?: Taint[]; unschedulable?: boolean }
  status?: { conditions?: Condition[]; allocatable?: Record<string, string>; addresses?: { type: string; address: string }[] }
}

export interface NodeSelectorTerm {
  matchExpressions?: NodeSelectorRequirement[]
  matchFields?: NodeSelectorRequirement[]
}

export interface NodeSelectorRequirement {
  key: string
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt'
  values?: string[]
}

export interface PodAffinityTerm {
  labelSelector?: LabelSelector
  namespaces?: string[]
  namespaceSelector?: LabelSelector
  topologyKey: string
}

/** podAffinity and podAntiAffinity have one shape. */
export interface PodAffinity {
  requiredDuringSchedulingIgnoredDuringExecution?: PodAffinityTerm[]
  preferredDuringSchedulingIgnoredDuringExecution?: { weight: number; podAffinityTerm: PodAffinityTerm }[]
}

export interface Affinity {
  nodeAffinity?: {
    requiredDuringSchedulingIgnoredDuringExecution?: { nodeSelectorTerms: NodeSelectorTerm[] }
    preferredDuringSchedulingIgnoredDuringExecution?: { weight: number; preference: NodeSelectorTerm }[]
  }
  podAffinity?: PodAffinity
  podAntiAffinity?: PodAffinity
}

export interface Container {
  name: string
  ports?: ContainerPort[]
  resources?: { requests?: Record<string, string | number> }
}

export interface TopologySpread {
  maxSkew: number
  topologyKey: string
  whenUnsatisfiable: 'DoNotSchedule' | 'ScheduleAnyway'
  labelSelector?: LabelSelector
}

export interface PodSpec {
  nodeName?: string
  nodeSelector?: Record<string, string>
  affinity?: Affinity
  tolerations?: Toleration[]
  topologySpreadConstraints?: TopologySpread[]
  schedulerName?: string
  schedulingGates?: unknown[]
  priority?: number
  hostNetwork?: boolean
  hostname?: string
  subdomain?: string
  containers: Container[]
  initContainers?: Container[]
  [field: string]: unknown
}

export interface Pod extends KubeObject {
  spec: PodSpec
  status?: { phase?: string; podIP?: string; podIPs?: { ip: string }[]; conditions?: Condition[]; startTime?: string }
}

export interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> }
  spec: PodSpec
}

export interface ReplicaSet extends KubeObject {
  spec: { replicas?: number; minReadySeconds?: number; selector: LabelSelector; template: PodTemplate }
  status?: {
    replicas?: number
    fullyLabeledReplicas?: number
    readyReplicas?: number
    availableReplicas?: number
    observedGeneration?: number
  }
}

export interface Deployment extends KubeObject {
  spec: {
    replicas?: number
    minReadySeconds?: number
    selector: LabelSelector
    template: PodTemplate
    paused?: boolean
    revisionHistoryLimit?: number
    progressDeadlineSeconds?: number
    strategy?: { type?: 'RollingUpdate' | 'Recreate'; rollingUpdate?: { maxSurge?: string | number; maxUnavailable?: string | number } }
  }
  status?: {
    observedGeneration?: number
    replicas?: number
    updatedReplicas?: number
    readyReplicas?: number
    availableReplicas?: number
    unavailableReplicas?: number
    conditions?: Condition[]
  }
}

export interface DaemonSet extends KubeObject {
  spec: {
    minReadySeconds?: number
    selector: LabelSelector
    template: PodTemplate
    revisionHistoryLimit?: number
    updateStrategy?: { type?: 'RollingUpdate' | 'OnDelete'; rollingUpdate?: { maxUnavailable?: string | number } }
  }
  status?: Record<string, number>
}

export interface ServicePort {
  name?: string
  protocol?: string
  port: number
  targetPort?: number | string
  appProtocol?: string
}

export interface Service extends KubeObject {
  spec: {
    type?: string
    clusterIP?: string
    selector?: Record<string, string>
    ports?: ServicePort[]
    publishNotReadyAddresses?: boolean
  }
}

export interface Namespace extends KubeObject {
  spec?: { finalizers?: string[] }
}

// Reading them

export const conditionOf = (object: { status?: { conditions?: Condition[] } } | undefined, type: string): Condition | undefined =>
  object?.status?.conditions?.find((condition) => condition.type === type)

export const isReady = (pod: Pod): boolean => conditionOf(pod, 'Ready')?.status === 'True'

/** Neither ended nor about to: what ReplicaSets count. */
export const isActive = (pod: Pod): boolean => !pod.metadata.deletionTimestamp && !isEnded(pod)

export const isEnded = (pod: Pod): boolean => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'

/** Milliseconds until a pod counts as available: 0 if it does now, undefined while it is not ready. */
export function availableInMs(pod: Pod, minReadySeconds: number | undefined, nowMs: number): number | undefined {
  const ready = conditionOf(pod, 'Ready')
  if (ready?.status !== 'True') return undefined
  if (!minReadySeconds) return 0
  return Math.max(0, Date.parse(ready.lastTransitionTime ?? '') + minReadySeconds * 1000 - nowMs) || 0
}

/** The uid of the controller that owns an object. */
export const controllerOf = ({ metadata }: { metadata: ObjectMeta }): string | undefined =>
  metadata.ownerReferences?.find((owner) => owner.controller)?.uid

/** An ownerReferences list that makes `owner` the controller. */
export const ownedBy = (owner: KubeObject): NonNullable<ObjectMeta['ownerReferences']> => [
  {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  },
]

/** Sets a condition; its transition time moves only when its status does. Order is kept. */
export function setCondition(conditions: Condition[], next: Condition, now: string): void {
  const i = conditions.findIndex((condition) => condition.type === next.type)
  const lastTransitionTime = conditions[i]?.status === next.status ? conditions[i]!.lastTransitionTime : now
  const whole = { ...conditions[i], ...next, ...(lastTransitionTime ? { lastTransitionTime } : {}) }
  if (i < 0) conditions.push(whole)
  else conditions[i] = whole
}

/** A count or a percentage of `total`. */
export function countOf(value: string | number | undefined, total: number, round: 'up' | 'down', otherwise: string | number): number {
  const given = value ?? otherwise
  if (typeof given === 'number') return given
  const share = (Number.parseInt(given, 10) * total) / 100
  return given.endsWith('%') ? (round === 'up' ? Math.ceil(share) : Math.floor(share)) : Number.parseInt(given, 10)
}
