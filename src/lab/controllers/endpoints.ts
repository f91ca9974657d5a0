/**
 * Who serves a service: EndpointSlices (which proxies read) and Endpoints (which `kubectl get ep` shows), from the service's selector
 * and the readiness of the pods.
 * Source: k8s.io/kubernetes/pkg/controller/{endpoint,endpointslice}, k8s.io/endpointslice.
 * @module
 */
import { matches, requirementsOf } from '#lab/control/selectors.ts'
import { type KubeObject, type Store, sameData } from '#lab/control/store.ts'
import { type Controller, keyOf, ownKey, splitKey } from '#lab/controllers/loop.ts'
import { isEnded, isReady, ownedBy, type Pod, type Service, type ServicePort } from '#lab/controllers/objects.ts'

const slices = 'endpointslices.discovery.k8s.io'
const serviceLabel = 'kubernetes.io/service-name'
/** --max-endpoints-per-slice. */
const maxPerSlice = 100

interface Port {
  readonly name: string
  readonly port: number
  readonly protocol: string
  readonly appProtocol?: string
}

/** Pods that resolve a service's ports to the same numbers. */
interface Group {
  readonly ports: readonly Port[]
  readonly pods: Pod[]
}

export function endpoints({ store }: { store: Store }): Controller {
  return {
    name: 'endpoints',
    watches: {
      services: ownKey,
      pods: (pod, old) => {
        if (pod && old && sameData(relevant(pod as Pod), relevant(old as Pod))) return []
        const { namespace } = (pod ?? old)!.metadata
        const touched = (service: Service): boolean => [pod, old].some((one) => one !== undefined && selectsPod(service, one))
        return store.list<Service>('services', { namespace: namespace! }).filter(touched).map(keyOf)
      },
      // Someone changed or deleted what is ours: put it right.
      endpoints: ownKey,
      [slices]: (slice, old) => {
        const { namespace, labels } = (slice ?? old)!.metadata
        const service = labels?.[serviceLabel]
        return service ? [`${namespace}/${service}`] : []
      },
    },
    reconcile(key) {
      const [namespace, name] = splitKey(key)
      const service = store.get<Service>('services', namespace, name)
      if (!service || service.metadata.deletionTimestamp) {
        if (store.get('endpoints', namespace, name)) store.delete('endpoints', namespace, name)
        return undefined
      }
      // Without a selector someone else keeps them: kube-apiserver those of its own service, a person those of another.
      if (service.spec.selector) serve(store, service)
      return undefined
    },
  }
}

const relevant = ({ metadata, status, spec }: Pod): object => {
  const { labels, deletionTimestamp } = metadata
  const ready = status?.conditions?.find((condition) => condition.type === 'Ready')?.status
  return { labels, deletionTimestamp, ready, node: spec.nodeName, phase: status?.phase, ip: status?.podIP }
}

function selectsPod(service: Service, pod: KubeObject): boolean {
  const { selector } = service.spec
  return selector !== undefined && matches(requirementsOf({ matchLabels: selector }), pod.metadata.labels)
}

function serve(store: Store, service: Service): void {
  const groups = groupsOf(store, service)
  writeSlices(store, service, groups)
  writeEndpoints(store, service, groups)
}

function groupsOf(store: Store, service: Service): Group[] {
  const groups = new Map<string, Group>()
  for (const pod of store.list<Pod>('pods', { namespace: service.metadata.namespace! })) {
    if (!selectsPod(service, pod) || isEnded(pod) || !pod.status?.podIP) continue
    const ports = (service.spec.ports ?? []).flatMap((port) => resolve(port, pod) ?? [])
    const key = JSON.stringify(ports)
    const group = groups.get(key) ?? { ports, pods: [] }
    group.pods.push(pod)
    groups.set(key, group)
  }
  return [...groups].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group)
}

/** The number that a service's port has in a pod: given, or by the name of a container port; undefined if the pod has no such port. */
function resolve(port: ServicePort, pod: Pod): Port | undefined {
  const protocol = port.protocol ?? 'TCP'
  const target = port.targetPort ?? port.port
  const named = (): number | undefined =>
    pod.spec.containers
      .flatMap((container) => container.ports ?? [])
      .find((one) => one.name === target && (one.protocol ?? 'TCP') === protocol)?.containerPort
  const number = typeof target === 'number' ? target : named()
  if (number === undefined) return undefined
  return { name: port.name ?? '', port: number, protocol, ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}) }
}

const targetRef = (pod: Pod): object => ({ kind: 'Pod', namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid })

function hostnameOf(service: Service, pod: Pod): { hostname?: string } {
  return pod.spec.hostname && pod.spec.subdomain === service.metadata.name ? { hostname: pod.spec.hostname } : {}
}

function writeSlices(store: Store, service: Service, groups: readonly Group[]): void {
  const { namespace, name, labels } = service.metadata
  const always = service.spec.publishNotReadyAddresses === true
  const endpointOf = (pod: Pod): object => {
    const serving = always || isReady(pod)
    const terminating = pod.metadata.deletionTimestamp !== undefined
    return {
      addresses: [pod.status!.podIP!],
      conditions: { ready: always || (serving && !terminating), serving, terminating },
      ...hostnameOf(service, pod),
      ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      targetRef: targetRef(pod),
    }
  }
  const chunks = groups.flatMap(({ ports, pods }) =>
    Array.from({ length: Math.ceil(pods.length / maxPerSlice) }, (_, i) => ({
      ports,
      pods: pods.slice(i * maxPerSlice, (i + 1) * maxPerSlice),
    })),
  )
  // A service without pods has one empty slice: it tells proxies that nobody answers.
  if (chunks.length === 0) chunks.push({ ports: [], pods: [] })
  const sliceLabels = {
    ...labels,
    [serviceLabel]: name,
    'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    ...(service.spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {}),
  }
  const have = store
    .list(slices, { namespace: namespace!, labelSelector: `${serviceLabel}=${name}` })
    .filter(
      (slice) =>
        !slice.metadata.deletionTimestamp &&
        slice.metadata.labels?.['endpointslice.kubernetes.io/managed-by'] === sliceLabels['endpointslice.kubernetes.io/managed-by'],
    )
  for (const [i, { ports, pods }] of chunks.entries()) {
    const content = { addressType: 'IPv4', endpoints: pods.map(endpointOf), ports: ports.map((port) => ({ ...port })) }
    const slice = have[i]
    if (!slice) {
      store.create(slices, {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { generateName: `${name}-`, namespace: namespace!, labels: sliceLabels, ownerReferences: ownedBy(service) },
        ...content,
      })
      continue
    }
    store.edit(slices, namespace, slice.metadata.name, (draft) => {
      Object.assign(draft, content)
      draft.metadata.labels = sliceLabels
    })
  }
  for (const slice of have.slice(chunks.length)) store.delete(slices, namespace, slice.metadata.name)
}

function writeEndpoints(store: Store, service: Service, groups: readonly Group[]): void {
  const subsets = groups.flatMap(({ ports, pods }) => {
    const living = pods.filter((pod) => !pod.metadata.deletionTimestamp)
    const ready = living.filter((pod) => service.spec.publishNotReadyAddresses || isReady(pod))
    const address = (pod: Pod): object => ({
      ip: pod.status!.podIP!,
      ...hostnameOf(service, pod),
      ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      targetRef: targetRef(pod),
    })
    const waiting = living.filter((pod) => !ready.includes(pod))
    if (living.length === 0) return []
    return [
      {
        ...(ready.length > 0 ? { addresses: ready.map(address) } : {}),
        ...(waiting.length > 0 ? { notReadyAddresses: waiting.map(address) } : {}),
        ...(ports.length > 0 ? { ports: ports.map(({ name, ...port }) => (name === '' ? port : { name, ...port })) } : {}),
      },
    ]
  })
  const headless = service.spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {}
  put(store, 'endpoints', {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: { name: service.metadata.name, namespace: service.metadata.namespace!, labels: { ...service.metadata.labels, ...headless } },
    ...(subsets.length > 0 ? { subsets } : {}),
  })
}

/** Creates the object, or makes the one that is there say the same. */
function put(
  store: Store,
  resource: string,
  wanted: { apiVersion: string; kind: string; metadata: { name: string; namespace: string; labels: Record<string, string> } } & Record<
    string,
    unknown
  >,
): void {
  const { metadata, ...content } = wanted
  const done = store.edit(resource, metadata.namespace, metadata.name, (draft) => {
    if (!('subsets' in content)) delete draft.subsets
    Object.assign(draft, content)
    draft.metadata.labels = metadata.labels
  })
  if (!done) store.create(resource, wanted)
}
