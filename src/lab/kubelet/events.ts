/**
 * Events of the kubelet. The same event again raises the count of the first (as client-go's correlator does), so that a
 * retry each second does not fill the store. Best effort: an event that cannot be sent is logged and dropped.
 * @module
 */
import type { Log } from '#base/log.ts'
import { type Api, isNotFound, patchType } from '#lab/api.ts'
import type { Pod } from '#lab/kubelet/types.ts'
import { namespaceOf } from '#lab/kubelet/types.ts'

interface Subject {
  readonly kind: 'Pod' | 'Node'
  readonly name: string
  readonly namespace?: string
  readonly uid: string
  readonly fieldPath?: string
}

export class Events {
  readonly #sent = new Map<string, { path: string; count: number }>()
  #queue: Promise<void> = Promise.resolve()
  readonly #api: Api
  readonly #node: string
  readonly #log: Log

  constructor(api: Api, node: string, log: Log) {
    this.#api = api
    this.#node = node
    this.#log = log
  }

  /** An event on a pod; with `container`, on that container of it (`spec.containers{name}`). */
  pod(pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void {
    const initial = pod.spec.initContainers?.some((c) => c.name === container)
    const fieldPath = container === undefined ? {} : { fieldPath: `spec.${initial ? 'initContainers' : 'containers'}{${container}}` }
    this.#post(
      { kind: 'Pod', name: pod.metadata.name, namespace: namespaceOf(pod), uid: pod.metadata.uid!, ...fieldPath },
      type,
      reason,
      message,
    )
  }

  node(type: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#post({ kind: 'Node', name: this.#node, uid: this.#node }, type, reason, message)
  }

  /** Forgets what was sent about a pod that is gone. */
  forget(uid: string): void {
    for (const key of this.#sent.keys()) if (key.startsWith(uid)) this.#sent.delete(key)
  }

  #post(subject: Subject, type: string, reason: string, message: string): void {
    this.#log.info({ [subject.kind.toLowerCase()]: subject.name, reason, message }, 'event')
    this.#queue = this.#queue
      .then(() => this.#send(subject, type, reason, message))
      .catch((error: unknown) => this.#log.warn({ reason, error: String(error) }, 'event not sent'))
  }

  async #send(subject: Subject, type: string, reason: string, message: string): Promise<void> {
    const now = `${new Date().toISOString().slice(0, 19)}Z`
    const key = [subject.uid, subject.fieldPath, type, reason, message].join('|')
    const known = this.#sent.get(key)
    if (known) {
      try {
        known.count++
        await this.#api.patch(known.path, { count: known.count, lastTimestamp: now }, patchType.merge)
        return
      } catch (error) {
        if (!isNotFound(error)) throw error // else it has expired: a new one
      }
    }
    const namespace = subject.namespace ?? 'default'
    const name = `${subject.name}.${process.hrtime.bigint().toString(16)}`
    const path = `/api/v1/namespaces/${namespace}/events`
    const involvedObject = { apiVersion: 'v1', ...subject }
    await this.#api.create(path, {
      ...{ apiVersion: 'v1', kind: 'Event', metadata: { name, namespace }, involvedObject, type, reason, message, count: 1 },
      ...{ firstTimestamp: now, lastTimestamp: now, source: { component: 'kubelet', host: this.#node } },
      ...{ reportingComponent: 'kubelet', reportingInstance: this.#node },
    })
    this.#sent.set(key, { path: `${path}/${name}`, count: 1 })
  }
}
