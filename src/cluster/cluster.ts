/**
 * The way in: wires access, client, stores and watches into a `Cluster`.
 * @module
 */
import type { TwillError } from '#base/errors.ts'
import { AccessSource } from '#cluster/access.ts'
import { decodeEndpointSlice, decodeNode, decodeService } from '#cluster/decode.ts'
import { clusterError } from '#cluster/errors.ts'
import { EventSender } from '#cluster/events.ts'
import { ApiClient } from '#cluster/http.ts'
import { type Kind, KindStore } from '#cluster/store.ts'
import type { Cluster, ClusterHealth, ClusterOptions, KindHealth, KindName } from '#cluster/types.ts'
import { follow, type WatchState } from '#cluster/watch.ts'
import type { EndpointSlice, Finding, NodeRecord, Service, Snapshot } from '#model/cluster.ts'

export type { Cluster, ClusterHealth, ClusterOptions, NodeEvent } from '#cluster/types.ts'

/** What kube-proxy leaves out too: headless services have no address to serve, and others belong to another proxy. */
const serviceQuery = { labelSelector: '!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name' }

/** A cluster that nothing has been asked of yet: configuration is looked for at the first request. */
export function openCluster(o: ClusterOptions): Cluster {
  const client = o.client ?? new ApiClient(new AccessSource(o))
  const events = new EventSender(client, o.clock)
  let touch: (owner: string) => void = () => {}
  const storeOf = <T>(kind: Kind<T>): Watched<T> => ({ store: new KindStore(kind, (owner) => touch(owner)), state: { watching: false } })

  const nodes = storeOf<NodeRecord>({
    name: 'nodes',
    noun: 'node',
    path: '/api/v1/nodes',
    query: {},
    isNeverEmpty: true,
    decode: (raw) => decodeNode(raw, o.annotationPrefix),
    owner: (node) => `node ${node.name}`,
  })
  const services = storeOf<Service>({
    name: 'services',
    noun: 'service',
    path: '/api/v1/services',
    query: serviceQuery,
    decode: decodeService,
    owner: (service) => `service ${service.namespace}/${service.name}`,
  })
  const slices = storeOf<EndpointSlice>({
    name: 'endpointSlices',
    noun: 'endpointslice',
    path: '/apis/discovery.k8s.io/v1/endpointslices',
    query: serviceQuery,
    decode: decodeEndpointSlice,
    owner: (slice) => `service ${slice.namespace}/${slice.service}`,
  })
  const watched: readonly Watched<unknown>[] = o.services ? [nodes, services, slices] : [nodes]

  return {
    get snapshot(): Snapshot {
      return {
        synced: {
          nodes: nodes.store.synced,
          services: !o.services || services.store.synced,
          endpointSlices: !o.services || slices.store.synced,
        },
        nodes: nodes.store.records,
        services: services.store.records,
        endpointSlices: slices.store.records,
      }
    },

    get health(): ClusterHealth {
      const kinds: Partial<Record<KindName, KindHealth>> = {}
      for (const { store, state } of watched) kinds[store.kind.name] = healthOf(store.synced, state)
      return { ...(client.server ? { server: client.server } : {}), kinds }
    },

    get findings(): readonly Finding[] {
      return watched.flatMap(({ store, state }) => [
        ...(state.error ? [unreachable(store.kind.path, state.error)] : []),
        ...store.bad.values(),
      ])
    },

    async start(onTouch, signal) {
      touch = onTouch
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const abort = (): void => {
        reject(signal.reason)
        client.close()
      }
      if (signal.aborted) abort()
      signal.addEventListener('abort', abort, { once: true })
      const onList = (): void => {
        if (watched.every(({ store }) => store.synced)) resolve()
      }
      for (const { store, state } of watched) void follow(store, state, { client, clock: o.clock, log: o.log, signal, onList })
      return promise
    },

    async ownNode(name) {
      return decodeNode(await client.json({ method: 'GET', path: `/api/v1/nodes/${encodeURIComponent(name)}` }), o.annotationPrefix)
    },

    async podNodeName(namespace, pod) {
      const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`
      const nodeName = ((await client.json({ method: 'GET', path })) as { spec?: { nodeName?: unknown } }).spec?.nodeName
      if (typeof nodeName === 'string' && nodeName !== '') return nodeName
      throw clusterError.ERR_POD_UNSCHEDULED({ pod: `${namespace}/${pod}` })
    },

    async patchNodeStatus(name, patch) {
      const body = { type: 'application/strategic-merge-patch+json', value: patch }
      await client.json({ method: 'PATCH', path: `/api/v1/nodes/${encodeURIComponent(name)}/status`, body })
    },

    event: (event) => events.send(event),
  }
}

interface Watched<T> {
  readonly store: KindStore<T>
  readonly state: WatchState
}

function healthOf(synced: boolean, { watching, lastContactMs, error }: WatchState): KindHealth {
  return { synced, watching, ...(lastContactMs === undefined ? {} : { lastContactMs }), ...(error ? { error: error.message } : {}) }
}

function unreachable(path: string, error: TwillError): Finding {
  const refused = error.code === 'ERR_API_FORBIDDEN' || error.code === 'ERR_API_UNAUTHORIZED'
  return {
    id: refused ? 'api-refused' : 'api-unreachable',
    severity: 'error',
    subject: `api ${path}`,
    text: error.message,
    remedy: error.remedy,
  }
}
