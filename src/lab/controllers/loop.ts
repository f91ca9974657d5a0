/**
 * The one loop all controllers share: a change of an object rings keys, a key is reconciled from the current state, a failure is
 * tried again later. Controllers take their turns in a fixed order, one key each, so that a run is the same every time.
 * @module
 */
import { backoffMs } from '#base/backoff.ts'
import type { Clock } from '#base/clock.ts'
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'

/** Which keys a change concerns. `old` is absent for a new object, `object` for a deleted one. */
export type Keys = (object: KubeObject | undefined, old: KubeObject | undefined) => Iterable<string>

export interface Controller {
  readonly name: string
  /** By resource. Existing objects ring once at the start. */
  readonly watches: Readonly<Record<string, Keys>>
  /** Brings what `key` stands for to its wanted state. Reads the store, never the event: events may be merged.
   * @returns  Milliseconds after which to look again, though nothing may have changed by then. */
  reconcile(key: string): number | undefined
}

export interface Loop {
  stop(): void
  /** Resolves once nothing is left to do (delayed looks do not count). For tests. */
  idle(): Promise<void>
}

export function runLoop(store: Store, controllers: readonly Controller[], o: { clock: Clock; log: Log }): Loop {
  const stopped = new AbortController()
  const queues = controllers.map((controller) => ({
    controller,
    keys: new Set<string>(),
    failures: new Map<string, number>(),
    timers: new Map<string, AbortController>(),
  }))
  type Queue = (typeof queues)[number]
  let scheduled = false
  const waiters: (() => void)[] = []

  const ring = (queue: Queue, keys: Iterable<string>): void => {
    for (const key of keys) queue.keys.add(key)
    if (scheduled || stopped.signal.aborted) return
    scheduled = true
    setImmediate(drain)
  }

  const later = (queue: Queue, key: string, ms: number): void => {
    queue.timers.get(key)?.abort()
    const timer = new AbortController()
    queue.timers.set(key, timer)
    void o.clock.sleep(ms, AbortSignal.any([timer.signal, stopped.signal])).then(() => {
      if (timer.signal.aborted) return
      queue.timers.delete(key)
      ring(queue, [key])
    })
  }

  const reconcile = (queue: Queue, key: string): void => {
    try {
      const againMs = queue.controller.reconcile(key)
      queue.failures.delete(key)
      if (againMs !== undefined) later(queue, key, againMs)
    } catch (error) {
      const attempt = (queue.failures.get(key) ?? 0) + 1
      queue.failures.set(key, attempt)
      o.log.warn({ controller: queue.controller.name, key, attempt }, messageOf(error))
      later(queue, key, backoffMs(attempt, { firstMs: 50, maxMs: 10_000 }, o.clock))
    }
  }

  /** One key of each controller that has one; the rest after the store has told what these changed. */
  function drain(): void {
    scheduled = false
    if (stopped.signal.aborted) return
    for (const queue of queues) {
      const [key] = queue.keys
      if (key === undefined) continue
      queue.keys.delete(key)
      reconcile(queue, key)
    }
    if (queues.some((queue) => queue.keys.size > 0)) ring(queues[0]!, [])
    // The store delivers its events in a microtask, so what these turns changed has rung before this runs.
    else
      setImmediate(() => {
        for (const done of scheduled ? [] : waiters.splice(0)) done()
      })
  }

  const ends = queues.flatMap((queue) =>
    Object.entries(queue.controller.watches).map(([resource, keys]) => {
      for (const object of store.list(resource)) ring(queue, keys(object, undefined))
      return store.watch(resource, ({ type, object, old }) => {
        try {
          ring(queue, type === 'DELETED' ? keys(undefined, old ?? object) : keys(object, old))
        } catch (error) {
          o.log.error({ controller: queue.controller.name, resource, name: object.metadata.name }, messageOf(error))
        }
      })
    }),
  )
  return {
    stop: () => {
      stopped.abort()
      for (const end of ends) end()
    },
    idle: () =>
      new Promise((done) => {
        waiters.push(done)
        ring(queues[0]!, [])
      }),
  }
}

/** Keys of an object itself. */
export const ownKey: Keys = (object, old) => [keyOf((object ?? old)!)]

export const keyOf = ({ metadata }: KubeObject): string =>
  metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`

/** `namespace/name` apart. */
export function splitKey(key: string): [namespace: string, name: string] {
  const slash = key.indexOf('/')
  return [key.slice(0, slash), key.slice(slash + 1)]
}
