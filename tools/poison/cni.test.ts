/** Requests that no runtime should send, to the agent's socket: each is answered, and pods that are there keep all they have. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { encodeRequest, HEADER_BYTES, MAX_FRAME_BYTES } from '#cni/protocol.ts'
import { startCniServer } from '#cni/server.ts'
import { type AgentAnswer, askAgent } from '#cni/testing.ts'
import { type Item, type Op, type Outcome, show } from '#model/kernel.ts'
import { cniPoison } from './cni.ts'
import { seedsOf } from './seeds.ts'

/** What the shim takes. */
const MAX_ANSWER = MAX_FRAME_BYTES - HEADER_BYTES

/** Takes everything. */
class Kernel implements PodKernel {
  readonly wanted = new Map<string, string[]>()

  async commit(owner: string, wanted: readonly Item[], ops: readonly Op[]): Promise<Outcome[]> {
    this.wanted.set(owner, wanted.map(show))
    return ops.map((op) => ({ op }))
  }
  async release(owner: string, ops: readonly Op[]): Promise<Outcome[]> {
    this.wanted.delete(owner)
    return ops.map((op) => ({ op }))
  }
  deviceTo = async (): Promise<string> => 'cni0'
  host = async () => ({ links: [], addresses: [], routes: [] })
}

/** A bridge stays when its last pod goes, as the reference plugin's does. */
const isOfPods = ([owner]: [string, unknown]): boolean => !owner.startsWith('bridge ')

async function start(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'twill-poison-cni-'))
  const env = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
  writeFileSync(join(root, 'subnet.env'), env)
  const kernel = new Kernel()
  const server = await startCniServer({
    runDir: join(root, 'run'),
    kernel,
    takeLock: () => Promise.resolve(() => {}),
    clock: systemClock,
    log: silentLog,
    flannel: { subnetFile: join(root, 'subnet.env'), dataDir: join(root, 'flannel') },
    networksDir: join(root, 'networks'),
    resultsDir: join(root, 'results'),
  })
  t.after(async () => {
    await server.close()
    rmSync(root, { recursive: true })
  })
  const ask = (env: ReadonlyMap<string, string>, config: string): Promise<AgentAnswer> =>
    askAgent(server.socketPath, encodeRequest({ env, config }))
  const files = (): string[] =>
    (readdirSync(root, { recursive: true }) as string[])
      .filter((name) => !name.includes('last_reserved') && statSync(join(root, name)).isFile())
      .map((name) => `${name}: ${readFileSync(join(root, name), 'utf8')}`)
      .toSorted()
  return { ask, files, kernel }
}

const stock = JSON.stringify({ cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true } })
const envOf = (command: string, id: string): ReadonlyMap<string, string> =>
  new Map([
    ...[['PLUGIN', 'flannel'] as const, ['CNI_COMMAND', command] as const, ['CNI_CONTAINERID', id] as const],
    ...[['CNI_NETNS', '/proc/self/ns/net'] as const, ['CNI_IFNAME', 'eth0'] as const, ['CNI_PATH', '/x'] as const],
  ])

test('2,000 requests: each is answered in JSON, and neither pods nor files of others change', async (t) => {
  const { ask, files, kernel } = await start(t)
  for (const id of ['a', 'b', 'c']) assert.equal((await ask(envOf('ADD', id), stock)).exit, 0)
  const before = { files: files(), wanted: [...kernel.wanted].filter(isOfPods).toSorted() }
  for (const seed of seedsOf(2000)) {
    const { env, config, how } = cniPoison(seed)
    const about = `POISON_SEED=${seed} (${how}, ${env.get('PLUGIN')?.slice(0, 20)} ${env.get('CNI_COMMAND')?.slice(0, 20)})`
    const { exit, text } = await ask(env, config)
    assert.ok(text.length <= MAX_ANSWER, `${about}: an answer of ${text.length} letters`)
    if (exit !== 0) {
      const { code, msg } = JSON.parse(text) as { code: number; msg: string }
      assert.ok(code > 0 && msg.length > 0, `${about}: ${text}`)
    }
    // As a runtime does after every ADD in the end.
    for (const plugin of ['flannel', 'loopback']) await ask(new Map([...env, ['PLUGIN', plugin], ['CNI_COMMAND', 'DEL']]), stock)
    assert.deepEqual({ files: files(), wanted: [...kernel.wanted].filter(isOfPods).toSorted() }, before, about)
  }
})
