/**
 * Deployments: one ReplicaSet for each pod template, pods moved from the old to the new within maxSurge and maxUnavailable, and the
 * status that `kubectl rollout status` reads.
 * Source: k8s.io/kubernetes/pkg/controller/deployment.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { rfc3339, type Store, sameData } from '#lab/control/store.ts'
import type { Recorder } from '#lab/controllers/events.ts'
import { templateHash } from '#lab/controllers/hash.ts'
import { type Controller, ownKey, splitKey } from '#lab/controllers/loop.ts'
import {
  type Condition,
  conditionOf,
  controllerOf,
  countOf,
  type Deployment,
  isActive,
  ownedBy,
  type Pod,
  type PodTemplate,
  type ReplicaSet,
  setCondition,
} from '#lab/controllers/objects.ts'

const hashLabel = 'pod-template-hash'
const revisionKey = 'deployment.kubernetes.io/revision'

interface Parts {
  readonly store: Store
  readonly clock: Clock
  readonly events: Recorder
}

export function deployments(parts: Parts): Controller {
  const { store } = parts
  const owners = (object: { metadata: { namespace?: string } } & Parameters<typeof controllerOf>[0]): string[] => {
    const uid = controllerOf(object)
    if (uid === undefined) return []
    const namespace = object.metadata.namespace!
    return store
      .list<Deployment>('deployments.apps', { namespace })
      .filter((d) => d.metadata.uid === uid)
      .map((d) => `${namespace}/${d.metadata.name}`)
  }
  return {
    name: 'deployment',
    watches: {
      'deployments.apps': ownKey,
      'replicasets.apps': (rs, old) => owners((rs ?? old)!),
      // Recreate waits for the last old pod to be gone.
      pods: (pod, old) => {
        if (pod) return []
        const rs = store
          .list<ReplicaSet>('replicasets.apps', { namespace: old!.metadata.namespace! })
          .find((one) => one.metadata.uid === controllerOf(old!))
        return rs ? owners(rs) : []
      },
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const deployment = store.get<Deployment>('deployments.apps', namespace, name)
      if (!deployment || deployment.metadata.deletionTimestamp) return undefined
      const turn = new Turn(parts, deployment)
      turn.roll()
      return turn.writeStatus()
    },
  }
}

/** One reconciliation of one deployment. */
class Turn {
  readonly #store: Store
  readonly #clock: Clock
  readonly #events: Recorder
  readonly #d: Deployment
  readonly #replicas: number
  readonly #surge: number
  readonly #maxUnavailable: number
  #created: string | undefined

  constructor({ store, clock, events }: Parts, deployment: Deployment) {
    this.#store = store
    this.#clock = clock
    this.#events = events
    this.#d = deployment
    const { spec } = deployment
    this.#replicas = spec.replicas ?? 1
    const { maxSurge, maxUnavailable } = spec.strategy?.rollingUpdate ?? {}
    const recreate = spec.strategy?.type === 'Recreate'
    this.#surge = recreate ? 0 : countOf(maxSurge, this.#replicas, 'up', '25%')
    const unavailable = recreate ? 0 : countOf(maxUnavailable, this.#replicas, 'down', '25%')
    // Both zero would stand still for ever.
    this.#maxUnavailable = this.#surge === 0 && unavailable === 0 ? 1 : Math.min(unavailable, this.#replicas)
  }

  roll(): void {
    const current = this.#current()
    if (this.#d.spec.paused) this.#scaleOnly(current ?? this.#sets().at(-1))
    else if (this.#d.spec.strategy?.type === 'Recreate') this.#recreate()
    else this.#rollingUpdate()
    if (!this.#d.spec.paused) this.#cleanUp()
  }

  /** All ReplicaSets of this deployment, oldest revision first. */
  #sets(): ReplicaSet[] {
    return this.#store
      .list<ReplicaSet>('replicasets.apps', { namespace: this.#d.metadata.namespace! })
      .filter((rs) => controllerOf(rs) === this.#d.metadata.uid)
      .toSorted((a, b) => revisionOf(a) - revisionOf(b))
  }

  /** The set that has the deployment's present template. */
  #current(): ReplicaSet | undefined {
    return this.#sets().find((rs) => sameData(withoutHash(rs.spec.template), withoutHash(this.#d.spec.template)))
  }

  #old(): ReplicaSet[] {
    const current = this.#current()?.metadata.uid
    return this.#sets().filter((rs) => rs.metadata.uid !== current)
  }

  /** Finds or makes the set of the present template, and numbers it as the newest revision. */
  #ensureCurrent(replicas: number): ReplicaSet {
    const { metadata, spec } = this.#d
    const known = this.#current()
    const newest = Math.max(
      0,
      ...this.#sets()
        .filter((rs) => rs !== known)
        .map(revisionOf),
    )
    const revision = known && revisionOf(known) > newest ? revisionOf(known) : newest + 1
    const annotations = {
      ...Object.fromEntries(
        Object.entries(metadata.annotations ?? {}).filter(([key]) => key !== 'kubectl.kubernetes.io/last-applied-configuration'),
      ),
      [revisionKey]: String(revision),
      'deployment.kubernetes.io/desired-replicas': String(this.#replicas),
      'deployment.kubernetes.io/max-replicas': String(this.#replicas + this.#surge),
    }
    this.#store.edit<Deployment>('deployments.apps', metadata.namespace, metadata.name, (draft) => {
      draft.metadata.annotations = { ...draft.metadata.annotations, [revisionKey]: String(revision) }
    })
    if (known) {
      return this.#store.edit<ReplicaSet>('replicasets.apps', metadata.namespace, known.metadata.name, (draft) => {
        draft.metadata.annotations = { ...draft.metadata.annotations, ...annotations }
        draft.spec.minReadySeconds = spec.minReadySeconds ?? 0
        if (!spec.minReadySeconds) delete draft.spec.minReadySeconds
      })!
    }
    const hash = templateHash(spec.template)
    const labels = { ...spec.template.metadata?.labels, [hashLabel]: hash }
    const name = `${metadata.name}-${hash}`
    const made = this.#store.create<ReplicaSet>('replicasets.apps', {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name, namespace: metadata.namespace!, labels, annotations, ownerReferences: ownedBy(this.#d) },
      spec: {
        replicas,
        ...(spec.minReadySeconds ? { minReadySeconds: spec.minReadySeconds } : {}),
        selector: { ...spec.selector, matchLabels: { ...spec.selector.matchLabels, [hashLabel]: hash } },
        template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
      },
    })
    this.#created = name
    if (replicas > 0) this.#say(name, 0, replicas)
    return made
  }

  #rollingUpdate(): void {
    const others = this.#old().reduce((sum, rs) => sum + wanted(rs), 0)
    const room = Math.max(0, this.#replicas + this.#surge - others)
    const current = this.#ensureCurrent(Math.min(this.#replicas, room))
    if (wanted(current) > this.#replicas) this.#scale(current, this.#replicas)
    else this.#scale(current, Math.max(wanted(current), Math.min(this.#replicas, room)))
    this.#scaleDownOld()
  }

  #scaleDownOld(): void {
    const sets = this.#sets()
    const old = this.#old()
    if (old.every((rs) => wanted(rs) === 0)) return
    const current = this.#current()!
    const minAvailable = this.#replicas - this.#maxUnavailable
    const unavailableNew = wanted(current) - available(current)
    let mayGo = sets.reduce((sum, rs) => sum + wanted(rs), 0) - minAvailable - unavailableNew
    // Pods that serve nobody go first: they cost no availability.
    for (const rs of old) {
      const unhealthy = Math.min(mayGo, wanted(rs) - available(rs))
      if (unhealthy <= 0) continue
      this.#scale(rs, wanted(rs) - unhealthy)
      mayGo -= unhealthy
    }
    let spare = Math.min(mayGo, this.#sets().reduce((sum, rs) => sum + available(rs), 0) - minAvailable)
    for (const rs of this.#old()) {
      const down = Math.min(spare, wanted(rs))
      if (down <= 0) continue
      this.#scale(rs, wanted(rs) - down)
      spare -= down
    }
  }

  #recreate(): void {
    const old = this.#old()
    for (const rs of old) this.#scale(rs, 0)
    const uids = new Set(old.map((rs) => rs.metadata.uid))
    const left = this.#store
      .list<Pod>('pods', { namespace: this.#d.metadata.namespace! })
      .some((pod) => uids.has(controllerOf(pod) ?? '') && (isActive(pod) || pod.metadata.deletionTimestamp))
    if (left) return
    this.#scale(this.#ensureCurrent(this.#replicas), this.#replicas)
  }

  #scaleOnly(rs: ReplicaSet | undefined): void {
    if (rs && wanted(rs) > 0) this.#scale(rs, this.#replicas)
  }

  #scale(rs: ReplicaSet, replicas: number): void {
    const from = wanted(rs)
    if (from === replicas) return
    this.#store.edit<ReplicaSet>('replicasets.apps', rs.metadata.namespace, rs.metadata.name, (draft) => {
      draft.spec.replicas = replicas
    })
    this.#say(rs.metadata.name, from, replicas)
  }

  #say(name: string, from: number, to: number): void {
    this.#events.record(
      this.#d,
      'Normal',
      'ScalingReplicaSet',
      `Scaled ${to > from ? 'up' : 'down'} replica set ${name} from ${from} to ${to}`,
    )
  }

  /** Keeps as many old revisions as may be rolled back to. */
  #cleanUp(): void {
    const idle = this.#old().filter((rs) => wanted(rs) === 0 && (rs.status?.replicas ?? 0) === 0 && !rs.metadata.deletionTimestamp)
    for (const rs of idle.slice(0, Math.max(0, idle.length - (this.#d.spec.revisionHistoryLimit ?? 10))))
      this.#store.delete('replicasets.apps', rs.metadata.namespace, rs.metadata.name)
  }

  /** @returns Milliseconds until the progress deadline, if one runs. */
  writeStatus(): number | undefined {
    const { namespace, name } = this.#d.metadata
    const sets = this.#sets()
    const current = this.#current()
    const sum = (of: (rs: ReplicaSet) => number): number => sets.reduce((total, rs) => total + of(rs), 0)
    const replicas = sum((rs) => rs.status?.replicas ?? 0)
    const ready = sum((rs) => rs.status?.readyReplicas ?? 0)
    const nowAvailable = sum(available)
    const updated = current?.status?.replicas ?? 0
    const unavailable = Math.max(0, sum(wanted) - nowAvailable)
    const before = this.#d.status ?? {}
    const complete = updated === this.#replicas && replicas === this.#replicas && nowAvailable === this.#replicas
    const progressed =
      updated > (before.updatedReplicas ?? 0) ||
      ready > (before.readyReplicas ?? 0) ||
      nowAvailable > (before.availableReplicas ?? 0) ||
      replicas - updated < (before.replicas ?? 0) - (before.updatedReplicas ?? 0)
    const conditions = (before.conditions ?? []).map((condition) => ({ ...condition }))
    this.#available(conditions, nowAvailable)
    const leftMs = this.#progress(conditions, current, complete, progressed)
    const fresh = this.#store.get<Deployment>('deployments.apps', namespace, name)
    this.#store.edit<Deployment>(
      'deployments.apps',
      namespace,
      name,
      (draft) => {
        draft.status = {
          observedGeneration: fresh?.metadata.generation ?? 0,
          ...(replicas ? { replicas } : {}),
          ...(updated ? { updatedReplicas: updated } : {}),
          ...(ready ? { readyReplicas: ready } : {}),
          ...(nowAvailable ? { availableReplicas: nowAvailable } : {}),
          ...(unavailable ? { unavailableReplicas: unavailable } : {}),
          conditions,
        }
      },
      'status',
    )
    return leftMs
  }

  #available(conditions: Condition[], nowAvailable: number): void {
    const enough = nowAvailable >= this.#replicas - this.#maxUnavailable
    this.#set(conditions, {
      type: 'Available',
      status: enough ? 'True' : 'False',
      reason: enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
      message: enough ? 'Deployment has minimum availability.' : 'Deployment does not have minimum availability.',
    })
  }

  #progress(conditions: Condition[], current: ReplicaSet | undefined, complete: boolean, progressed: boolean): number | undefined {
    const known = conditionOf({ status: { conditions } }, 'Progressing')
    const name = current?.metadata.name ?? this.#d.metadata.name
    const set = (status: Condition['status'], reason: string, message: string): void =>
      this.#set(conditions, { type: 'Progressing', status, reason, message })
    if (this.#d.spec.paused) set('Unknown', 'DeploymentPaused', 'Deployment is paused')
    else if (complete) set('True', 'NewReplicaSetAvailable', `ReplicaSet "${name}" has successfully progressed.`)
    else if (this.#created) set('True', 'NewReplicaSetCreated', `Created new replica set "${name}"`)
    else if (
      progressed ||
      known?.reason === 'DeploymentPaused' ||
      !known ||
      (known.reason === 'NewReplicaSetAvailable' && !this.#mentions(known, name))
    )
      set('True', 'ReplicaSetUpdated', `ReplicaSet "${name}" is progressing.`)
    else if (known.reason !== 'NewReplicaSetAvailable' && known.status === 'True') {
      const deadlineMs = Date.parse(known.lastUpdateTime ?? '') + (this.#d.spec.progressDeadlineSeconds ?? 600) * 1000
      const leftMs = deadlineMs - this.#clock.date().getTime()
      if (leftMs > 0) return leftMs
      set('False', 'ProgressDeadlineExceeded', `ReplicaSet "${name}" has timed out progressing.`)
    }
    const moving = conditionOf({ status: { conditions } }, 'Progressing')
    return moving?.status === 'True' && moving.reason !== 'NewReplicaSetAvailable'
      ? (this.#d.spec.progressDeadlineSeconds ?? 600) * 1000
      : undefined
  }

  #mentions = (condition: Condition, name: string): boolean => condition.message?.includes(`"${name}"`) ?? false

  #set(conditions: Condition[], next: Condition): void {
    const now = rfc3339(this.#clock.date().getTime())
    const known = conditions.find((condition) => condition.type === next.type)
    if (
      known?.status === next.status &&
      known.reason === next.reason &&
      known.message === next.message &&
      next.reason !== 'ReplicaSetUpdated'
    )
      return
    setCondition(conditions, { ...next, lastUpdateTime: now }, now)
  }
}

const wanted = (rs: ReplicaSet): number => rs.spec.replicas ?? 1
const available = (rs: ReplicaSet): number => rs.status?.availableReplicas ?? 0
const revisionOf = (rs: ReplicaSet): number => Number(rs.metadata.annotations?.[revisionKey] ?? 0)

function withoutHash(template: PodTemplate): PodTemplate {
  const { [hashLabel]: _, ...labels } = template.metadata?.labels ?? {}
  return { ...template, metadata: { ...template.metadata, labels } }
}
