/**
 * What every namespace has from birth: the ServiceAccount `default`, and the ConfigMap by which pods know the API server's CA.
 * In a real cluster two controllers see to it; here it is one watch, and what is deleted comes back.
 * @module
 */
import type { KubeObject, NewObject, Store } from '#lab/control/store.ts'

/** @param ca  PEM of the cluster's CA. @returns a function that ends it. */
export function furnishNamespaces(store: Store, ca: string): () => void {
  const furnishings = (namespace: string): [string, NewObject][] => [
    ['serviceaccounts', { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } }],
    ['configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kube-root-ca.crt', namespace }, data: { 'ca.crt': ca } }],
  ]
  const furnish = (namespace: KubeObject | undefined) => {
    if (!namespace || namespace.metadata.deletionTimestamp) return
    for (const [resource, object] of furnishings(namespace.metadata.name)) {
      if (!store.get(resource, namespace.metadata.name, object.metadata.name!)) store.create(resource, object)
    }
  }
  for (const namespace of store.list('namespaces')) furnish(namespace)
  const ends = [store.watch('namespaces', ({ type, object }) => furnish(type === 'ADDED' ? object : undefined))]
  for (const resource of ['serviceaccounts', 'configmaps']) {
    const refurnish = store.watch(resource, ({ type, object }) => {
      if (type === 'DELETED') furnish(store.get('namespaces', undefined, object.metadata.namespace!))
    })
    ends.push(refurnish)
  }
  return () => {
    for (const end of ends) end()
  }
}
