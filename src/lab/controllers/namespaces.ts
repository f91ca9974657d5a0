/**
 * Namespaces: what each one is born with (the default ServiceAccount, the cluster's CA), and its end, when all that is in it has gone.
 * Source: k8s.io/kubernetes/pkg/controller/{serviceaccount,certificates/rootcacertpublisher,namespace}.
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

const namespaceOf: Keys = (object, old) => [(object ?? old)!.metadata.namespace!]

/** @param caPem  The certificate that clients in pods verify the API server by. */
export function namespaceBirth({ store, caPem }: { store: Store; caPem: string }): Controller {
  return {
    name: 'namespace-birth',
    watches: { namespaces: ownKey, serviceaccounts: namespaceOf, configmaps: namespaceOf },
    reconcile(namespace) {
      const home = store.get('namespaces', undefined, namespace)
      if (!home || home.metadata.deletionTimestamp) return undefined
      if (!store.get('serviceaccounts', namespace, 'default'))
        store.create('serviceaccounts', { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } })
      const data = { 'ca.crt': caPem }
      const done = store.edit('configmaps', namespace, 'kube-root-ca.crt', (draft) => {
        draft.data = data
      })
      if (!done)
        store.create('configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kube-root-ca.crt', namespace }, data })
      return undefined
    },
  }
}

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
