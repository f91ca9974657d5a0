/** Hostile objects through an agent on the real kernel, with each backend: the kernel is never asked for what it refuses. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { decodeEndpointSlice, decodeNode, decodeService } from '#cluster/decode.ts'
import { Agent } from '#daemon/agent.ts'
import { agentParts, FakeCluster, until } from '#daemon/testing.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { type Json, type KindName, OWN, PREFIX, poison, sound } from './objects.ts'
import { seedsOf } from './seeds.ts'

sys.unshare(CLONE_NEWNET)
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
let dir = ''
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'twill-poison-'))
  for (const line of [
    'link set lo up',
    'link add eth1 type veth peer name switch',
    'link set switch up',
    'link set eth1 up',
    'addr add 192.168.10.101/24 dev eth1',
    'route add default via 192.168.10.1',
  ])
    run('ip', ...line.split(' '))
})
after(() => rmSync(dir, { recursive: true, force: true }))

for (const backend of [{ Type: 'vxlan' }, { Type: 'vxlan', DirectRouting: true }, { Type: 'host-gw' }]) {
  test(`${JSON.stringify(backend)}: nothing is refused, and every healthy peer has its route`, async () => {
    const cluster = new FakeCluster([])
    const put = (kind: KindName, object: Json): void => {
      const text = JSON.stringify(object).replaceAll('"vxlan"', `"${backend.Type}"`)
      const raw: unknown = JSON.parse(text)
      if (kind === 'nodes') cluster.put(decodeNode(raw, PREFIX))
      else if (kind === 'services') {
        const service = decodeService(raw)
        cluster.services.set(`${service.namespace}/${service.name}`, service)
      } else {
        const slice = decodeEndpointSlice(raw)
        if (slice) cluster.endpointSlices.set(`${slice.namespace}/${slice.name}`, slice)
      }
    }
    for (const kind of ['nodes', 'services', 'endpointSlices'] as const) for (const object of sound[kind]) put(kind, object)
    for (const seed of seedsOf(250)) {
      const { kind, object, how } = poison(seed, 'hostile')
      if (how.includes('thousands')) continue // of these only the first are served, and a thousand chains take a while
      try {
        put(kind, object)
      } catch {
        // Refused at the door.
      }
    }
    const stop = new AbortController()
    const argv = ['--iface=eth1', '--services']
    const agent = new Agent(
      agentParts({ cluster, kernel: await openLinux(), node: OWN, argv, dir, netConf: { Network: '10.244.0.0/16', Backend: backend } }),
    )
    const ended = agent.run(stop.signal)
    try {
      await Promise.race([until('serving', () => agent.ready, 20_000), ended])
      assert.deepEqual(agent.steward!.failing, [])
      const routes = run('ip', 'route')
      for (let n = 0; n < 12; n++) assert.match(routes, new RegExp(`^10\\.244\\.${10 + n}\\.0/24 `, 'm'))
    } finally {
      stop.abort()
      await ended
    }
  })
}
