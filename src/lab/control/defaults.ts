/**
 * The values that users see although they wrote none: what kube-apiserver's defaulting adds to each kind. Changes the draft in place.
 * Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go and pkg/apis/apps/v1/defaults.go.
 * @module
 */
import { at, fill, isTree, type Tree, textAt, treeAt, treeIn, treesAt } from '#lab/control/tree.ts'

/** What one container's image is pulled by if it does not say. */
function pullPolicy(image: string): string {
  const withoutHost = image.slice(image.lastIndexOf('/') + 1)
  if (withoutHost.includes('@')) return 'IfNotPresent'
  const tag = withoutHost.split(':')[1]
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent'
}

function probe(container: Tree, kind: string): void {
  const probe = container[kind]
  if (!isTree(probe)) return
  fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 })
  if (isTree(probe.httpGet)) fill(probe.httpGet, { path: '/', scheme: 'HTTP' })
}

function container(c: Tree, hostNetwork: boolean): void {
  fill(c, {
    imagePullPolicy: pullPolicy(textAt(c, 'image')),
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
  })
  const { limits, requests } = treeAt(c, 'resources')
  if (isTree(limits)) treeIn(c, 'resources').requests = { ...limits, ...(requests as Tree | undefined) }
  for (const port of treesAt(c, 'ports')) {
    fill(port, { protocol: 'TCP' })
    if (hostNetwork) fill(port, { hostPort: port.containerPort })
  }
  for (const variable of treesAt(c, 'env')) {
    const field = at(variable, 'valueFrom.fieldRef')
    if (isTree(field)) fill(field, { apiVersion: 'v1' })
  }
  for (const kind of ['livenessProbe', 'readinessProbe', 'startupProbe']) probe(c, kind)
}

function volume(v: Tree): void {
  if (Object.keys(v).length === 1 && v.name !== undefined) v.emptyDir = {}
  for (const kind of ['configMap', 'secret', 'projected', 'downwardAPI']) if (isTree(v[kind])) fill(v[kind], { defaultMode: 0o644 })
  if (isTree(v.hostPath)) fill(v.hostPath, { type: '' })
  for (const source of treesAt(v, 'projected.sources')) {
    if (isTree(source.serviceAccountToken)) fill(source.serviceAccountToken, { expirationSeconds: 3600 })
  }
  for (const item of [
    ...treesAt(v, 'downwardAPI.items'),
    ...treesAt(v, 'projected.sources').flatMap((s) => treesAt(s, 'downwardAPI.items')),
  ]) {
    if (isTree(item.fieldRef)) fill(item.fieldRef, { apiVersion: 'v1' })
  }
}

/** A pod's spec, or the one in a workload's template. */
export function defaultPodSpec(spec: Tree): void {
  fill(spec, {
    restartPolicy: 'Always',
    dnsPolicy: 'ClusterFirst',
    terminationGracePeriodSeconds: 30,
    securityContext: {},
    schedulerName: 'default-scheduler',
  })
  if (spec.serviceAccountName ?? spec.serviceAccount) {
    spec.serviceAccountName ??= spec.serviceAccount
    spec.serviceAccount = spec.serviceAccountName
  }
  for (const c of [...treesAt(spec, 'initContainers'), ...treesAt(spec, 'containers')]) container(c, spec.hostNetwork === true)
  for (const v of treesAt(spec, 'volumes')) volume(v)
}

function defaultService(spec: Tree): void {
  fill(spec, { type: 'ClusterIP', sessionAffinity: 'None' })
  if (spec.sessionAffinity === 'None') delete spec.sessionAffinityConfig
  if (spec.sessionAffinity === 'ClientIP') fill(spec, { sessionAffinityConfig: { clientIP: { timeoutSeconds: 10800 } } })
  for (const port of treesAt(spec, 'ports')) fill(port, { protocol: 'TCP', targetPort: port.port })
  if (spec.type !== 'ExternalName') fill(spec, { ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', internalTrafficPolicy: 'Cluster' })
  if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') fill(spec, { externalTrafficPolicy: 'Cluster' })
  if (spec.type === 'LoadBalancer') fill(spec, { allocateLoadBalancerNodePorts: true })
}

function templateOf(spec: Tree): void {
  const template = treeIn(spec, 'template')
  treeIn(template, 'metadata')
  defaultPodSpec(treeIn(template, 'spec'))
}

function rolling(strategy: Tree, defaults: Tree): void {
  fill(strategy, { type: 'RollingUpdate' })
  if (strategy.type === 'RollingUpdate') fill(treeIn(strategy, 'rollingUpdate'), defaults)
}

const byResource: Readonly<Record<string, (object: Tree) => void>> = {
  pods: (o) => {
    const spec = treeIn(o, 'spec')
    defaultPodSpec(spec)
    fill(spec, { enableServiceLinks: true })
  },
  services: (o) => defaultService(treeIn(o, 'spec')),
  secrets: (o) => {
    fill(o, { type: 'Opaque' })
    // stringData is for writing only: it lands in data, in base64.
    for (const [key, value] of Object.entries(treeAt(o, 'stringData')))
      treeIn(o, 'data')[key] = Buffer.from(String(value)).toString('base64')
    delete o.stringData
  },
  endpoints: (o) => {
    for (const port of treesAt(o, 'subsets').flatMap((subset) => treesAt(subset, 'ports'))) fill(port, { protocol: 'TCP' })
  },
  'endpointslices.discovery.k8s.io': (o) => {
    for (const port of treesAt(o, 'ports')) fill(port, { name: '', protocol: 'TCP' })
  },
  'deployments.apps': (o) => {
    const spec = treeIn(o, 'spec')
    fill(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 })
    rolling(treeIn(spec, 'strategy'), { maxUnavailable: '25%', maxSurge: '25%' })
    templateOf(spec)
  },
  'replicasets.apps': (o) => {
    const spec = treeIn(o, 'spec')
    fill(spec, { replicas: 1 })
    templateOf(spec)
  },
  'daemonsets.apps': (o) => {
    const spec = treeIn(o, 'spec')
    fill(spec, { revisionHistoryLimit: 10 })
    rolling(treeIn(spec, 'updateStrategy'), { maxUnavailable: 1, maxSurge: 0 })
    templateOf(spec)
  },
  namespaces: (o) => {
    fill(treeIn(o, 'spec'), { finalizers: ['kubernetes'] })
    fill(treeIn(o, 'status'), { phase: 'Active' })
    const metadata = treeIn(o, 'metadata')
    treeIn(metadata, 'labels')['kubernetes.io/metadata.name'] = metadata.name
  },
  nodes: (o) => {
    treeIn(o, 'spec')
  },
  'clusterrolebindings.rbac.authorization.k8s.io': defaultBinding,
  'rolebindings.rbac.authorization.k8s.io': defaultBinding,
}

function defaultBinding(o: Tree): void {
  const group = 'rbac.authorization.k8s.io'
  fill(treeIn(o, 'roleRef'), { apiGroup: group })
  for (const subject of treesAt(o, 'subjects')) {
    if (subject.kind !== 'ServiceAccount') fill(subject, { apiGroup: group })
    else if (!subject.namespace && at(o, 'metadata.namespace')) subject.namespace = at(o, 'metadata.namespace')
  }
}

export const applyDefaults = (resource: string, object: Tree): void => byResource[resource]?.(object)
