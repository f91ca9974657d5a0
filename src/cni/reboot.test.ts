import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { encodeRequest } from '#cni/protocol.ts'
import { runningBoot } from '#cni/reboot.ts'
import { type CniServer, startCniServer } from '#cni/server.ts'
import { askAgent } from '#cni/testing.ts'
import type { HostLink, HostView } from '#model/kernel.ts'

const BOOT = { id: 'second', atMs: 1_700_000_000_000 }
const BEFORE = BOOT.atMs / 1000 - 3600
const SINCE = BOOT.atMs / 1000 + 60

class Node {
  readonly root = mkdtempSync(join(tmpdir(), 'twill-reboot-'))
  links: HostLink[] = []
  #server: CniServer | undefined

  constructor(t: TestContext) {
    for (const dir of ['run', 'flannel', 'networks/cbr0', 'networks/other']) mkdirSync(join(this.root, dir), { recursive: true })
    writeFileSync(
      join(this.root, 'subnet.env'),
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    )
    t.after(async () => {
      await this.stop()
      rmSync(this.root, { recursive: true })
    })
  }

  async start(bootId: string): Promise<CniServer> {
    const fine: PodKernel['release'] = (_owner, ops) => Promise.resolve(ops.map((op) => ({ op })))
    const kernel: PodKernel = {
      commit: (owner, _wanted, ops) => fine(owner, ops),
      release: fine,
      deviceTo: () => Promise.resolve('cni0'),
      host: (): Promise<HostView> => Promise.resolve({ links: this.links, addresses: [], routes: [] }),
    }
    this.#server = await startCniServer({
      runDir: join(this.root, 'run'),
      kernel,
      takeLock: () => Promise.resolve(() => {}),
      clock: systemClock,
      log: silentLog,
      flannel: { subnetFile: join(this.root, 'subnet.env'), dataDir: join(this.root, 'flannel') },
      networksDir: join(this.root, 'networks'),
      resultsDir: join(this.root, 'results'),
      network: 'cbr0',
      boot: { ...BOOT, id: bootId },
    })
    return this.#server
  }

  async stop(): Promise<void> {
    await this.#server?.close()
  }

  async add(id: string): Promise<void> {
    const conf = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { isDefaultGateway: true } }
    const env = {
      PLUGIN: 'flannel',
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: id,
      CNI_NETNS: '/proc/self/ns/net',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/x',
    }
    const { exit, text } = await askAgent(
      this.#server!.socketPath,
      encodeRequest({ env: new Map(Object.entries(env)), config: JSON.stringify(conf) }),
    )
    assert.equal(exit, 0, text)
  }

  /** An address as host-local keeps it. */
  hold(network: string, ip: string, id: string, atS: number): void {
    const path = join(this.root, 'networks', network, ip)
    writeFileSync(path, `${id}\r\neth0`)
    utimesSync(path, atS, atS)
  }

  held(network = 'cbr0'): string[] {
    const names = readdirSync(join(this.root, 'networks', network)).filter((name) => name.startsWith('10.'))
    return names.map((name) => `${name} ${readFileSync(join(this.root, 'networks', network, name), 'utf8').split('\r\n')[0]}`).toSorted()
  }

  list(dir: string): string[] {
    const path = join(this.root, dir)
    return existsSync(path) ? readdirSync(path).toSorted() : []
  }
}

const port = (name: string, master: string): HostLink => ({
  index: 9,
  name,
  mtu: 1450,
  mac: '02:00:00:00:00:09',
  up: true,
  kind: 'veth',
  master,
})

test('rebooted, and /run outlived it: pods of before are forgotten with their addresses, hostPorts and scratch files', async (t) => {
  const node = new Node(t)
  await node.start('first')
  await node.add('a')
  await node.stop()
  mkdirSync(join(node.root, 'run/hostports'), { recursive: true })
  writeFileSync(join(node.root, 'run/hostports/a-eth0.json'), JSON.stringify({ order: 1, ports: { containerId: 'a', ifname: 'eth0' } }))
  node.hold('cbr0', '10.244.1.9', 'b', SINCE) // no note, a clock that was wrong: a pod of before all the same
  node.hold('other', '10.9.0.2', 'c', BEFORE)
  const server = await node.start('second')
  assert.deepEqual(server.attachments(), [])
  assert.deepEqual([node.held(), node.list('run/attachments'), node.list('run/hostports'), node.list('flannel')], [[], [], [], []])
  assert.deepEqual(node.held('other'), ['10.9.0.2 c'], 'another network’s addresses are its own')
  assert.equal(readFileSync(join(node.root, 'run/boot-id'), 'utf8'), 'second\n')
})

test('rebooted, and /run is gone: what was written before the boot is freed, and nothing while a bridge has pods', async (t) => {
  const node = new Node(t)
  node.hold('cbr0', '10.244.1.2', 'old', BEFORE)
  node.hold('cbr0', '10.244.1.3', 'new', SINCE)
  node.hold('other', '10.9.0.2', 'old', BEFORE)
  writeFileSync(join(node.root, 'flannel/old'), JSON.stringify({ name: 'cbr0', type: 'bridge', bridge: 'cni7' }))
  for (const bridge of ['cni0', 'cni7']) {
    node.links = [port('veth1', bridge)]
    await node.start('second')
    assert.deepEqual(node.held(), ['10.244.1.2 old', '10.244.1.3 new'], `${bridge} has a port of pods that this agent does not know`)
    await node.stop()
    rmSync(join(node.root, 'run/boot-id'))
  }
  node.links = [port('veth1', 'docker0')]
  await node.start('second')
  assert.deepEqual([node.held(), node.held('other'), node.list('flannel')], [['10.244.1.3 new'], ['10.9.0.2 old'], []])
})

test('the same boot: nothing is freed', async (t) => {
  const node = new Node(t)
  await node.start('first')
  await node.add('a')
  await node.stop()
  node.hold('cbr0', '10.244.1.9', 'b', BEFORE)
  await node.start('first')
  assert.deepEqual(node.held(), ['10.244.1.2 a', '10.244.1.9 b'])
})

test('a running pod keeps its address though its file is gone or torn; another’s is left to it', async (t) => {
  const node = new Node(t)
  await node.start('first')
  for (const id of ['a', 'b', 'c']) await node.add(id)
  await node.stop()
  rmSync(join(node.root, 'networks/cbr0/10.244.1.2'))
  writeFileSync(join(node.root, 'networks/cbr0/10.244.1.3'), '')
  node.hold('cbr0', '10.244.1.4', 'stranger', SINCE)
  await node.start('first')
  assert.deepEqual(node.held(), ['10.244.1.2 a', '10.244.1.3 b', '10.244.1.4 stranger'])
})

test('this machine’s boot', () => {
  const { id, atMs } = runningBoot()
  assert.match(id, /^[0-9a-f-]{36}$/)
  assert.ok(atMs < Date.now() && atMs > 0)
})
