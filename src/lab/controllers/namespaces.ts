/**
 * The end of a namespace: all that is in it is deleted, and when it has gone, the finalizer is taken off.
 * Source: k8s.io/kubernetes/pkg/controller/namespace.
 * @module
 */
import { resources } from '#lab/control/resources.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import { type Controller, type Keys, ownKey } from '#lab/controllers/loop.ts'
import type { Namespace } from '#lab/controllers/objects.ts'

/** Resources that live in namespaces and are stored under their own name; pods go first, since others may wait for them. */
const contents: readonly string[] = resources
  .filter((resource) => resource.namespaced && resource.stored === resource.id)
  .map((resource) => resource.id)
  .toSorted((a, b) => Number(b === 'pods') - Number(a === 'pods'))

export function namespaceEnd({ store }: { store: Store }): Controller {
  const ifEnding: Keys = (object, old) => {
    const namespace = (object ?? old)!.metadata.namespace ?? ''
    return store.get('namespaces', undefined, namespace)?.metadata.deletionTimestamp ? [namespace] : []
  }
  return {
    name: 'namespace-end',
    watches: { namespaces: ownKey, ...Object.fromEntries(contents.map((resource) => [resource, ifEnding])) },
    reconcile(name) {
      const namespace = store.get<Namespace>('namespaces', undefined, name)
      if (!namespace?.metadata.deletionTimestamp) return undefined
      let left = 0
      for (const resource of contents) {
        const objects: KubeObject[] = store.list(resource, { namespace: name })
        for (const { metadata } of objects) if (!metadata.deletionTimestamp) store.delete(resource, name, metadata.name)
        left += store.list(resource, { namespace: name }).length
      }
      if (left > 0) return undefined
      store.edit<Namespace>('namespaces', undefined, name, (draft) => {
        draft.spec = { ...draft.spec, finalizers: (draft.spec?.finalizers ?? []).filter((finalizer) => finalizer !== 'kubernetes') }
      })
      return undefined
    },
  }
}
