/**
 * The objects of the lab's cluster: in memory, one process, one writer at a time, every change numbered.
 *
 * What etcd and the generic registry do together for a real API server: resourceVersion, uid, generation, conflicts, graceful deletion,
 * finalizers, and a ring of past events from which a watch may start. Everything is synchronous. Objects are frozen values: to change one,
 * `edit` it (or clone and `update`). What a *kind* means (defaults, validation, addresses of services) is the `Admit` hook's business.
 *
 * Resources are named as kubectl prints them: `pods`, `nodes`, `deployments.apps`, `endpointslices.discovery.k8s.io`.
 * @module
 */
import { randomUUID } from 'node:crypto'
import {
  type FieldRequirement,
  matches,
  matchesFields,
  parseFieldSelector,
  parseLabelSelector,
  type Requirement,
} from '#lab/control/selectors.ts'
import { alreadyExists, badRequest, conflict, expired, notFound, staleObject } from '#lab/control/status.ts'

export interface OwnerReference {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

export interface ObjectMeta {
  name: string
  namespace?: string
  generateName?: string
  uid: string
  resourceVersion: string
  generation?: number
  /** RFC 3339, whole seconds, as kube-apiserver writes it. */
  creationTimestamp: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  finalizers?: string[]
  ownerReferences?: OwnerReference[]
}

/** Any stored object. Controllers narrow it: `interface Pod extends KubeObject { spec: … }` and `store.get<Pod>('pods', …)`. */
export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: ObjectMeta
  [field: string]: unknown
}

/** What `create` takes: an object whose metadata still lacks what the store fills in. */
export type NewObject<T extends KubeObject = KubeObject> = Omit<T, 'metadata'> & {
  apiVersion: string
  kind: string
  metadata: Partial<ObjectMeta>
}

export interface StoreEvent<T extends KubeObject = KubeObject> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly resource: string
  /** The new state; for DELETED the last one, with the resourceVersion of the deletion. */
  readonly object: T
  /** The state before: absent for ADDED. */
  readonly old?: T
  readonly resourceVersion: number
}

export interface Query {
  /** Absent or '': all namespaces. */
  readonly namespace?: string
  readonly labelSelector?: string | readonly Requirement[]
  readonly fieldSelector?: string | readonly FieldRequirement[]
}

export interface DeleteOptions {
  /** Pods only: absent takes the pod's own terminationGracePeriodSeconds; 0 removes the object at once (the kubelet's last word). */
  readonly gracePeriodSeconds?: number
  /** Foreground and Orphan leave their finalizer for the garbage collector; Background (the default) just deletes. */
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string }
}

/** The part of an object that a write may touch: `status` keeps the stored spec, the main resource keeps the stored status. */
export type Subresource = 'status' | undefined

export interface Store {
  /** Of the last change in the whole store. */
  readonly resourceVersion: number
  /** Sorted by namespace and name. The array is yours, the objects are frozen. */
  list<T extends KubeObject = KubeObject>(resource: string, query?: Query): T[]
  /** @param namespace undefined for cluster-wide resources. */
  get<T extends KubeObject = KubeObject>(resource: string, namespace: string | undefined, name: string): T | undefined
  /** @throws {ApiError} 409 AlreadyExists, 422 Invalid, 403 Forbidden (a namespace that ends). */
  create<T extends KubeObject = KubeObject>(resource: string, object: NewObject<T>): T
  /** Replaces the object. With a resourceVersion in its metadata that is not the stored one: 409 Conflict; without: last writer wins.
   * A write that changes nothing makes no event. An update that takes the last finalizer from a deleted object removes it. */
  update<T extends KubeObject = KubeObject>(resource: string, object: T, subresource?: Subresource): T
  /** Clone, change, update; for in-process writers that never conflict. Returns undefined if there is no such object. */
  edit<T extends KubeObject = KubeObject>(
    resource: string,
    namespace: string | undefined,
    name: string,
    change: (draft: T) => void,
    subresource?: Subresource,
  ): T | undefined
  /** @returns the object as deletion left it: still stored while a grace period or a finalizer holds it. @throws {ApiError} 404, 409. */
  delete(resource: string, namespace: string | undefined, name: string, options?: DeleteOptions): KubeObject
  /** Calls `fn` for each later change of `resource`, in order, never inside the caller's own write.
   * @param since  Replays what came after this resourceVersion first; absent: from now on.
   * @returns  A function that ends the watch.
   * @throws {ApiError} 410 Expired if the ring no longer reaches back to `since`. */
  watch<T extends KubeObject = KubeObject>(resource: string, fn: (event: StoreEvent<T>) => void, since?: number): () => void
}

/** What the kinds mean. Runs on a private draft before it is stored: fills in defaults, allocates, throws ApiError. */
export interface Admit {
  /** `old` is absent on create. */
  admit(resource: string, draft: KubeObject, old: KubeObject | undefined, subresource: Subresource): void
  /** Which kinds count metadata.generation on a spec change. */
  countsGeneration(resource: string): boolean
  /** Seconds that deletion of this object waits for its kubelet; 0 for everything that is not a running pod. */
  gracePeriodOf(resource: string, object: KubeObject): number
}

const admitAll: Admit = { admit: () => {}, countsGeneration: () => false, gracePeriodOf: () => 0 }

export const rfc3339 = (time: number) => `${new Date(time).toISOString().slice(0, 19)}Z`

/** Freezes a tree of plain data. */
export function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) freeze(part)
  }
  return value
}

/** Equality of plain data, blind to the order of keys and to undefined ones. */
export function sameData(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false
  const left = a as Record<string, unknown>
  const right = b as Record<string, unknown>
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) if (!sameData(left[key], right[key])) return false
  return !Array.isArray(a) || a.length === (b as unknown[]).length
}

/** Five characters as apiserver's generateName appends them: no vowels, no look-alikes. */
function randomSuffix(): string {
  const alphabet = 'bcdfghjklmnpqrstvwxz2456789'
  return Array.from({ length: 5 }, () => alphabet[Math.floor(Math.random() * alphabet.length)]).join('')
}

const keyOf = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`

/** What `restore` takes and `snapshot` gives: everything but the event ring. */
export interface Snapshot {
  readonly resourceVersion: number
  readonly objects: Readonly<Record<string, readonly KubeObject[]>>
}

export class MemoryStore implements Store {
  readonly #objects = new Map<string, Map<string, KubeObject>>()
  readonly #watchers = new Map<string, Set<(event: StoreEvent) => void>>()
  /** The last events of all resources, oldest first. */
  #ring: StoreEvent[] = []
  readonly #ringSize: number
  /** Every event up to this one may be missing from the ring. */
  #forgotten = 0
  #version = 0
  #undelivered: StoreEvent[] = []
  #admit: Admit
  #now: () => number
  #dry = false
  /** Called after each change; the journal hangs here. */
  onChange: (() => void) | undefined

  constructor(o: { admit?: Admit; now?: () => number; ringSize?: number } = {}) {
    this.#admit = o.admit ?? admitAll
    this.#now = o.now ?? Date.now
    this.#ringSize = o.ringSize ?? 4096
  }

  get resourceVersion(): number {
    return this.#version
  }

  /** The first resourceVersion from which a watch can start. */
  get oldest(): number {
    return this.#forgotten
  }

  list<T extends KubeObject = KubeObject>(resource: string, query: Query = {}): T[] {
    const { namespace, labelSelector = [], fieldSelector = [] } = query
    const labels = typeof labelSelector === 'string' ? parseLabelSelector(labelSelector) : labelSelector
    const fields = typeof fieldSelector === 'string' ? parseFieldSelector(fieldSelector) : fieldSelector
    const found: [string, KubeObject][] = []
    for (const entry of this.#objects.get(resource) ?? []) {
      const object = entry[1]
      if (namespace && object.metadata.namespace !== namespace) continue
      if (matches(labels, object.metadata.labels) && matchesFields(fields, object)) found.push(entry)
    }
    return found.sort((a, b) => (a[0] < b[0] ? -1 : 1)).map((entry) => entry[1] as T)
  }

  get<T extends KubeObject = KubeObject>(resource: string, namespace: string | undefined, name: string): T | undefined {
    return this.#objects.get(resource)?.get(keyOf(namespace, name)) as T | undefined
  }

  create<T extends KubeObject = KubeObject>(resource: string, object: NewObject<T>): T {
    const draft = structuredClone(object) as unknown as KubeObject
    const meta = draft.metadata
    if (!meta.name && meta.generateName) meta.name = meta.generateName + randomSuffix()
    if (meta.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created')
    meta.uid = randomUUID()
    meta.creationTimestamp = rfc3339(this.#now())
    delete meta.deletionTimestamp
    delete meta.deletionGracePeriodSeconds
    delete (meta as { managedFields?: unknown }).managedFields
    if (this.#admit.countsGeneration(resource)) meta.generation = 1
    this.#admit.admit(resource, draft, undefined, undefined)
    if (this.get(resource, meta.namespace, meta.name)) throw alreadyExists(resource, meta.name)
    return this.#commit('ADDED', resource, draft, undefined) as T
  }

  update<T extends KubeObject = KubeObject>(resource: string, object: T, subresource?: Subresource): T {
    const { name, namespace, resourceVersion, uid } = object.metadata
    const old = this.get<T>(resource, namespace, name)
    if (!old) throw notFound(resource, name)
    if (uid && uid !== old.metadata.uid) {
      const why = `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.metadata.uid}`
      throw conflict(resource, name, why)
    }
    if (resourceVersion && resourceVersion !== old.metadata.resourceVersion) throw staleObject(resource, name)
    const draft = structuredClone(object) as KubeObject
    this.#keep(draft, old, subresource)
    this.#admit.admit(resource, draft, old, subresource)
    if (this.#admit.countsGeneration(resource) && !sameData(draft.spec, old.spec))
      draft.metadata.generation = (old.metadata.generation ?? 0) + 1
    if (draft.metadata.deletionTimestamp && !held(draft)) return this.#commit('DELETED', resource, draft, old) as T
    return sameData(draft, old) ? old : (this.#commit('MODIFIED', resource, draft, old) as T)
  }

  edit<T extends KubeObject = KubeObject>(
    resource: string,
    namespace: string | undefined,
    name: string,
    change: (draft: T) => void,
    subresource?: Subresource,
  ): T | undefined {
    const old = this.get<T>(resource, namespace, name)
    if (!old) return undefined
    const draft = structuredClone(old)
    change(draft)
    return this.update(resource, draft, subresource)
  }

  delete(resource: string, namespace: string | undefined, name: string, options: DeleteOptions = {}): KubeObject {
    const old = this.get(resource, namespace, name)
    if (!old) throw notFound(resource, name)
    const { uid, resourceVersion } = options.preconditions ?? {}
    if ((uid && uid !== old.metadata.uid) || (resourceVersion && resourceVersion !== old.metadata.resourceVersion)) {
      throw conflict(resource, name, 'Precondition failed: the object is not the one that was to be deleted')
    }
    const draft = structuredClone(old)
    const meta = draft.metadata
    const grace = Math.min(
      options.gracePeriodSeconds ?? Number.POSITIVE_INFINITY,
      meta.deletionGracePeriodSeconds ?? Number.POSITIVE_INFINITY,
    )
    const usual = this.#admit.gracePeriodOf(resource, old)
    const seconds = usual === 0 ? 0 : grace === Number.POSITIVE_INFINITY ? usual : grace
    const policy = options.propagationPolicy
    const finalizer = policy === 'Foreground' ? 'foregroundDeletion' : policy === 'Orphan' ? 'orphan' : undefined
    if (finalizer && !meta.finalizers?.includes(finalizer)) meta.finalizers = [...(meta.finalizers ?? []), finalizer]
    if (!meta.deletionTimestamp || seconds < (meta.deletionGracePeriodSeconds ?? 0)) {
      meta.deletionTimestamp = rfc3339(this.#now() + seconds * 1000)
      meta.deletionGracePeriodSeconds = seconds
      if (resource === 'namespaces') draft.status = { ...(draft.status as object), phase: 'Terminating' }
    }
    if (!held(draft)) return this.#commit('DELETED', resource, draft, old)
    return sameData(draft, old) ? old : this.#commit('MODIFIED', resource, draft, old)
  }

  watch<T extends KubeObject = KubeObject>(resource: string, fn: (event: StoreEvent<T>) => void, since?: number): () => void {
    if (since !== undefined && since < this.#forgotten) throw expired(since, this.#forgotten)
    const call = fn as (event: StoreEvent) => void
    const floor = since ?? this.#version
    // Events committed but not yet delivered come through the queue below: the replay must not give them twice.
    const waiting = this.#undelivered[0]?.resourceVersion ?? Number.POSITIVE_INFINITY
    const fromNow = (event: StoreEvent) => {
      if (event.resourceVersion > floor) call(event)
    }
    for (const event of this.#ring) if (event.resource === resource && event.resourceVersion < waiting) fromNow(event)
    const watchers = this.#watchers.get(resource) ?? new Set()
    this.#watchers.set(resource, watchers.add(fromNow))
    return () => {
      watchers.delete(fromNow)
    }
  }

  /** Runs writes through every check, and keeps none of them (`kubectl --dry-run=server`). */
  dryRun<T>(write: () => T): T {
    this.#dry = true
    try {
      return write()
    } finally {
      this.#dry = false
    }
  }

  snapshot(): Snapshot {
    const objects = [...this.#objects].map(([resource, all]) => [resource, [...all.values()]] as const)
    return { resourceVersion: this.#version, objects: Object.fromEntries(objects) }
  }

  /** Fills an empty store. Watches older than the snapshot get 410 and list again, as after a real API server's restart. */
  restore(snapshot: Snapshot): void {
    for (const [resource, objects] of Object.entries(snapshot.objects)) {
      const all = objects.map((object) => [keyOf(object.metadata.namespace, object.metadata.name), freeze(object)] as const)
      this.#objects.set(resource, new Map(all))
    }
    this.#version = this.#forgotten = snapshot.resourceVersion
  }

  /** What no update may change is taken from the stored object. */
  #keep(draft: KubeObject, old: KubeObject, subresource: Subresource): void {
    const { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, generateName } = old.metadata
    delete (draft.metadata as { managedFields?: unknown }).managedFields
    const kept = { uid, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, generation, generateName }
    Object.assign(draft.metadata, kept, { resourceVersion: old.metadata.resourceVersion })
    for (const [key, value] of Object.entries(kept)) if (value === undefined) delete draft.metadata[key as 'generation']
    draft.apiVersion = old.apiVersion
    draft.kind = old.kind
    const fixed = subresource === 'status' ? 'spec' : 'status'
    if (old[fixed] === undefined) delete draft[fixed]
    else draft[fixed] = structuredClone(old[fixed])
  }

  #commit(type: StoreEvent['type'], resource: string, draft: KubeObject, old: KubeObject | undefined): KubeObject {
    if (this.#dry) return freeze(draft)
    draft.metadata.resourceVersion = String(++this.#version)
    const object = freeze(draft)
    const all = this.#objects.get(resource) ?? new Map<string, KubeObject>()
    this.#objects.set(resource, all)
    const key = keyOf(object.metadata.namespace, object.metadata.name)
    if (type === 'DELETED') all.delete(key)
    else all.set(key, object)
    const event: StoreEvent = { type, resource, object, ...(old && { old }), resourceVersion: this.#version }
    this.#ring.push(event)
    if (this.#ring.length > 2 * this.#ringSize) {
      this.#ring = this.#ring.slice(-this.#ringSize)
      this.#forgotten = this.#ring[0]!.resourceVersion - 1
    }
    this.#undelivered.push(event)
    if (this.#undelivered.length === 1) queueMicrotask(() => this.#deliver())
    this.onChange?.()
    return object
  }

  /** In a microtask of its own, so a watcher that writes never sees its own event before its write returned, and all see one order. */
  #deliver(): void {
    while (this.#undelivered.length > 0) {
      const event = this.#undelivered.shift()!
      for (const call of [...(this.#watchers.get(event.resource) ?? [])]) call(event)
    }
  }
}

/** Deleted, and still stored: a grace period runs, or a finalizer (of namespaces also in spec) waits for its owner. */
function held(object: KubeObject): boolean {
  const { finalizers, deletionGracePeriodSeconds } = object.metadata
  const inSpec = object.kind === 'Namespace' ? (object.spec as { finalizers?: string[] } | undefined)?.finalizers : undefined
  return (finalizers?.length ?? 0) > 0 || (inSpec?.length ?? 0) > 0 || (deletionGracePeriodSeconds ?? 0) > 0
}
