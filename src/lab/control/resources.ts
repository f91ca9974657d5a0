/**
 * The resources that the lab serves, one line each. Discovery, routing, OpenAPI and admission all read this table.
 * @module
 */

export interface Resource {
  /** The store's name for it: `pods`, `deployments.apps`. */
  readonly id: string
  readonly group: string
  readonly version: string
  /** Plural, as in the path. */
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
  readonly short: readonly string[]
  readonly categories: readonly string[]
  /** Subresource → the kind it speaks. */
  readonly sub: Readonly<Record<string, SubKind>>
  /** Type in @kubernetes/client-node's models that has the kind's fields. */
  readonly model: string
  /** Counts metadata.generation. */
  readonly counted: boolean
  /** Which other resource holds the objects: events.k8s.io is a second view of core events. */
  readonly stored: string
}

export interface SubKind {
  readonly group: string
  readonly version: string
  readonly kind: string
  readonly verbs: readonly string[]
}

export const allVerbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const

const change = ['get', 'patch', 'update']
const scale: SubKind = { group: 'autoscaling', version: 'v1', kind: 'Scale', verbs: change }

/** `status` in `sub` stands for the resource's own kind. */
function resource(
  id: string,
  version: string,
  kind: string,
  o: {
    cluster?: true
    short?: string[]
    all?: true
    status?: true
    sub?: Record<string, SubKind>
    model?: string
    counted?: true
    stored?: string
  } = {},
): Resource {
  const [plural, ...rest] = id.split('.')
  const group = rest.join('.')
  return {
    id,
    group,
    version,
    plural: plural!,
    kind,
    namespaced: !o.cluster,
    short: o.short ?? [],
    categories: o.all ? ['all'] : [],
    sub: { ...(o.status && { status: { group, version, kind, verbs: change } }), ...o.sub },
    model: o.model ?? `V1${kind}`,
    counted: o.counted ?? false,
    stored: o.stored ?? id,
  }
}

const core = (kind: string, ...verbs: string[]): SubKind => ({ group: '', version: 'v1', kind, verbs })

export const resources: readonly Resource[] = [
  resource('configmaps', 'v1', 'ConfigMap', { short: ['cm'] }),
  resource('endpoints', 'v1', 'Endpoints', { short: ['ep'] }),
  resource('events', 'v1', 'Event', { short: ['ev'], model: 'CoreV1Event' }),
  resource('namespaces', 'v1', 'Namespace', { cluster: true, short: ['ns'], status: true, sub: { finalize: core('Namespace', 'update') } }),
  resource('nodes', 'v1', 'Node', { cluster: true, short: ['no'], status: true }),
  resource('pods', 'v1', 'Pod', {
    short: ['po'],
    all: true,
    status: true,
    sub: {
      log: core('Pod', 'get'),
      exec: core('PodExecOptions', 'create', 'get'),
      portforward: core('PodPortForwardOptions', 'create', 'get'),
      binding: core('Binding', 'create'),
      eviction: { group: 'policy', version: 'v1', kind: 'Eviction', verbs: ['create'] },
    },
  }),
  resource('secrets', 'v1', 'Secret'),
  resource('serviceaccounts', 'v1', 'ServiceAccount', {
    short: ['sa'],
    sub: { token: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest', verbs: ['create'] } },
  }),
  resource('services', 'v1', 'Service', { short: ['svc'], all: true, status: true }),
  resource('controllerrevisions.apps', 'v1', 'ControllerRevision'),
  resource('daemonsets.apps', 'v1', 'DaemonSet', { short: ['ds'], all: true, status: true, counted: true }),
  resource('deployments.apps', 'v1', 'Deployment', { short: ['deploy'], all: true, status: true, counted: true, sub: { scale } }),
  resource('replicasets.apps', 'v1', 'ReplicaSet', { short: ['rs'], all: true, status: true, counted: true, sub: { scale } }),
  resource('leases.coordination.k8s.io', 'v1', 'Lease'),
  resource('endpointslices.discovery.k8s.io', 'v1', 'EndpointSlice', { counted: true }),
  resource('events.events.k8s.io', 'v1', 'Event', { short: ['ev'], model: 'EventsV1Event', stored: 'events' }),
  resource('networkpolicies.networking.k8s.io', 'v1', 'NetworkPolicy', { short: ['netpol'], counted: true }),
  resource('poddisruptionbudgets.policy', 'v1', 'PodDisruptionBudget', { short: ['pdb'], status: true, counted: true }),
  resource('clusterrolebindings.rbac.authorization.k8s.io', 'v1', 'ClusterRoleBinding', { cluster: true }),
  resource('clusterroles.rbac.authorization.k8s.io', 'v1', 'ClusterRole', { cluster: true }),
  resource('rolebindings.rbac.authorization.k8s.io', 'v1', 'RoleBinding'),
  resource('roles.rbac.authorization.k8s.io', 'v1', 'Role'),
]

/** Kinds that are answered and never stored. */
export const reviews: readonly Resource[] = [
  resource('selfsubjectreviews.authentication.k8s.io', 'v1', 'SelfSubjectReview', { cluster: true }),
  resource('selfsubjectaccessreviews.authorization.k8s.io', 'v1', 'SelfSubjectAccessReview', { cluster: true }),
  resource('selfsubjectrulesreviews.authorization.k8s.io', 'v1', 'SelfSubjectRulesReview', { cluster: true }),
]

const byId = new Map([...resources, ...reviews].map((r) => [r.id, r]))

export const resourceById = (id: string): Resource | undefined => byId.get(id)

/** By path: `resourceAt('apps', 'v1', 'deployments')`. */
export function resourceAt(group: string, version: string, plural: string): Resource | undefined {
  const found = byId.get(group === '' ? plural : `${plural}.${group}`)
  return found?.version === version ? found : undefined
}

export const apiVersionOf = (r: { group: string; version: string }): string => (r.group === '' ? r.version : `${r.group}/${r.version}`)

/** Every served group/version, core first. */
export const groupVersions: readonly { readonly group: string; readonly version: string }[] = [
  ...new Map([...resources, ...reviews].map((r) => [apiVersionOf(r), { group: r.group, version: r.version }])).values(),
]
