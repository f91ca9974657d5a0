/** A whole agent, over the lines of the API's watch and a kernel in memory: hostile frames and objects among healthy ones. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Clock, systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { openCluster } from '#cluster/cluster.ts'
import { clusterError } from '#cluster/errors.ts'
import type { Answer, Client } from '#cluster/http.ts'
import { Agent } from '#daemon/agent.ts'
import { metricsOf } from '#daemon/metrics.ts'
import { statusOf } from '#daemon/status.ts'
import { agentParts, FakeCluster, TestKernel, until } from '#daemon/testing.ts'
import { show } from '#model/kernel.ts'
import { vagrantHost } from '#plan/testing.ts'
import { type Json, type KindName, OWN, PREFIX, poison, sound } from './objects.ts'
import { seedsOf } from './seeds.ts'
import { nested } from './words.ts'

const HASTE = 100
const clock: Clock = { ...systemClock, now: () => performance.now() * HASTE, sleep: (ms, signal) => systemClock.sleep(ms / HASTE, signal) }
const paths: Record<string, KindName> = { nodes: 'nodes', services: 'services', endpointslices: 'endpointSlices' }

/** The API server as far as the agent asks it: lists, watches whose lines are the test's, patches and Events that are kept. */
class Api implements Client {
  readonly server = 'https://poison'
  readonly lists = { nodes: 0, services: 0, endpointSlices: 0 }
  readonly events: { message: string }[] = []
  readonly #own = structuredClone(sound.nodes[0]) as { metadata: { annotations: Record<string, string> } }
  readonly #watches = new Map<KindName, Set<TransformStream<Buffer, Buffer>>>()

  close(): void {}

  async json(call: Parameters<Client['json']>[0]): Promise<unknown> {
    const { path, method, body } = call
    if (method === 'POST') return this.events.push(body!.value as { message: string })
    if (method === 'PATCH') {
      const { metadata } = body!.value as { metadata?: { annotations: Record<string, string> } }
      Object.assign(this.#own.metadata.annotations, metadata?.annotations)
      return this.#own
    }
    const kind = paths[/\/(\w+)\?/.exec(path)?.[1] ?? '']
    if (kind === undefined) return this.#own
    this.lists[kind]++
    const [, ...others] = sound.nodes
    return { kind: 'List', metadata: { resourceVersion: '5' }, items: kind === 'nodes' ? [this.#own, ...others] : sound[kind] }
  }

  async open(call: Parameters<Client['open']>[0]): Promise<Answer> {
    const url = new URL(call.path, this.server)
    const kind = paths[url.pathname.split('/').at(-1)!]!
    if (url.searchParams.get('resourceVersion')!.length > 9)
      throw clusterError.ERR_API_STATUS({ request: 'watch', status: 504, reason: 'Timeout', message: 'Too large resource version' })
    const stream = new TransformStream<Buffer, Buffer>()
    this.#watches.set(kind, (this.#watches.get(kind) ?? new Set()).add(stream))
    const body = Object.assign(stream.readable, { destroy: () => void stream.writable.abort().catch(() => {}) })
    call.signal?.addEventListener('abort', () => body.destroy(), { once: true })
    return { body: body as unknown as Answer['body'] }
  }

  /** One line to whoever watches `kind`. */
  async send(kind: KindName, line: string): Promise<void> {
    for (const stream of this.#watches.get(kind) ?? []) {
      const writer = stream.writable.getWriter()
      await writer.write(Buffer.from(`${line}\n`)).catch(() => {})
      writer.releaseLock()
    }
  }

  /** Every watch ends as if its time were over. */
  async end(kind: KindName): Promise<void> {
    for (const stream of this.#watches.get(kind) ?? []) await stream.writable.close().catch(() => {})
    this.#watches.delete(kind)
  }
}

async function start(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'twill-poison-'))
  const api = new Api()
  const kernel = new TestKernel({ host: vagrantHost })
  const cluster = openCluster({ env: {}, annotationPrefix: PREFIX, services: true, log: silentLog, clock, client: api })
  const world = {
    kernel,
    cluster: new FakeCluster([]),
    node: OWN,
    dir,
    clock,
    argv: ['--services', '--iface=eth1', '--resync-seconds=3600'],
  }
  const agent = new Agent({ ...agentParts(world), cluster })
  const stop = new AbortController()
  const running = agent.run(stop.signal)
  t.after(async () => {
    stop.abort()
    await running
    rmSync(dir, { recursive: true })
  })
  await until('the agent serves', () => agent.ready, 20_000)
  return { api, kernel, agent }
}

const frames = [
  'not json',
  '{"type":"ADDED","object":{"metadata":{"name":"torn"',
  'null',
  '7',
  '[]',
  '{}',
  '{"type":"ADDED"}',
  '{"type":"ADDED","object":null}',
  '{"type":["ADDED"],"object":{}}',
  '{"type":"BOOKMARK","object":7}',
  '{"type":"__proto__","object":{"metadata":{"name":"x"}}}',
  `{"type":"MODIFIED","object":${nested(200_000)}}`,
  `{"type":"DELETED","object":{"metadata":{"name":${nested(50_000)}}}}`,
  `"${'x'.repeat(9 << 20)}"`,
  '\u0000\u001b[2J\u009b',
]

/** Of the service that hostile slices belong to; and rules that grow with each kind of session affinity. */
const isVictims = (line: string): boolean => /10\.96\.2\.1|30001|^chain inet twill services/.test(line)

test('frames and objects of every kind: the agent serves on, the healthy stay, and who is at fault is told', async (t) => {
  const { api, kernel, agent } = await start(t)
  const items = (): string[] => kernel.observe().map(show)
  await until('all services are in the kernel', () => items().some((line) => line.includes('10.96.1.12')))
  const before = items().filter((line) => !isVictims(line))
  for (const kind of ['nodes', 'services', 'endpointSlices'] as const) for (const frame of frames) await api.send(kind, frame)
  const all = seedsOf(400).flatMap((seed) => [poison(seed, 'hostile'), poison(seed + 10_000, 'invalid')])
  for (const { kind, object } of all)
    if (JSON.stringify(object).length < 1 << 20) await api.send(kind, JSON.stringify({ type: 'ADDED', object }))
  const marker: Json = { metadata: { name: 'last', resourceVersion: '99999', namespace: 'default' }, spec: { clusterIP: 'end' } }
  await api.send('services', JSON.stringify({ type: 'ADDED', object: marker }))
  await until('the last is told of', () => agent.findings.some(({ subject }) => subject === 'service default/last'), 60_000)
  await until('the pass that tells of it is over', () => api.events.length > 20, 30_000)
  const after = new Set(items())
  assert.deepEqual(
    before.filter((line) => !after.has(line)),
    [],
  )
  assert.deepEqual(agent.steward!.failing, [])
  const status = statusOf(agent)
  assert.ok(status.findings.length > 200, `${status.findings.length} findings`)
  assert.match(metricsOf(status), /twill_findings\{id="bad-object",severity="warning"\} \d+/)
  assert.ok(api.events.length > 0 && api.events.length < 60, `${api.events.length} Events`)
  for (const { message } of api.events) assert.doesNotMatch(message, /[\p{Cc}\p{Cf}]/u)
})

test('an event with a resource version from the far future does not end the watch for ever', async (t) => {
  const { api, agent } = await start(t)
  const future = { ...sound.nodes[1]!, metadata: { ...(sound.nodes[1]!.metadata as Json), resourceVersion: '9'.repeat(40) } }
  await api.send('nodes', JSON.stringify({ type: 'MODIFIED', object: future }))
  await api.end('nodes')
  await until('nodes are listed again', () => api.lists.nodes > 1, 20_000)
  await until('the list is believed, and a watch is open', () => agent.parts.cluster.health.kinds.nodes?.watching, 20_000)
})
