/**
 * What a real cluster's admission plugins and allocators add between a request and the store: namespaces that must exist, the pod's
 * ServiceAccount and its token volume, default tolerations, priorities, cluster IPs and node ports; then defaults and validation.
 * @module
 */
import { applyDefaults } from '#lab/control/defaults.ts'
import { resourceById } from '#lab/control/resources.ts'
import { ApiError, forbidden, invalid, notFound } from '#lab/control/status.ts'
import type { Admit, KubeObject, Store } from '#lab/control/store.ts'
import { at, fill, type Tree, textAt, textsAt, treeAt, treeIn, treesAt } from '#lab/control/tree.ts'
import { faultsOf } from '#lab/control/validate.ts'
import { addToIp, contains, formatIp, maskCidr, parseCidr, parseIp } from '#net/ip.ts'

/** Namespaces that a cluster cannot be without. */
const immortal = new Set(['default', 'kube-system', 'kube-public'])

export const tokenMount = '/var/run/secrets/kubernetes.io/serviceaccount'

export interface AdmitOptions {
  readonly serviceCidr: string
  /** The store that this hook guards; a function, since each needs the other. */
  readonly store: () => Store
}

export function admission(o: AdmitOptions): Admit {
  return {
    countsGeneration: (resource) => resourceById(resource)?.counted ?? false,
    gracePeriodOf(resource, object) {
      if (resource === 'namespaces' && immortal.has(object.metadata.name))
        throw forbidden(resource, object.metadata.name, 'this namespace may not be deleted')
      const phase = textAt(object, 'status.phase')
      const running = resource === 'pods' && textAt(object, 'spec.nodeName') !== '' && phase !== 'Succeeded' && phase !== 'Failed'
      return running ? Number(at(object, 'spec.terminationGracePeriodSeconds') ?? 30) : 0
    },
    admit(resource, draft, old, subresource) {
      const r = resourceById(resource)
      if (!r) throw new ApiError(404, 'NotFound', `the embedded lab control plane does not serve ${resource}`)
      if (!old) onCreate(o.store(), resource, r.namespaced, draft)
      if (subresource === 'status') return
      if (!old && resource === 'pods') admitPod(o.store(), draft)
      if (old && resource === 'services') keepAllocations(draft, old)
      applyDefaults(resource, draft)
      if (!old && resource === 'nodes') taintNewNode(draft)
      if (!old && resource === 'pods') draft.status = { phase: 'Pending', qosClass: qosClassOf(draft) }
      const faults = draft.metadata.deletionTimestamp ? [] : faultsOf(resource, draft, old)
      if (faults.length > 0) throw invalid(r.kind, r.group, draft.metadata.name ?? '', faults)
      if (resource === 'services') allocate(o, draft)
    },
  }
}

/** Kinds whose status comes with their creation, because the one who creates them knows it. */
const bornWithStatus = new Set(['nodes', 'namespaces', 'pods'])

/** Admission plugin TaintNodesByCondition: no pod is bound to a node between its registration and its first Ready. */
function taintNewNode(node: KubeObject): void {
  const spec = (node.spec ?? {}) as { taints?: { key: string; effect: string }[] }
  const notReady = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' }
  if (spec.taints?.some(({ key, effect }) => key === notReady.key && effect === notReady.effect)) return
  node.spec = { ...spec, taints: [...(spec.taints ?? []), notReady] }
}

function onCreate(store: Store, resource: string, namespaced: boolean, draft: KubeObject): void {
  const { namespace, name } = draft.metadata
  if (!namespaced) delete draft.metadata.namespace
  else {
    const home = store.get('namespaces', undefined, namespace ?? '')
    if (!home) throw notFound('namespaces', namespace ?? '')
    if (home.metadata.deletionTimestamp && resource !== 'events')
      throw forbidden(resource, name, `unable to create new content in namespace ${namespace} because it is being terminated`)
  }
  if (!bornWithStatus.has(resource)) {
    delete draft.status
    if (resourceById(resource)?.sub.status) draft.status = resource === 'services' ? { loadBalancer: {} } : {}
  }
}

// Pods

const isMirror = (pod: KubeObject) => 'kubernetes.io/config.mirror' in (pod.metadata.annotations ?? {})

const priorities: Readonly<Record<string, number>> = { 'system-node-critical': 2_000_001_000, 'system-cluster-critical': 2_000_000_000 }

function admitPod(store: Store, pod: KubeObject): void {
  const spec = treeIn(pod, 'spec')
  if (!isMirror(pod)) serviceAccount(store, pod, spec)
  const priorityClass = textAt(spec, 'priorityClassName')
  if (priorityClass !== '' && !(priorityClass in priorities))
    throw forbidden('pods', pod.metadata.name, `no PriorityClass with name ${priorityClass} was found`)
  spec.priority = priorities[priorityClass] ?? 0
  fill(spec, { preemptionPolicy: 'PreemptLowerPriority' })
  const tolerations = treesAt(spec, 'tolerations')
  const tolerated = (key: string) =>
    tolerations.some((t) => (textAt(t, 'key') === key || textAt(t, 'key') === '') && ['', 'NoExecute'].includes(textAt(t, 'effect')))
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    if (!tolerated(key)) tolerations.push({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 })
  }
  if (tolerations.length > 0) spec.tolerations = tolerations
}

/** The ServiceAccount admission plugin: the account must exist, and its token is mounted where client libraries look for it. */
function serviceAccount(store: Store, pod: KubeObject, spec: Tree): void {
  const { namespace, name } = pod.metadata
  const account = textAt(spec, 'serviceAccountName') || textAt(spec, 'serviceAccount') || 'default'
  spec.serviceAccountName = account
  const found = store.get('serviceaccounts', namespace, account)
  if (!found)
    throw forbidden('pods', name, `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`)
  if ((spec.automountServiceAccountToken ?? found.automountServiceAccountToken) === false) return
  const containers = [...treesAt(spec, 'initContainers'), ...treesAt(spec, 'containers')]
  const without = containers.filter((c) => !treesAt(c, 'volumeMounts').some((mount) => mount.mountPath === tokenMount))
  if (without.length === 0) return
  const volume = `kube-api-access-${Math.random().toString(36).slice(2, 7).padEnd(5, 'x')}`
  for (const c of without) c.volumeMounts = [...treesAt(c, 'volumeMounts'), { name: volume, readOnly: true, mountPath: tokenMount }]
  spec.volumes = [
    ...treesAt(spec, 'volumes'),
    {
      name: volume,
      projected: {
        defaultMode: 0o644,
        sources: [
          { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
          { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
          { downwardAPI: { items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }] } },
        ],
      },
    },
  ]
}

function qosClassOf(pod: KubeObject): string {
  const containers = treesAt(pod, 'spec.containers')
  const asked = containers.flatMap((c) =>
    ['cpu', 'memory'].map((key) => [at(c, `resources.requests.${key}`), at(c, `resources.limits.${key}`)]),
  )
  if (asked.every(([request, limit]) => request === undefined && limit === undefined)) return 'BestEffort'
  return asked.every(([request, limit]) => limit !== undefined && request === limit) ? 'Guaranteed' : 'Burstable'
}

// Services

/** An update that leaves an address or a node port out means: as it was. What the old type had and the new one has not goes, unless
 * the update asks for something else. */
function keepAllocations(draft: KubeObject, old: KubeObject): void {
  const spec = treeIn(draft, 'spec')
  if (textAt(spec, 'type') === 'ExternalName') return
  const before = treeAt(old, 'spec')
  if (textAt(before, 'type') !== 'ExternalName') fill(spec, { clusterIP: before.clusterIP, clusterIPs: before.clusterIPs })
  const ports = treesAt(before, 'ports')
  const kept = wantsNodePorts(spec)
  if (!kept && spec.externalTrafficPolicy === before.externalTrafficPolicy) delete spec.externalTrafficPolicy
  for (const port of treesAt(spec, 'ports')) {
    const same = ports.find((p) => p.port === port.port && textAt(p, 'protocol') === (textAt(port, 'protocol') || 'TCP'))
    if (!kept && port.nodePort === same?.nodePort) delete port.nodePort
    if (kept && same?.nodePort) fill(port, { nodePort: same.nodePort })
  }
}

const wantsNodePorts = (spec: Tree) => spec.type === 'NodePort' || spec.type === 'LoadBalancer'

function allocate(o: AdmitOptions, service: KubeObject): void {
  const spec = treeIn(service, 'spec')
  const { name, namespace } = service.metadata
  const others = o
    .store()
    .list('services')
    .filter((other) => other.metadata.name !== name || other.metadata.namespace !== namespace)
  const refuse = (field: string, value: unknown, detail: string) =>
    invalid('Service', '', name, [{ type: 'Invalid value', field, value, detail }])
  if (spec.type === 'ExternalName') {
    delete spec.clusterIP
    delete spec.clusterIPs
  } else {
    const used = new Set(others.flatMap((other) => textsAt(other, 'spec.clusterIPs')))
    const wanted = textAt(spec, 'clusterIP') || textsAt(spec, 'clusterIPs')[0]
    const ip = wanted ?? freeAddress(o.serviceCidr, used)
    if (ip === undefined)
      throw new ApiError(500, 'InternalError', `Internal error occurred: failed to allocate a serviceIP: ${o.serviceCidr} is full`)
    const address = parseIp(ip)
    if (ip !== 'None' && (!address || !contains(parseCidr(o.serviceCidr)!, address))) {
      const why = `failed to allocate IP ${ip}: the provided IP (${ip}) is not in the valid range. The range of valid IPs is ${o.serviceCidr}`
      throw refuse('spec.clusterIPs', [ip], why)
    }
    if (ip !== 'None' && used.has(ip))
      throw refuse('spec.clusterIPs', [ip], `failed to allocate IP ${ip}: provided IP is already allocated`)
    spec.clusterIP = ip
    spec.clusterIPs = [ip]
  }
  const ports = treesAt(spec, 'ports')
  if (!wantsNodePorts(spec)) return
  // Within one service two protocols may share a number.
  const own = new Set<string>()
  const used = new Set(others.flatMap((other) => treesAt(other, 'spec.ports').map((port) => Number(port.nodePort ?? 0))))
  for (const [i, port] of ports.entries()) {
    const wanted = Number(port.nodePort ?? 0)
    if (wanted !== 0 && (wanted < 30000 || wanted > 32767))
      throw refuse(`spec.ports[${i}].nodePort`, wanted, 'provided port is not in the valid range. The range of valid ports is 30000-32767')
    const key = `${wanted} ${textAt(port, 'protocol')}`
    if (wanted !== 0 && (used.has(wanted) || own.has(key)))
      throw refuse(`spec.ports[${i}].nodePort`, wanted, 'provided port is already allocated')
    port.nodePort = wanted || freeNodePort(new Set([...used, ...treesAt(spec, 'ports').map((each) => Number(each.nodePort ?? 0))]))
    own.add(`${port.nodePort} ${textAt(port, 'protocol')}`)
  }
}

function freeAddress(cidr: string, used: ReadonlySet<string>): string | undefined {
  const range = maskCidr(parseCidr(cidr)!)
  const size = 2 ** (32 - range.prefix)
  // The first 256 are left for services that ask for a fixed one, as kube-apiserver does: kubernetes is .1, kube-dns .10.
  for (let i = size > 1024 ? 257 : 2; i < size - 1; i++) {
    const ip = formatIp(addToIp(range.bytes, i)!)
    if (!used.has(ip)) return ip
  }
  return undefined
}

function freeNodePort(used: ReadonlySet<number>): number {
  const start = Math.floor(Math.random() * 2768)
  for (let i = 0; i < 2768; i++) {
    const port = 30000 + ((start + i) % 2768)
    if (!used.has(port)) return port
  }
  throw new ApiError(500, 'InternalError', 'Internal error occurred: failed to allocate a nodePort: range is full')
}
