/**
 * Events as controllers write them: the same words about the same object are one Event with a count.
 * Source of names and fields: k8s.io/client-go/tools/record.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { type KubeObject, rfc3339, type Store } from '#lab/control/store.ts'

export interface Recorder {
  record(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void
}

interface EventObject extends KubeObject {
  count: number
  lastTimestamp: string
}

/** Events by `component` (SOURCE, or FROM in `kubectl describe`). */
export function recorder(store: Store, component: string, clock: Pick<Clock, 'date'>): Recorder {
  /** Event name by what it says, for the objects alive now; a store that lost the Event gets a new one. */
  const known = new Map<string, string>()
  let serial = 0
  return {
    record(about, type, reason, message) {
      const { name, uid, resourceVersion, namespace = 'default' } = about.metadata
      const at = clock.date().getTime()
      const key = [uid, reason, message].join('\n')
      const again = store.edit<EventObject>('events', namespace, known.get(key) ?? '', (event) => {
        event.count++
        event.lastTimestamp = rfc3339(at)
      })
      if (again) return
      const home = store.get('namespaces', undefined, namespace)
      if (!home) return
      // client-go: the object's name and the time in hexadecimal nanoseconds; our clock has milliseconds, the serial does the rest.
      const eventName = `${name}.${(BigInt(at) * 1_000_000n + BigInt(serial++ % 1_000_000)).toString(16)}`
      const { apiVersion, kind } = about
      store.create('events', {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: eventName, namespace },
        involvedObject: { apiVersion, kind, name, uid, resourceVersion, ...(about.metadata.namespace ? { namespace } : {}) },
        type,
        reason,
        message,
        source: { component },
        reportingComponent: component,
        reportingInstance: '',
        firstTimestamp: rfc3339(at),
        lastTimestamp: rfc3339(at),
        count: 1,
      })
      known.set(key, eventName)
      if (known.size > 1000) known.delete(known.keys().next().value!)
    },
  }
}
