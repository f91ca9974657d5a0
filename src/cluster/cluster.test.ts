import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createGzip, gzipSync } from 'node:zlib'
import { type Clock, systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { type Cluster, openCluster } from '#cluster/cluster.ts'
import { decodeService } from '#cluster/decode.ts'
import { answer, eventLine, type Handler, nodeList, nodeObject, startServer, type TestServer } from '#cluster/testserver.ts'

/** Real time, but no back-off: waits are short and ordered. */
const clock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 5), signal) }
const prefix = 'flannel.alpha.coreos.com/'

interface Rig {
  readonly server: TestServer
  readonly cluster: Cluster
  readonly touched: string[]
  /** Resolves when `condition` holds; fails the test after 5 s. */
  until(condition: () => boolean, what: string): Promise<void>
  start(): Promise<void>
}

async function rig(t: TestContext, handler: Handler, o: { services?: boolean } = {}): Promise<Rig> {
  const server = await startServer(handler)
  const stop = new AbortController()
  const cluster = openCluster({
    kubeconfigFile: server.kubeconfig,
    env: {},
    annotationPrefix: prefix,
    services: o.services ?? false,
    log: silentLog,
    clock,
  })
  t.after(async () => {
    stop.abort()
    await server.close()
  })
  const touched: string[] = []
  const until = async (condition: () => boolean, what: string): Promise<void> => {
    const deadline = Date.now() + 5000
    while (!condition()) {
      assert.ok(Date.now() < deadline, `waited 5 s for: ${what}`)
      await systemClock.sleep(2)
    }
  }
  return { server, cluster, touched, until, start: () => cluster.start((owner) => touched.push(owner), stop.signal) }
}

const hold = (response: ServerResponse, ...lines: string[]): void => {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.write(lines.join(''))
}

test('lists, then watches; heartbeats and bookmarks ring nothing, a changed annotation does', async (t) => {
  let watch: ServerResponse | undefined
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch')) return answer(response, 200, nodeList(10, [nodeObject('a', 3), nodeObject('b', 4)]))
    watch = response
    hold(
      response,
      eventLine('MODIFIED', nodeObject('a', 11, { beat: '2026-11-23T09:05:00Z' })),
      eventLine('BOOKMARK', { metadata: { resourceVersion: '20' } }),
    )
  })
  assert.equal(r.cluster.snapshot.synced.nodes, false)
  await r.start()
  assert.equal(r.cluster.snapshot.synced.nodes, true)
  assert.deepEqual(r.touched, ['node a', 'node b'])
  assert.deepEqual(r.cluster.snapshot.nodes.get('a'), {
    name: 'a',
    uid: 'uid-a',
    podCIDRs: ['10.244.1.0/24'],
    annotations: {},
    internalIPs: ['192.168.10.101'],
  })
  await r.until(() => watch !== undefined, 'the watch')
  watch!.write(
    eventLine('MODIFIED', nodeObject('b', 21, { annotations: { [`${prefix}public-ip`]: '192.168.10.102', 'other/thing': 'x' } })),
  )
  await r.until(() => r.touched.length > 2, 'the change of b')
  assert.deepEqual(r.touched.slice(2), ['node b'])
  assert.deepEqual(r.cluster.snapshot.nodes.get('b')?.annotations, { 'public-ip': '192.168.10.102' })
  assert.match(r.server.requests[1]!, /allowWatchBookmarks=true&resourceVersion=10&/)
  assert.equal(r.cluster.health.kinds.nodes?.watching, true)
  assert.equal(r.cluster.health.server, r.server.url)
})

test('a connection dropped mid-line goes on from the last bookmark, and nothing of the half line is used', async (t) => {
  let watches = 0
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch')) return answer(response, 200, nodeList(10, [nodeObject('a', 3)]))
    if (++watches > 1) return hold(response, eventLine('ADDED', nodeObject('c', 16)))
    hold(response, eventLine('BOOKMARK', { metadata: { resourceVersion: '15' } }), eventLine('DELETED', nodeObject('a', 17)).slice(0, -9))
    setImmediate(() => setImmediate(() => response.destroy()))
  })
  await r.start()
  await r.until(() => r.cluster.snapshot.nodes.has('c'), 'node c')
  assert.ok(r.cluster.snapshot.nodes.has('a'))
  assert.match(r.server.requests[2]!, /watch=1.*resourceVersion=15&/)
  await r.until(() => r.cluster.findings.length === 0, 'the finding to go')
})

test('410 in the watch lists again: what is missing is gone, what is the same rings nothing', async (t) => {
  let lists = 0
  let watches = 0
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch')) {
      lists++
      return answer(
        response,
        200,
        lists === 1 ? nodeList(10, [nodeObject('a', 3), nodeObject('b', 4)]) : nodeList(90, [nodeObject('b', 4)]),
      )
    }
    if (++watches === 1)
      return hold(response, eventLine('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' }))
    hold(response, eventLine('BOOKMARK', { metadata: { resourceVersion: '91' } }))
  })
  await r.start()
  await r.until(() => watches === 2, 'the second watch')
  assert.deepEqual(r.touched, ['node a', 'node b', 'node a'])
  assert.deepEqual([...r.cluster.snapshot.nodes.keys()], ['b'])
})

test('duplicated and reordered events end in the newest state; the dead stay dead', async (t) => {
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch')) return answer(response, 200, nodeList(10, [nodeObject('a', 3), nodeObject('b', 4)]))
    const newest = eventLine('MODIFIED', nodeObject('a', 14, { cidr: '10.244.7.0/24' }))
    const lines = [newest, newest, eventLine('MODIFIED', nodeObject('a', 12, { cidr: '10.244.6.0/24' }))]
    lines.push(
      eventLine('DELETED', nodeObject('b', 15)),
      eventLine('MODIFIED', nodeObject('b', 13)),
      eventLine('ADDED', nodeObject('end', 16)),
    )
    hold(response, ...lines)
  })
  await r.start()
  await r.until(() => r.cluster.snapshot.nodes.has('end'), 'the last event')
  assert.deepEqual(r.cluster.snapshot.nodes.get('a')?.podCIDRs, ['10.244.7.0/24'])
  assert.equal(r.cluster.snapshot.nodes.has('b'), false)
  assert.deepEqual(r.touched, ['node a', 'node b', 'node a', 'node b', 'node end'])
})

test('one bad object is named and skipped, its former record kept, and it stops no other', async (t) => {
  let watch: ServerResponse | undefined
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch'))
      return answer(response, 200, nodeList(10, [nodeObject('a', 3), nodeObject('bad', 4, { cidr: 'ten' }), { metadata: 7 }]))
    watch = response
    hold(response, 'not json\n', eventLine('MODIFIED', nodeObject('a', 12, { cidr: 42 })), eventLine('ADDED', nodeObject('c', 13)))
  })
  await r.start()
  await r.until(() => r.cluster.snapshot.nodes.has('c'), 'node c')
  assert.deepEqual([...r.cluster.snapshot.nodes.keys()], ['a', 'c'])
  assert.deepEqual(r.cluster.snapshot.nodes.get('a')?.podCIDRs, ['10.244.1.0/24'])
  const texts = r.cluster.findings.map((f) => `${f.id} ${f.subject}: ${f.text}`)
  assert.ok(texts.includes('bad-object node bad: node bad: spec.podCIDRs is "ten", it must be a CIDR'), texts.join('\n'))
  assert.ok(texts.some((text) => text.startsWith('bad-object node a: node a: spec.podCIDR is 42')))
  assert.ok(texts.some((text) => text.startsWith('bad-object node ?')))
  watch!.write(eventLine('MODIFIED', nodeObject('bad', 14)) + eventLine('DELETED', nodeObject('a', 15)))
  await r.until(() => !r.cluster.snapshot.nodes.has('a'), 'the deletion of a')
  assert.deepEqual(
    r.cluster.findings.map((f) => f.subject),
    ['node ?'],
  )
})

test('a list that fails, is no list or is empty deletes nothing, and is asked for again', async (t) => {
  let lists = 0
  let watches = 0
  const gone = eventLine('ERROR', { kind: 'Status', code: 410 })
  const script: Record<number, (response: ServerResponse) => void> = {
    1: (response) => answer(response, 200, nodeList(10, [nodeObject('a', 3)])),
    2: (response) => answer(response, 500, { kind: 'Status', reason: 'InternalError', message: 'etcd is gone' }),
    3: (response) => answer(response, 200, { kind: 'Status', metadata: { resourceVersion: '15' }, items: [] }),
    4: (response) => answer(response, 200, nodeList(20, [nodeObject('a', 3)])),
    5: (response) => answer(response, 200, nodeList(30, [])),
    6: (response) => answer(response, 200, nodeList(31, [nodeObject('b', 21)])),
  }
  const r = await rig(t, (request, response) => {
    if (!request.query.has('watch')) return script[++lists]!(response)
    watches++
    if (watches === 2) return hold(response, eventLine('ADDED', nodeObject('b', 21)), gone)
    hold(response, watches < 3 ? gone : eventLine('BOOKMARK', { metadata: { resourceVersion: '31' } }))
  })
  await r.start()
  await r.until(() => watches === 3, 'the third watch')
  assert.equal(lists, 6)
  assert.deepEqual([...r.cluster.snapshot.nodes.keys()], ['b'])
})

test('a list from the past is not believed at once, but a server that insists was restored from a backup', async (t) => {
  let lists = 0
  let watches = 0
  const r = await rig(t, (request, response) => {
    if (request.query.has('watch')) {
      watches++
      return hold(response, watches === 1 ? eventLine('ERROR', { kind: 'Status', code: 410 }) : '')
    }
    lists++
    return answer(response, 200, lists === 1 ? nodeList(30, [nodeObject('a', 3), nodeObject('b', 4)]) : nodeList(20, [nodeObject('a', 3)]))
  })
  await r.start()
  await r.until(() => lists === 4, 'three lists from the past')
  assert.ok(r.cluster.snapshot.nodes.has('b'))
  assert.ok(r.cluster.findings.some(({ text }) => text.includes('resource version 20, and 30 was known')))
  await r.until(() => watches === 2, 'the fourth, and the watch from there')
  assert.equal(lists, 5)
  assert.ok(!r.cluster.snapshot.nodes.has('b'))
})

test('a long list comes in pages; when its first page is forgotten half-way it is taken whole', async (t) => {
  const all = Array.from({ length: 1200 }, (_, i) => nodeObject(`n${i}`, i + 1))
  let expired = false
  const r = await rig(t, (request, response) => {
    if (request.query.has('watch')) return hold(response)
    if (!request.query.has('limit')) return answer(response, 200, nodeList(2000, all))
    const from = Number(request.query.get('continue') ?? 0)
    if (from === 500 && !expired) {
      expired = true
      return answer(response, 410, { kind: 'Status', code: 410, reason: 'Expired', message: 'continue token too old' })
    }
    answer(response, 200, nodeList(2000, all.slice(from, from + 500), from + 500 < all.length ? String(from + 500) : ''))
  })
  await r.start()
  assert.equal(r.cluster.snapshot.nodes.size, 1200)
  assert.deepEqual(r.server.requests.slice(0, 3), [
    'GET /api/v1/nodes?limit=500',
    'GET /api/v1/nodes?limit=500&continue=500',
    'GET /api/v1/nodes?',
  ])
})

test('gzip: of a list, of a watch event by event, of an error', async (t) => {
  const zip = createGzip()
  const r = await rig(t, (request, response) => {
    response.setHeader('content-encoding', 'gzip')
    if (request.path !== '/api/v1/nodes') response.writeHead(404).end(gzipSync('{"kind":"Status","message":"no such node"}'))
    else if (!request.query.has('watch')) response.end(gzipSync(JSON.stringify(nodeList(10, [nodeObject('a', 3)]))))
    else {
      zip.pipe(response)
      zip.write(eventLine('ADDED', nodeObject('b', 11)))
      zip.flush()
    }
  })
  await r.start()
  await r.until(() => r.cluster.snapshot.nodes.has('b'), 'node b while the stream is open')
  await assert.rejects(r.cluster.ownNode('x'), { code: 'ERR_API_STATUS', message: /404.*no such node/ })
})

test('services and endpoint slices ring their service, with what no proxy serves left out on the server', async (t) => {
  const service = {
    metadata: { namespace: 'default', name: 'web', uid: 'u', resourceVersion: '5' },
    spec: { clusterIP: '10.96.0.7', ports: [{ port: 80 }] },
  }
  const slice = {
    metadata: { namespace: 'default', name: 'web-x', uid: 'v', resourceVersion: '6', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ port: 8080, protocol: 'TCP' }],
    endpoints: [
      { addresses: ['10.244.1.2'], conditions: { ready: false, terminating: true }, nodeName: 'a' },
      { addresses: ['10.244.2.2'] },
    ],
  }
  const lists: Record<string, object> = {
    '/api/v1/nodes': nodeList(10, [nodeObject('a', 4)]),
    '/api/v1/services': { ...nodeList(10, [service]), kind: 'ServiceList' },
    '/apis/discovery.k8s.io/v1/endpointslices': { ...nodeList(10, [slice]), kind: 'EndpointSliceList' },
  }
  const r = await rig(
    t,
    (request, response) => (request.query.has('watch') ? hold(response) : answer(response, 200, lists[request.path]!)),
    { services: true },
  )
  await r.start()
  assert.deepEqual(new Set(r.touched), new Set(['node a', 'service default/web']))
  assert.deepEqual(r.cluster.snapshot.services.get('default/web'), {
    namespace: 'default',
    name: 'web',
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.7'],
    ports: [{ name: '', protocol: 'TCP', port: 80 }],
  })
  assert.deepEqual(r.cluster.snapshot.endpointSlices.get('default/web-x')?.endpoints, [
    { addresses: ['10.244.1.2'], ready: false, serving: false, terminating: true, nodeName: 'a' },
    { addresses: ['10.244.2.2'], ready: true, serving: true, terminating: false },
  ])
  assert.ok(r.server.requests.some((line) => line.includes('/services?labelSelector=%21service.kubernetes.io%2Fheadless%2C')))
})

test('a rotated token is read again at the first 401, not only after a restart', async (t) => {
  const r = await rig(t, (_, response) => answer(response, 200, nodeObject('a', 3)))
  r.server.token = 'secret'
  await r.cluster.ownNode('a')
  r.server.token = 'rotated'
  await assert.rejects(r.cluster.ownNode('a'), { code: 'ERR_API_UNAUTHORIZED' })
  writeFileSync(join(r.server.dir, 'token'), 'rotated\n')
  assert.equal((await r.cluster.ownNode('a')).name, 'a')
})

test('start waits while the API refuses, says why, and goes on when it no longer does', async (t) => {
  let allowed = false
  const r = await rig(t, (request, response) => {
    if (!allowed) return answer(response, 403, { kind: 'Status', reason: 'Forbidden', message: 'nodes is forbidden: User "x" cannot list' })
    return request.query.has('watch') ? hold(response) : answer(response, 200, nodeList(10, [nodeObject('a', 3)]))
  })
  const started = r.start()
  await r.until(() => r.cluster.findings.length > 0, 'the finding')
  assert.equal(r.cluster.findings[0]?.id, 'api-refused')
  assert.match(r.cluster.findings[0]!.text, /cannot list/)
  assert.equal(r.cluster.snapshot.synced.nodes, false)
  allowed = true
  await started
  await r.until(() => r.cluster.findings.length === 0, 'the finding to go')
})

test('writes: status patch, pod lookup, events that repeat as a count, events that RBAC forbids', async (t) => {
  const seen: { line: string; type: string | undefined; body: Record<string, unknown> }[] = []
  let forbid = false
  const r = await rig(t, async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    if (text) seen.push({ line: `${request.method} ${request.path}`, type: request.headers['content-type'], body: JSON.parse(text) })
    if (request.path.includes('/pods/'))
      return answer(response, 200, { spec: request.path.endsWith('/lost') ? {} : { nodeName: 'k8s-w1' } })
    if (forbid) return answer(response, 403, { kind: 'Status', message: 'no' })
    answer(response, 200, {})
  })
  assert.equal(await r.cluster.podNodeName('kube-flannel', 'p'), 'k8s-w1')
  await assert.rejects(r.cluster.podNodeName('kube-flannel', 'lost'), { code: 'ERR_POD_UNSCHEDULED' })
  await r.cluster.patchNodeStatus('k8s-w1', { metadata: { annotations: { x: 'y' } } })
  assert.deepEqual(seen[0], {
    line: 'PATCH /api/v1/nodes/k8s-w1/status',
    type: 'application/strategic-merge-patch+json',
    body: { metadata: { annotations: { x: 'y' } } },
  })
  const event = { node: { name: 'k8s-w1', uid: 'u1' }, type: 'Warning', reason: 'DuplicatePublicIP', message: 'two nodes' } as const
  assert.equal(await r.cluster.event(event), 'sent')
  assert.equal(await r.cluster.event(event), 'sent')
  assert.equal(seen[1]?.line, 'POST /api/v1/namespaces/default/events')
  assert.deepEqual(seen[1]?.body.involvedObject, { apiVersion: 'v1', kind: 'Node', name: 'k8s-w1', uid: 'u1' })
  assert.equal(seen[2]?.line, `PATCH /api/v1/namespaces/default/events/${(seen[1]!.body.metadata as { name: string }).name}`)
  assert.equal(seen[2]?.body.count, 2)
  forbid = true
  assert.equal(await r.cluster.event({ ...event, message: 'three' }), 'forbidden')
})

test('abort before the first sync rejects start', async (t) => {
  const server = await startServer(() => {})
  t.after(() => server.close())
  const cluster = openCluster({
    kubeconfigFile: server.kubeconfig,
    env: {},
    annotationPrefix: prefix,
    services: false,
    log: silentLog,
    clock,
  })
  const stop = new AbortController()
  const started = cluster.start(() => {}, stop.signal)
  stop.abort(new Error('enough'))
  await assert.rejects(started, /enough/)
})

const shapes: { what: string; spec: object; status?: object; want: object | undefined }[] = [
  { what: 'session affinity: three hours unless said', spec: { sessionAffinity: 'ClientIP' }, want: { affinitySeconds: 10_800 } },
  {
    what: 'session affinity: its time',
    spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } },
    want: { affinitySeconds: 60 },
  },
  { what: 'no affinity', spec: { sessionAffinity: 'None', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } }, want: {} },
  {
    what: 'policies',
    spec: { internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' },
    want: { internalLocal: true, externalLocal: true },
  },
  {
    what: 'what is not served',
    spec: { externalIPs: ['192.0.2.1'], healthCheckNodePort: 30000 },
    status: { loadBalancer: { ingress: [{ ip: '192.0.2.2' }] } },
    want: { unserved: ['spec.externalIPs', 'spec.healthCheckNodePort', 'status.loadBalancer.ingress'] },
  },
  { what: 'no time', spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } }, want: undefined },
]
for (const { what, spec, status = {}, want } of shapes) {
  test(`a service decodes: ${what}`, () => {
    const raw = { metadata: { namespace: 'default', name: 'web' }, spec: { clusterIP: '10.96.0.10', ...spec }, status }
    if (want === undefined) assert.throws(() => decodeService(raw), { code: 'ERR_OBJECT_SHAPE' })
    else {
      const base = { namespace: 'default', name: 'web', type: 'ClusterIP', clusterIPs: ['10.96.0.10'], ports: [] }
      assert.deepEqual(decodeService(raw), { ...base, ...want })
    }
  })
}
