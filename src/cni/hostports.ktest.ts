/** hostPorts from the CNI request to the packet: on the real kernel, over restarts of the agent, against meddlers and left-overs. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { encodeRequest } from '#cni/protocol.ts'
import { type CniServer, startCniServer } from '#cni/server.ts'
import { askAgent } from '#cni/testing.ts'
import { Steward } from '#daemon/steward.ts'
import { openLinux } from '#kernel/linux.ts'
import { Probe } from '#kernel/probe.ts'
import { ReferenceRules } from '#kernel/reference-rules.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { Kernel } from '#model/kernel.ts'
import type { Sweep } from '#plan/desired.ts'
import { POD_BRIDGE, sweepOf } from '#plan/sweep.ts'
import { twillTable } from '#plan/table.ts'

const REFERENCE = '/usr/lib/cni'
const skip = existsSync(`${REFERENCE}/portmap`) ? false : 'the reference plugins are not installed'
const stock = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const GATEWAY = '10.244.1.1'

sweepTempNetns()
const root = mkdtempSync(join(tmpdir(), 'twill-hostports-'))
const pods = { a: tempNetns(), b: tempNetns(), c: tempNetns() }
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
run('ip', 'link', 'set', 'lo', 'up')
writeFileSync(
  join(root, 'subnet.env'),
  'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
)
const node = new Probe()
const probes = new Map(Object.entries(pods).map(([name, { path }]) => [name, new Probe(path)]))
for (const [name, probe] of probes) await probe.listen(name, 80)

/** The agent's half that matters here. */
class Life {
  readonly kernel: Kernel
  readonly steward: Steward
  server: CniServer | undefined
  readonly #reference = ReferenceRules.open()

  constructor(kernel: Kernel) {
    this.kernel = kernel
    const scope = {
      links: [POD_BRIDGE],
      bridges: [POD_BRIDGE],
      routeProtocol: 84,
      routeLinks: [],
      nftTables: [twillTable],
      sysctls: [],
      files: [],
    }
    this.steward = new Steward({ kernel, scope, log: silentLog, clock: systemClock, onDrift: () => {}, onRepaired: () => {} })
  }

  /** As the agent: a pass before the pods are known, then the pods, then a pass with them. */
  static async begin(): Promise<Life> {
    const life = new Life(await openLinux())
    await life.pass(false)
    life.server = await startCniServer({
      runDir: join(root, 'run'),
      kernel: life.steward,
      takeLock: () => Promise.resolve(() => {}),
      clock: systemClock,
      log: silentLog,
      flannel: { subnetFile: join(root, 'subnet.env'), dataDir: join(root, 'flannel') },
      networksDir: join(root, 'networks'),
      resultsDir: join(root, 'results'),
      removeReferenceRules: (key) => life.#reference.remove(key),
      listReferencePorts: () => life.#reference.list(),
    })
    await life.pass(true)
    return life
  }

  async pass(known: boolean): Promise<void> {
    const sweep: Sweep = sweepOf({ nodes: true, services: true, pods: known })
    this.steward.distrust()
    assert.equal((await this.steward.pass(sweep)).failed, 0)
  }

  async end(): Promise<void> {
    await this.server?.close()
    await this.kernel.close()
    await this.#reference.close()
  }
}

let life = await Life.begin()
after(async () => {
  await life.end()
  node.close()
  for (const probe of probes.values()) probe.close()
  for (const pod of Object.values(pods)) pod.remove()
  rmSync(root, { recursive: true })
  setImmediate(() => process.exit())
})

async function ask(plugin: string, command: string, name: keyof typeof pods, conf: object): Promise<string> {
  const env = {
    PLUGIN: plugin,
    CNI_COMMAND: command,
    CNI_CONTAINERID: name.repeat(64),
    CNI_NETNS: pods[name].path,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/x',
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`,
  }
  const frame = encodeRequest({ env: new Map(Object.entries(env)), config: JSON.stringify(conf) })
  const { exit, text } = await askAgent(life.server!.socketPath, frame)
  if (exit !== 0) throw new Error(text)
  return text
}

/** As containerd sends it. */
const mappings = (...ports: number[]) => ({
  runtimeConfig: {
    portMappings: ports.flatMap((port) =>
      ['tcp', 'udp'].map((protocol) => ({ HostPort: port, ContainerPort: 80, Protocol: protocol, HostIP: '' })),
    ),
  },
})
const portmap = (result: string, ...ports: number[]): object => ({
  cniVersion: '0.3.1',
  name: 'cbr0',
  type: 'portmap',
  capabilities: { portMappings: true },
  ...mappings(...ports),
  ...(result === '' ? {} : { prevResult: JSON.parse(result) as object }),
})
async function add(name: keyof typeof pods, ...ports: number[]): Promise<string> {
  const result = await ask('flannel', 'ADD', name, stock)
  assert.equal(await ask('portmap', 'ADD', name, portmap(result, ...ports)), result)
  return result
}
async function del(name: keyof typeof pods, ...ports: number[]): Promise<void> {
  await ask('portmap', 'DEL', name, portmap('', ...ports))
  await ask('flannel', 'DEL', name, stock)
}
const reach = (port: number, more: { protocol?: 'udp'; fromPort?: number; to?: string } = {}): Promise<string> =>
  node.ask({ protocol: 'tcp', to: '127.0.0.1', port, ...more })
const elements = (): string[] =>
  run('nft', 'list', 'table', 'inet', 'twill')
    .split('\n')
    .filter((line) => / \d+ : /.test(line))

test('ADD opens the port from the node, by localhost and by address, and from other pods', async () => {
  await add('a', 8080)
  assert.equal(await reach(8080), `a ${GATEWAY}`)
  assert.equal(await reach(8080, { to: GATEWAY }), `a ${GATEWAY}`)
  assert.equal(await reach(8080, { protocol: 'udp' }), `a ${GATEWAY}`)
  await add('b', 8081)
  assert.equal(await probes.get('b')!.ask({ protocol: 'tcp', to: GATEWAY, port: 8080 }), `a ${GATEWAY}`)
  assert.equal(await probes.get('a')!.ask({ protocol: 'tcp', to: GATEWAY, port: 8080 }), `a ${GATEWAY}`, 'the pod itself')
})

test('a restart of the agent changes nothing in the kernel, and the ports stay open all the while', async () => {
  await life.end()
  assert.equal(await reach(8080), `a ${GATEWAY}`)
  life = await Life.begin()
  assert.equal(life.kernel.mutations, 0)
  assert.equal(await reach(8080), `a ${GATEWAY}`)
})

test('what others flush is put back', async () => {
  run('nft', 'flush', 'ruleset')
  assert.notEqual(await reach(8080), `a ${GATEWAY}`)
  await life.pass(true)
  assert.equal(await reach(8080), `a ${GATEWAY}`)
})

test('flushed while no agent runs: the next one has it back', async () => {
  await life.end()
  run('nft', 'flush', 'ruleset')
  life = await Life.begin()
  assert.equal(await reach(8081), `b ${GATEWAY}`)
})

test('a UDP client that keeps its port follows the hostPort to the next pod', async () => {
  const client = { protocol: 'udp', fromPort: 40404 } as const
  assert.equal(await reach(8080, client), `a ${GATEWAY}`)
  await add('c', 8080)
  assert.equal(await reach(8080, client), `c ${GATEWAY}`, 'the later pod has it')
  await del('c', 8080)
  assert.equal(await reach(8080, client), `a ${GATEWAY}`, 'and the earlier again')
})

test('DEL closes the ports, without the mappings too; the last one leaves no element, and a new agent no chain', async () => {
  await del('a', 8080)
  assert.equal(await reach(8080), 'ECONNREFUSED')
  assert.equal(await reach(8081), `b ${GATEWAY}`)
  await ask('flannel', 'DEL', 'b', stock)
  assert.equal(await reach(8081), 'ECONNREFUSED')
  assert.deepEqual(elements(), [])
  await del('a', 8080)
  await life.end()
  life = await Life.begin()
  assert.deepEqual(
    (
      await life.kernel.dump({ links: [], bridges: [], routeProtocol: 84, routeLinks: [], nftTables: [twillTable], sysctls: [], files: [] })
    ).filter(({ kind }) => kind !== 'nft-table'),
    [],
  )
})

test('a subnet that holds another one takes its place among the near ones, and gives it back', async () => {
  await add('a', 8085)
  const result = await ask('flannel', 'ADD', 'b', stock)
  await ask('portmap', 'ADD', 'b', portmap(result.replaceAll('/24"', '/16"'), 8086))
  assert.equal(await reach(8085), `a ${GATEWAY}`)
  assert.equal(await reach(8086), `b ${GATEWAY}`)
  await del('b', 8086)
  assert.equal(await probes.get('a')!.ask({ protocol: 'tcp', to: GATEWAY, port: 8085 }), `a ${GATEWAY}`)
  await del('a', 8085)
})

/** A pod as the reference plugins make it, before Twill came; the cache is as libcni writes it. */
function referencePod(name: keyof typeof pods, port: number): void {
  const exec = (plugin: string, conf: object): string => {
    const { status, stdout } = spawnSync(`${REFERENCE}/${plugin}`, {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: name.repeat(64),
        CNI_NETNS: pods[name].path,
        CNI_IFNAME: 'eth0',
        CNI_PATH: REFERENCE,
      },
      input: JSON.stringify(conf),
    })
    assert.equal(status, 0, stdout)
    return stdout
  }
  const ipam = {
    type: 'host-local',
    dataDir: join(root, 'networks'),
    ranges: [[{ subnet: '10.244.1.0/24' }]],
    routes: [{ dst: '10.244.0.0/16' }],
  }
  const delegate = {
    cniVersion: '0.3.1',
    name: 'cbr0',
    type: 'bridge',
    mtu: 1450,
    hairpinMode: true,
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    ipam,
  }
  const bridged = exec('bridge', delegate)
  const result = exec('portmap', portmap(bridged, port))
  mkdirSync(join(root, 'flannel'), { recursive: true })
  writeFileSync(join(root, 'flannel', name.repeat(64)), JSON.stringify(delegate))
  mkdirSync(join(root, 'results'), { recursive: true })
  const list = { cniVersion: '0.3.1', name: 'cbr0', plugins: [stock, { type: 'portmap', capabilities: { portMappings: true } }] }
  writeFileSync(
    join(root, `results/cbr0-${name.repeat(64)}-eth0`),
    JSON.stringify({
      kind: 'cniCacheV1',
      containerId: name.repeat(64),
      config: Buffer.from(JSON.stringify(list)).toString('base64'),
      ifName: 'eth0',
      networkName: 'cbr0',
      netns: pods[name].path,
      cniArgs: [
        ['IgnoreUnknown', '1'],
        ['K8S_POD_NAMESPACE', 'default'],
        ['K8S_POD_NAME', name],
      ],
      capabilityArgs: mappings(port).runtimeConfig,
      result: JSON.parse(result) as object,
    }),
  )
}
const nat = (): string => run('iptables', '-t', 'nat', '-S')
const freed = (): boolean => !readdirSync(join(root, 'networks/cbr0')).some((file) => file.startsWith('10.'))

test('DEL of a pod that the reference plugins made takes their rules along', { skip }, async () => {
  referencePod('b', 8082)
  assert.equal(await reach(8082), `b ${GATEWAY}`)
  assert.match(nat(), /CNI-DN-/)
  await del('b', 8082)
  assert.notEqual(await reach(8082), `b ${GATEWAY}`)
  assert.ok(!/CNI-DN-|bbbb/.test(nat()), nat())
  assert.ok(freed())
})

test('pods that the reference plugins made before are taken over with their hostPorts, those that are gone are not', { skip }, async () => {
  await life.end()
  referencePod('c', 8083)
  writeFileSync(join(root, 'results/cbr0-torn-eth0'), '{"kind":"cniCacheV1"')
  // As after a reboot: all of a pod is on file, but its device.
  const ofB = readFileSync(join(root, `results/cbr0-${'b'.repeat(64)}-eth0`), 'utf8')
  const [address] = /10\.244\.1\.(?!1[/"])\d+/.exec(ofB)!
  if (!existsSync(join(root, 'networks/cbr0', address))) writeFileSync(join(root, 'networks/cbr0', address), `${'b'.repeat(64)}\r\neth0`)
  writeFileSync(join(root, 'flannel', 'b'.repeat(64)), readFileSync(join(root, 'flannel', 'c'.repeat(64))))
  life = await Life.begin()
  assert.deepEqual(
    life
      .server!.attachments()
      .map(({ podName, bridge, hairpin, mtu, pod }) => ({ podName, bridge, hairpin, mtu, addresses: pod.addresses.length })),
    [{ podName: 'default/c', bridge: 'cni0', hairpin: true, mtu: 1450, addresses: 1 }],
    'b left its cache, and no device',
  )
  assert.ok(!/CNI-DN-|cccc/.test(nat()), nat())
  assert.equal(await reach(8083), `c ${GATEWAY}`)
  assert.equal(await reach(8083, { protocol: 'udp' }), `c ${GATEWAY}`)
  await life.end()
  life = await Life.begin()
  assert.equal(life.kernel.mutations, 0)
  await del('c', 8083)
  assert.equal(await reach(8083), 'ECONNREFUSED')
  assert.deepEqual(life.server!.attachments(), [])
  await ask('flannel', 'DEL', 'b', stock)
  assert.ok(freed())
  assert.doesNotMatch(run('ip', 'link'), /veth/)
})

test('without a cache the hostPorts are read from the rules of the reference portmap', { skip }, async () => {
  await life.end()
  referencePod('a', 8087)
  rmSync(join(root, 'results'), { recursive: true })
  life = await Life.begin()
  assert.ok(!/CNI-DN-/.test(nat()), nat())
  assert.equal(await reach(8087), `a ${GATEWAY}`)
  assert.equal(await reach(8087, { protocol: 'udp' }), `a ${GATEWAY}`)
  assert.deepEqual(life.server!.attachments(), [])
  await del('a', 8087)
  assert.equal(await reach(8087), 'ECONNREFUSED')
  assert.ok(freed())
})
