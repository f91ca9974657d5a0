/** The API server fails in every way it can: an agent on the real client keeps what is programmed, and goes on when it is back. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { type Clock, systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { openCluster } from '#cluster/cluster.ts'
import { answer, eventLine, type Handler, startServer, type TestServer } from '#cluster/testserver.ts'
import { Agent } from '#daemon/agent.ts'
import { statusOf } from '#daemon/status.ts'
import { agentParts, PREFIX, TestKernel, until } from '#daemon/testing.ts'
import { FAKE_HOST } from '#kernel/fake.ts'
import { type Item, keyOf, show, showOp } from '#model/kernel.ts'

/** So many seconds pass in one. */
const HASTE = 200
const clock: Clock = { ...systemClock, now: () => performance.now() * HASTE, sleep: (ms, signal) => systemClock.sleep(ms / HASTE, signal) }

interface NodeObject {
  metadata: { name: string; uid: string; resourceVersion: string; annotations: Record<string, string> }
  spec: { podCIDRs: string[] }
  status: { conditions: object[] }
}
interface Patch {
  metadata?: { annotations?: Record<string, string> }
  status?: { conditions?: object[] }
}

/** An API server of three nodes and a service, with a switch for each fault. */
class Api {
  readonly nodes = new Map<string, NodeObject>()
  /** Answers in place of the server; undefined: it answers itself. */
  fault: Handler | undefined
  server!: TestServer
  version = 100
  lists = 0
  readonly #watchers = new Set<ServerResponse>()

  constructor() {
    this.node('k8s-w1', 1)
    for (const i of [2, 3]) this.node(`k8s-w${i}`, i)
  }

  async listen(): Promise<this> {
    this.server = await startServer((request, response) => (this.fault ?? this.#serve)(request, response))
    return this
  }

  /** Node `i` with the annotations of an agent; the first has none yet. */
  node(name: string, i: number, publicIp = `192.168.10.${100 + i}`): NodeObject {
    const data = { 'backend-data': `{"VNI":1,"VtepMAC":"02:00:00:00:00:0${i}"}`, 'backend-type': 'vxlan', 'public-ip': publicIp }
    const annotations: Record<string, string> = i === 1 ? {} : { ...data, 'kube-subnet-manager': 'true' }
    const node: NodeObject = {
      metadata: {
        ...{ name, uid: `uid-${name}`, resourceVersion: String(++this.version) },
        annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [PREFIX + key, value])),
      },
      spec: { podCIDRs: [`10.244.${i}.0/24`] },
      status: { conditions: [] },
    }
    this.nodes.set(name, node)
    return node
  }

  join(i: number): void {
    this.send(eventLine('ADDED', this.node(`k8s-w${i}`, i)))
  }

  /** Raw lines to all who watch nodes. */
  send(...lines: string[]): void {
    for (const watcher of this.#watchers) watcher.write(lines.join(''))
  }

  cut(): void {
    for (const watcher of this.#watchers) watcher.destroy()
  }

  list(kind: string, items: readonly object[]): object {
    return { kind: `${kind}List`, metadata: { resourceVersion: String(this.version) }, items }
  }

  #serve: Handler = async (request, response) => {
    const { path, method, query } = request
    const name = /^\/api\/v1\/nodes\/([^/]+)/.exec(path)?.[1]
    const node = this.nodes.get(name ?? '')
    if (name !== undefined && !node) answer(response, 404, { kind: 'Status', reason: 'NotFound' })
    else if (node && method === 'PATCH') {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const patch = JSON.parse(Buffer.concat(chunks).toString()) as Patch
      Object.assign(node.metadata.annotations, patch.metadata?.annotations)
      node.status.conditions.push(...(patch.status?.conditions ?? []))
      node.metadata.resourceVersion = String(++this.version)
      answer(response, 200, node)
      this.send(eventLine('MODIFIED', node))
    } else if (node) answer(response, 200, node)
    else if (method === 'POST') answer(response, 201, {})
    else if (query.has('watch')) this.#watch(path, response)
    else if (path.endsWith('/nodes')) {
      this.lists++
      answer(response, 200, this.list('Node', [...this.nodes.values()]))
    } else if (path.endsWith('/services')) answer(response, 200, this.list('Service', [service]))
    else answer(response, 200, this.list('EndpointSlice', []))
  }

  #watch(path: string, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders()
    if (!path.endsWith('/nodes')) return
    this.#watchers.add(response)
    response.on('close', () => this.#watchers.delete(response))
  }
}

const service = {
  metadata: { namespace: 'default', name: 'web', uid: 'u', resourceVersion: '5' },
  spec: { clusterIP: '10.96.0.7', ports: [{ port: 80 }] },
}

interface Life {
  readonly agent: Agent
  readonly kernel: TestKernel
  /** Ops since the agent serves. */
  readonly ops: string[]
  stop(): Promise<void>
}

function live(api: Api, items: readonly Item[] = []): Life {
  const links = items.flatMap((item) =>
    item.kind === 'link' ? [{ index: 9, name: item.name, mtu: item.mtu!, mac: item.mac!, up: true, kind: item.type }] : [],
  )
  const addresses = FAKE_HOST.addresses.map((address) => ({ ...address, cidr: '192.168.10.101/24' }))
  const kernel = new TestKernel({ host: { ...FAKE_HOST, addresses, links: [...FAKE_HOST.links, ...links] }, items })
  const ops: string[] = []
  kernel.onOp = (op) => ops.push(showOp(op))
  const cluster = openCluster({
    ...{ kubeconfigFile: api.server.kubeconfig, env: {}, annotationPrefix: PREFIX, services: true, log: silentLog, clock },
  })
  const base = agentParts({
    cluster: undefined as never,
    kernel,
    node: 'k8s-w1',
    argv: ['--iface=eth1', '--services'],
    dir: '/nowhere',
    clock,
  })
  const agent = new Agent({ ...base, cluster })
  const stop = new AbortController()
  const ended = agent.run(stop.signal)
  return {
    agent,
    kernel,
    ops,
    async stop() {
      stop.abort()
      await ended
    },
  }
}

/** An agent that serves, and what it has programmed. */
async function serving(t: TestContext): Promise<Life & { api: Api; programmed: string[] }> {
  const api = await new Api().listen()
  const life = live(api)
  t.after(async () => {
    await life.stop()
    await api.server.close()
  })
  await until('serving', () => life.agent.ready)
  await until('announced', () => api.nodes.get('k8s-w1')!.status.conditions.length > 0)
  life.ops.length = 0
  return { ...life, api, programmed: life.kernel.observe().map(show).toSorted() }
}

const has = (life: Life, text: string): boolean => life.kernel.observe().some((item) => keyOf(item).includes(text))
const expired = eventLine('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' })

const faults: { name: string; run(life: Life & { api: Api }): void | Promise<void> /** The last list was a lie. */; lied?: true }[] = [
  {
    name: 'gone for ten minutes',
    async run({ api, agent }) {
      const startMs = clock.now()
      api.fault = (request) => request.socket.destroy()
      api.cut()
      await until('ten minutes', () => clock.now() - startMs > 600_000, 10_000)
      const { api: health, findings } = statusOf(agent)
      assert.equal(health.connected, false)
      assert.ok(health.lastContactSeconds! > 500, `${health.lastContactSeconds} s`)
      assert.ok(findings.some(({ id }) => id === 'api-unreachable'))
      assert.equal(agent.ready, true, 'pods are still served')
    },
  },
  {
    name: '410 Gone in the watch, and then a whole list',
    async run({ api }) {
      const { lists } = api
      api.send(expired)
      await until('another list', () => api.lists > lists)
    },
  },
  {
    name: 'events twice, late, and out of order',
    run({ api }) {
      const now = api.nodes.get('k8s-w2')!
      const old = { ...now, metadata: { ...now.metadata, resourceVersion: '50' }, spec: { podCIDRs: ['10.244.99.0/24'] } }
      const same = eventLine('MODIFIED', now)
      api.send(same, same, eventLine('MODIFIED', old), eventLine('DELETED', old), eventLine('ADDED', old), same)
    },
  },
  {
    name: 'lists without a single node or service, after 410',
    lied: true,
    async run({ api }) {
      let lists = 0
      api.fault = (request, response) => {
        if (!request.query.has('watch')) lists++
        if (request.query.has('watch')) answer(response, 410, { kind: 'Status', code: 410, reason: 'Expired' })
        else answer(response, 200, api.list(request.path.endsWith('nodes') ? 'Node' : 'Service', []))
      }
      api.cut()
      await until('empty lists', () => lists > 6)
    },
  },
  {
    name: 'a list that lacks this node',
    lied: true,
    async run({ api }) {
      let lists = 0
      api.fault = (request, response) => {
        if (request.query.has('watch')) answer(response, 410, { kind: 'Status', code: 410, reason: 'Expired' })
        else answer(response, 200, api.list('Node', [[...api.nodes.values()][1]!]))
        lists++
      }
      api.cut()
      await until('such lists', () => lists > 6)
    },
  },
  {
    name: 'a list from the past, of an API server that lags behind',
    lied: true,
    async run({ api }) {
      let lists = 0
      const few = [...api.nodes.values()].slice(0, 2)
      api.fault = (request, response) => {
        if (request.query.has('watch')) answer(response, 410, { kind: 'Status', code: 410, reason: 'Expired' })
        else answer(response, 200, { ...api.list('Node', few), metadata: { resourceVersion: '50' } })
        if (request.path.endsWith('nodes') && !request.query.has('watch') && ++lists === 3) api.fault = undefined
      }
      api.cut()
      await until('three such lists', () => lists === 3)
    },
  },
  {
    name: 'errors, nonsense and half answers',
    async run({ api }) {
      let answers = 0
      api.fault = (_, response) => {
        const kind = answers++ % 4
        if (kind === 0) answer(response, 500, { kind: 'Status', reason: 'InternalError', message: 'etcd is gone' })
        else if (kind === 1) response.writeHead(200, { 'content-type': 'text/html' }).end('<html>a proxy says hello</html>')
        else if (kind === 2) answer(response, 401, { kind: 'Status', reason: 'Unauthorized' })
        else {
          response
            .writeHead(200, { 'content-type': 'application/json' })
            .write('{"kind":"NodeList","metadata":{"resourceVersion":"9"},"items":[')
          response.destroy()
        }
      }
      api.cut()
      await until('a dozen answers', () => answers > 12, 10_000)
    },
  },
]
for (const { name, run, lied } of faults) {
  test(`the API server: ${name}: nothing is removed, and afterwards a new node is served`, async (t) => {
    const life = await serving(t)
    await run(life)
    assert.equal(life.ops.join('\n'), '', 'the kernel is left alone')
    assert.deepEqual(life.kernel.observe().map(show).toSorted(), life.programmed)
    life.api.fault = undefined
    await until('connected', () => statusOf(life.agent).api.connected, 10_000)
    if (lied) {
      const { lists } = life.api
      life.api.send(expired)
      await until('a true list', () => life.api.lists > lists && statusOf(life.agent).api.connected)
    }
    life.api.join(4)
    await until('the new node’s route', () => has(life, 'route 10.244.4.0/24'), 10_000)
    assert.deepEqual(
      life.ops.filter((op) => op.startsWith('del ')),
      [],
    )
    assert.ok(life.programmed.every((line) => life.kernel.observe().map(show).includes(line)))
  })
}

test('an agent that starts while the API server is gone leaves all as it was, and changes nothing when it is back', async (t) => {
  const before = await serving(t)
  const { api } = before
  const items = before.kernel.observe()
  await before.stop()
  api.fault = (request) => request.socket.destroy()
  const life = live(api, items)
  t.after(life.stop)
  await until('it waits', () => life.agent.phase === 'waiting')
  assert.equal(statusOf(life.agent).findings[0]!.id, 'api-unreachable')
  assert.deepEqual(life.kernel.observe(), items)
  api.fault = undefined
  await until('serving', () => life.agent.ready)
  assert.deepEqual(life.ops, [])
  assert.equal(life.kernel.mutations, 0)
})

test('a node that is really gone is removed, when a list or an event says so', async (t) => {
  const life = await serving(t)
  const { api } = life
  const gone = api.nodes.get('k8s-w2')!
  api.nodes.delete('k8s-w2')
  api.send(eventLine('DELETED', { ...gone, metadata: { ...gone.metadata, resourceVersion: String(++api.version) } }))
  await until('by event', () => !has(life, 'route 10.244.2.0/24'))
  api.nodes.delete('k8s-w3')
  api.send(expired)
  await until('by list', () => !has(life, 'route 10.244.3.0/24'))
})
