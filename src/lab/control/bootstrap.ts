/**
 * What a fresh cluster holds before anybody asks for anything: namespaces, the service `kubernetes` with its endpoint, and the roles
 * that let people discover the API. As kube-apiserver's own start-up hooks and kubeadm make them; what exists is left alone.
 * @module
 */
import type { KubeObject, NewObject, Store } from '#lab/control/store.ts'

const rbac = 'rbac.authorization.k8s.io'

interface Rule {
  readonly apiGroups?: readonly string[]
  readonly resources?: readonly string[]
  readonly nonResourceURLs?: readonly string[]
  readonly verbs: readonly string[]
}

const discoveryPaths = [
  '/api',
  '/api/*',
  '/apis',
  '/apis/*',
  '/healthz',
  '/livez',
  '/openapi',
  '/openapi/*',
  '/readyz',
  '/version',
  '/version/',
]
const publicPaths = ['/healthz', '/livez', '/readyz', '/version', '/version/']

const read = ['get', 'list', 'watch']
const write = ['create', 'delete', 'deletecollection', 'patch', 'update']
const common = ['configmaps', 'endpoints', 'pods', 'serviceaccounts', 'services']
const workloads = ['daemonsets', 'deployments', 'deployments/scale', 'replicasets', 'replicasets/scale']

const clusterRoles: Readonly<Record<string, readonly Rule[]>> = {
  'cluster-admin': [
    { apiGroups: ['*'], resources: ['*'], verbs: ['*'] },
    { nonResourceURLs: ['*'], verbs: ['*'] },
  ],
  'system:discovery': [{ nonResourceURLs: discoveryPaths, verbs: ['get'] }],
  'system:public-info-viewer': [{ nonResourceURLs: publicPaths, verbs: ['get'] }],
  'system:basic-user': [
    { apiGroups: ['authorization.k8s.io'], resources: ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'], verbs: ['create'] },
    { apiGroups: ['authentication.k8s.io'], resources: ['selfsubjectreviews'], verbs: ['create'] },
  ],
  view: [
    { apiGroups: [''], resources: [...common, 'events', 'namespaces', 'pods/log', 'pods/status'], verbs: read },
    { apiGroups: ['apps'], resources: workloads, verbs: read },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
  ],
  edit: [
    { apiGroups: [''], resources: [...common, 'secrets', 'pods/attach', 'pods/exec'], verbs: [...read, ...write] },
    { apiGroups: [''], resources: ['events', 'namespaces', 'pods/log', 'pods/status'], verbs: read },
    { apiGroups: ['apps'], resources: workloads, verbs: [...read, ...write] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
  ],
}

/** ClusterRole → the group that is bound to it. */
const bindings: Readonly<Record<string, readonly string[]>> = {
  'cluster-admin': ['system:masters'],
  'system:discovery': ['system:authenticated'],
  'system:basic-user': ['system:authenticated'],
  'system:public-info-viewer': ['system:authenticated', 'system:unauthenticated'],
}

export function bootstrap(store: Store, o: { readonly apiServerIp: string; readonly port: number; readonly serviceIp: string }): void {
  const ensure = (resource: string, object: NewObject<KubeObject>) => {
    if (!store.get(resource, object.metadata.namespace, object.metadata.name!)) store.create(resource, object)
  }
  for (const name of ['default', 'kube-node-lease', 'kube-public', 'kube-system']) {
    ensure('namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  const labels = { 'kubernetes.io/bootstrapping': 'rbac-defaults' }
  for (const [name, rules] of Object.entries(clusterRoles)) {
    ensure(`clusterroles.${rbac}`, { apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name, labels }, rules })
  }
  for (const [name, groups] of Object.entries(bindings)) {
    const roleRef = { apiGroup: rbac, kind: 'ClusterRole', name }
    const subjects = groups.map((group) => ({ apiGroup: rbac, kind: 'Group', name: group }))
    ensure(`clusterrolebindings.${rbac}`, {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name, labels },
      roleRef,
      subjects,
    })
  }
  const metadata = { name: 'kubernetes', namespace: 'default', labels: { component: 'apiserver', provider: 'kubernetes' } }
  const ports = [{ name: 'https', port: 443, protocol: 'TCP', targetPort: o.port }]
  ensure('services', { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: o.serviceIp, ports } })
  const port = { name: 'https', port: o.port, protocol: 'TCP' }
  ensure('endpoints', {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: 'kubernetes', namespace: 'default', labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } },
    subsets: [{ addresses: [{ ip: o.apiServerIp }], ports: [port] }],
  })
  ensure('endpointslices.discovery.k8s.io', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'kubernetes', namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [o.apiServerIp], conditions: { ready: true } }],
    ports: [port],
  })
}
