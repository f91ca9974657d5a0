/**
 * The status of a pod from what runs: pure. Words and order as the kubelet's, since kubectl's columns are made of them.
 * @module
 */
import type { Instance } from '#lab/kubelet/records.ts'
import type { Condition, Container, ContainerState, ContainerStatus, Pod, PodStatus } from '#lab/kubelet/types.ts'

/** What the worker knows of one container beside its runs. */
export interface ContainerView {
  readonly container: Container
  /** Runs, oldest first. */
  readonly instances: readonly Instance[]
  /** Why the next run does not begin yet: CrashLoopBackOff, ErrImagePull, CreateContainerConfigError … */
  readonly waiting?: { readonly reason: string; readonly message: string }
  /** The readiness probe's last word; true without one. */
  readonly probedReady: boolean
  /** The startup probe has succeeded; true without one. */
  readonly probedStarted: boolean
  readonly known: boolean
}

export interface PodView {
  readonly pod: Pod
  readonly hostIp: string
  readonly podIps: readonly string[]
  readonly sandboxReady: boolean
  readonly startTime: string
  readonly init: readonly ContainerView[]
  readonly main: readonly ContainerView[]
  readonly now: string
}

export function qosClass(pod: Pod): string {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers]
  const keys = ['cpu', 'memory'] as const
  const of = (c: Container, kind: 'limits' | 'requests'): Record<string, string> => c.resources?.[kind] ?? {}
  if (all.every((c) => keys.every((k) => !of(c, 'limits')[k] && !of(c, 'requests')[k]))) return 'BestEffort'
  const guaranteed = all.every((c) =>
    keys.every((k) => of(c, 'limits')[k] && (of(c, 'requests')[k] ?? of(c, 'limits')[k]) === of(c, 'limits')[k]),
  )
  return guaranteed ? 'Guaranteed' : 'Burstable'
}

const terminated = (i: Instance): NonNullable<ContainerState['terminated']> => ({
  exitCode: i.end!.exitCode,
  ...(i.end!.signal ? { signal: i.end!.signal } : {}),
  reason: i.end!.reason,
  ...(i.end!.message === undefined ? {} : { message: i.end!.message }),
  ...(i.startedAt === undefined ? {} : { startedAt: seconds(i.startedAt) }),
  finishedAt: seconds(i.end!.finishedAt),
  containerID: idOf(i),
})

/** metav1.Time: whole seconds. */
export const seconds = (time: string): string => `${time.slice(0, 19)}Z`
/** status.containerStatuses[].containerID */
export const idOf = (i: Instance): string => `twill-lab://${i.id}`

function containerStatus(view: ContainerView, pending: { reason: string; message?: string }): ContainerStatus {
  const { container, instances, waiting } = view
  const last = instances.at(-1)
  const before = waiting && last?.end ? last : instances.at(-2)
  const running = last !== undefined && !last.end
  const state: ContainerState = waiting
    ? { waiting }
    : running
      ? { running: { startedAt: seconds(last.startedAt ?? '') } }
      : last
        ? { terminated: terminated(last) }
        : { waiting: pending }
  return {
    name: container.name,
    state,
    lastState: before?.end && before !== (state.terminated ? last : undefined) ? { terminated: terminated(before) } : {},
    ready: running && view.probedReady && view.probedStarted,
    restartCount: Math.max(0, last?.attempt ?? 0),
    started: running && view.probedStarted,
    image: container.image,
    imageID: view.known ? `twill-lab://${container.image}` : '',
    ...(last ? { containerID: idOf(last) } : {}),
  }
}

/** The pod's phase. Source: kubelet getPhase. */
function phaseOf(view: PodView): string {
  const { pod, init, main } = view
  const policy = pod.spec.restartPolicy ?? 'Always'
  const ended = (v: ContainerView): Instance | undefined => (v.instances.at(-1)?.end && !v.waiting ? v.instances.at(-1) : undefined)
  const initFailed = init.some((v) => policy === 'Never' && ended(v) && ended(v)!.end!.exitCode !== 0)
  if (initFailed) return 'Failed'
  if (!main.every((v) => v.instances.length > 0)) return 'Pending'
  if (policy !== 'Always' && main.every(ended)) {
    if (main.every((v) => ended(v)!.end!.exitCode === 0)) return 'Succeeded'
    if (policy === 'Never') return 'Failed'
  }
  return 'Running'
}

export function podStatus(view: PodView, old: PodStatus | undefined): PodStatus {
  const { pod, init, main } = view
  const initDone = init.every((v) => v.instances.at(-1)?.end?.exitCode === 0)
  const pending = { reason: init.length > 0 && !initDone ? 'PodInitializing' : 'ContainerCreating' }
  const phase = phaseOf(view)
  const initStatuses = init.map((v) => {
    const status = containerStatus(v, pending)
    return { ...status, ready: v.instances.at(-1)?.end?.exitCode === 0 }
  })
  const statuses = main.map((v) => containerStatus(v, pending))
  const over = phase === 'Succeeded' || phase === 'Failed'
  const unready = statuses.filter((s) => !s.ready).map((s) => s.name)
  const uninitialized = initStatuses.filter((s) => !s.ready).map((s) => s.name)
  const notReady = over
    ? { reason: phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
  const ready = !over && unready.length === 0
  const wanted: Condition[] = [
    { type: 'PodReadyToStartContainers', status: view.sandboxReady ? 'True' : 'False' },
    uninitialized.length === 0
      ? { type: 'Initialized', status: 'True', ...(phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}) }
      : {
          type: 'Initialized',
          status: 'False',
          reason: 'ContainersNotInitialized',
          message: `containers with incomplete status: [${uninitialized.join(' ')}]`,
        },
    ready ? { type: 'Ready', status: 'True' } : { type: 'Ready', status: 'False', ...notReady },
    ready ? { type: 'ContainersReady', status: 'True' } : { type: 'ContainersReady', status: 'False', ...notReady },
  ]
  const scheduled: Condition = { type: 'PodScheduled', status: 'True' }
  const oldOf = (type: string): Condition | undefined => old?.conditions?.find((c) => c.type === type)
  const foreign = (old?.conditions ?? []).filter((c) => c.type !== 'PodScheduled' && !wanted.some((w) => w.type === c.type))
  const conditions = [...wanted, scheduled].map((condition): Condition => {
    const before = oldOf(condition.type)
    const same = before?.status === condition.status && before.lastTransitionTime !== undefined
    return { ...condition, lastProbeTime: null, lastTransitionTime: same ? before.lastTransitionTime! : seconds(view.now) }
  })
  return {
    phase,
    conditions: [...conditions, ...foreign],
    hostIP: view.hostIp,
    hostIPs: [{ ip: view.hostIp }],
    ...(view.podIps.length > 0 ? { podIP: view.podIps[0]!, podIPs: view.podIps.map((ip) => ({ ip })) } : {}),
    startTime: seconds(view.startTime),
    qosClass: qosClass(pod),
    ...(initStatuses.length > 0 ? { initContainerStatuses: initStatuses } : {}),
    containerStatuses: statuses,
  }
}
