/**
 * A stand-in for the API server with thousands of nodes: what a flannel node asks of it (list in pages or whole, watch, get one, patch a
 * status) over plain HTTP, made to cost next to nothing, so that what is measured is the agent. Lists are kept gzipped until a node changes.
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'

export type BackendType = 'vxlan' | 'host-gw'

/** Pod network and underlay of the stand-in: room for 32,768 nodes. */
export const NETWORK = '10.128.0.0/9'
export const subnetOf = (i: number): string => `10.${128 + (i >> 8)}.${i & 255}.0/24`
export const addressOf = (i: number): string => `172.17.${(i + 1) >> 8}.${(i + 1) & 255}`
/** On each node's interface: all underlay addresses are on link. */
export const UNDERLAY_PREFIX = 12
export const nameOf = (i: number): string => `node-${String(i).padStart(5, '0')}`
const macOf = (i: number): string => `02:42:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`

interface Condition {
  readonly type: string
  status: string
  lastHeartbeatTime: string
}

interface NodeObject {
  readonly metadata: { readonly name: string; resourceVersion: string; annotations: Record<string, string> }
  readonly status: { readonly conditions: Condition[] }
}

const at = '2026-11-23T10:00:00Z'
const quantities = {
  cpu: '4',
  'ephemeral-storage': '61255492Ki',
  'hugepages-1Gi': '0',
  'hugepages-2Mi': '0',
  memory: '8142076Ki',
  pods: '110',
}

/** Who wrote which fields, as every API server keeps it (metadata.managedFields). */
function managedFields(flannel: readonly string[]): object[] {
  const fields = (names: readonly string[]): object => Object.fromEntries(names.map((name) => [`f:${name}`, {}]))
  const condition = { '.': {}, ...fields(['lastHeartbeatTime', 'lastTransitionTime', 'message', 'reason', 'status', 'type']) }
  const conditions = ['DiskPressure', 'MemoryPressure', 'PIDPressure', 'Ready'].map((type) => [`k:{"type":"${type}"}`, condition])
  const by = (manager: string, subresource: string, fieldsV1: object): object => ({
    ...{ manager, operation: 'Update', apiVersion: 'v1', time: at, fieldsType: 'FieldsV1', fieldsV1 },
    ...(subresource && { subresource }),
  })
  return [
    by('kube-controller-manager', '', { 'f:spec': { 'f:podCIDR': {}, 'f:podCIDRs': { '.': {}, 'v:"10.128.0.0/24"': {} } } }),
    by('kubelet', '', {
      'f:metadata': { 'f:annotations': { '.': {} }, 'f:labels': fields(['beta.kubernetes.io/arch', 'kubernetes.io/hostname']) },
    }),
    by('flanneld', 'status', { 'f:metadata': { 'f:annotations': fields(flannel) } }),
    by('kubelet', 'status', {
      'f:status': { 'f:conditions': Object.fromEntries(conditions), 'f:images': {}, 'f:nodeInfo': fields(['bootID']) },
    }),
  ]
}

/** What a worker of a small cluster has pulled (status.images). */
const images = [
  'kube-proxy:v1.33.2',
  'coredns/coredns:v1.12.0',
  'flannel:v0.27.1',
  'flannel-cni-plugin:v1.7.1',
  'pause:3.10',
  'whoami:v1.11',
].map((name, i) => ({
  names: [`registry.example/${name.split(':')[0]}@sha256:${String(i).repeat(64)}`, `registry.example/${name}`],
  sizeBytes: 30_000_000 + i,
}))

/** A Node of about 5 kB, as kubeadm, kubelet and an agent of backend `type` leave it; without the agent's annotations if there is no `type`. */
function nodeObject(i: number, type: BackendType | undefined): NodeObject {
  const name = nameOf(i)
  const prefix = 'flannel.alpha.coreos.com'
  const flannel: Record<string, string> = {
    [`${prefix}/backend-data`]: type === 'vxlan' ? `{"VNI":1,"VtepMAC":"${macOf(i)}"}` : 'null',
    [`${prefix}/backend-type`]: type ?? '',
    [`${prefix}/kube-subnet-manager`]: 'true',
    [`${prefix}/public-ip`]: addressOf(i),
  }
  const condition = (kind: string, status: string, reason: string, message: string): Condition =>
    ({ type: kind, status, lastHeartbeatTime: at, lastTransitionTime: at, reason, message }) as Condition
  const node = {
    kind: 'Node',
    apiVersion: 'v1',
    metadata: {
      name,
      uid: `0d6a1c5e-0000-4000-8000-${String(i).padStart(12, '0')}`,
      resourceVersion: '1',
      creationTimestamp: at,
      labels: { 'beta.kubernetes.io/arch': 'amd64', 'beta.kubernetes.io/os': 'linux', 'kubernetes.io/hostname': name },
      annotations: { 'node.alpha.kubernetes.io/ttl': '0', ...(type && flannel) },
      managedFields: managedFields(Object.keys(flannel)),
    },
    spec: { podCIDR: subnetOf(i), podCIDRs: [subnetOf(i)] },
    status: {
      capacity: quantities,
      allocatable: quantities,
      conditions: [
        condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
        condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
        condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
        condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
      ],
      addresses: [
        { type: 'InternalIP', address: addressOf(i) },
        { type: 'Hostname', address: name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
      images,
      nodeInfo: {
        machineID: String(i).padStart(32, '0'),
        systemUUID: String(i).padStart(32, '0'),
        bootID: '6b1c5a3e-0000-4000-8000-000000000000',
        kernelVersion: '6.1.0-26-amd64',
        osImage: 'Debian GNU/Linux 12 (bookworm)',
        containerRuntimeVersion: 'containerd://1.6.20',
        kubeletVersion: 'v1.33.2',
        kubeProxyVersion: '',
        operatingSystem: 'linux',
        architecture: 'amd64',
      },
    },
  }
  return node
}

interface Kept {
  node: NodeObject
  json: string
}

/** How many events a watch can start behind. */
const HISTORY = 20_000

export class StandInApi {
  readonly #nodes = new Map<string, Kept>()
  readonly #history: { readonly version: number; readonly line: string }[] = []
  readonly #watchers = new Set<ServerResponse>()
  readonly #pages = new Map<string, Buffer>()
  readonly #server: Server
  readonly #backend: BackendType
  readonly #others: Readonly<Record<string, readonly object[]>>
  #version = 1

  /** Node 0 is the agent's own: it has a pod CIDR and no agent has run there.
   * @param others  Objects of other kinds, by the path of their list; they never change. */
  constructor(backend: BackendType, nodes: number, others: Readonly<Record<string, readonly object[]>> = {}) {
    this.#backend = backend
    this.#others = others
    for (let i = 0; i <= nodes; i++) this.#keep(nodeObject(i, i === 0 ? undefined : backend))
    this.#server = createServer((request, response) => void this.#answer(request, response))
  }

  /** @returns the URL. */
  async listen(ip = '127.0.0.1'): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, ip, done))
    return `http://${ip}:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  /** The whole list is at hand, zipped, before anybody asks. */
  warm(): void {
    this.#page('', 0)
    for (let from = 0; from < this.#nodes.size; from += 500) this.#page(from === 0 ? '' : String(from), 500)
  }

  join(i: number): void {
    this.#write('ADDED', nodeObject(i, this.#backend))
  }

  leave(i: number): void {
    const { node } = this.#nodes.get(nameOf(i))!
    this.#nodes.delete(nameOf(i))
    this.#tell('DELETED', node)
  }

  /** What a kubelet with nothing to say writes every five minutes. */
  heartbeat(i: number): void {
    const { node } = this.#nodes.get(nameOf(i))!
    for (const condition of node.status.conditions) condition.lastHeartbeatTime = new Date().toISOString().replace(/\.\d+/, '')
    this.#write('MODIFIED', node)
  }

  /** Ends every watch, as a restarting API server does. */
  cut(): void {
    for (const watcher of this.#watchers) watcher.destroy()
  }

  #write(type: string, node: NodeObject): void {
    this.#tell(type, node)
    this.#keep(node)
  }

  #keep(node: NodeObject): void {
    this.#nodes.set(node.metadata.name, { node, json: JSON.stringify(node) })
    this.#pages.clear()
  }

  #tell(type: string, node: NodeObject): void {
    this.#version++
    node.metadata.resourceVersion = String(this.#version)
    this.#pages.clear()
    const line = `${JSON.stringify({ type, object: node })}\n`
    this.#history.push({ version: this.#version, line })
    if (this.#history.length > HISTORY) this.#history.splice(0, HISTORY / 2)
    for (const watcher of this.#watchers) watcher.write(line)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, 'http://api')
    const path = url.pathname.split('/').slice(1)
    const json = (status: number, body: string): void => void response.writeHead(status, { 'content-type': 'application/json' }).end(body)
    if (path.slice(0, 3).join('/') === 'api/v1/nodes') {
      const kept = this.#nodes.get(path[3] ?? '')
      if (path[3] === undefined) this.#list(url.searchParams, response)
      else if (!kept) json(404, status(404, 'NotFound'))
      else if (request.method === 'PATCH') json(200, this.#patch(kept, JSON.parse(await text(request)) as Patch))
      else json(200, kept.json)
    } else if (this.#others[url.pathname]) this.#listOthers(this.#others[url.pathname]!, url.searchParams, response)
    else if (request.method === 'POST') json(201, await text(request))
    else json(404, status(404, 'NotFound'))
  }

  #list(query: URLSearchParams, response: ServerResponse): void {
    if (query.get('watch') === '1' || query.get('watch') === 'true') {
      this.#watch(query, response)
      return
    }
    const body = this.#page(query.get('continue') ?? '', Number(query.get('limit') ?? 0))
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': body.length }).end(body)
  }

  #listOthers(items: readonly object[], query: URLSearchParams, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' })
    if (query.has('watch')) response.flushHeaders()
    else response.end(JSON.stringify({ kind: 'List', apiVersion: 'v1', metadata: { resourceVersion: '1' }, items }))
  }

  #page(from: string, limit: number): Buffer {
    const key = `${from} ${limit}`
    const known = this.#pages.get(key)
    if (known) return known
    const start = Number(from)
    const all = [...this.#nodes.values()]
    const end = limit === 0 ? all.length : Math.min(all.length, start + limit)
    const metadata = { resourceVersion: String(this.#version), ...(end < all.length && { continue: String(end) }) }
    const items = all.slice(start, end).map(({ json }) => json)
    const page = gzipSync(`{"kind":"NodeList","apiVersion":"v1","metadata":${JSON.stringify(metadata)},"items":[${items.join()}]}\n`, {
      level: 1,
    })
    this.#pages.set(key, page)
    return page
  }

  #watch(query: URLSearchParams, response: ServerResponse): void {
    const asked = Number(query.get('resourceVersion') ?? 0)
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    if (query.get('sendInitialEvents') === 'true') {
      for (const { node } of this.#nodes.values()) response.write(`${JSON.stringify({ type: 'ADDED', object: node })}\n`)
      const metadata = { resourceVersion: String(this.#version), annotations: { 'k8s.io/initial-events-end': 'true' } }
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object: { kind: 'Node', apiVersion: 'v1', metadata } })}\n`)
    } else for (const { version, line } of this.#history) if (version > asked) response.write(line)
    this.#watchers.add(response)
    response.on('close', () => this.#watchers.delete(response))
  }

  #patch({ node }: Kept, patch: Patch): string {
    Object.assign(node.metadata.annotations, patch.metadata?.annotations)
    for (const condition of patch.status?.conditions ?? []) {
      const known = node.status.conditions.findIndex(({ type }) => type === condition.type)
      if (known < 0) node.status.conditions.push(condition)
      else node.status.conditions[known] = condition
    }
    this.#write('MODIFIED', node)
    return JSON.stringify(node)
  }
}

interface Patch {
  readonly metadata?: { readonly annotations?: Record<string, string> }
  readonly status?: { readonly conditions?: Condition[] }
}

const status = (code: number, reason: string): string =>
  JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, code })

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
