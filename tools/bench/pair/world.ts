/**
 * Two nodes and a pod on each, with real agents as processes: what the benchmarks of repair and restart happen in. The program's own
 * network namespace becomes the switch that both nodes are plugged into, where the stand-in API listens.
 *
 *     switch (br0, API) ─ eth1 node 0 (agent, cni0) ─ pod 0
 *                       ─ eth1 node 1 (agent, cni0) ─ pod 1
 *
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { setPriority, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { VERSION } from '#base/version.ts'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns, type TempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { StatusDocument } from '#model/status.ts'
import { STOCK_CONFLIST } from '#plan/files.ts'
import { addressOf, NETWORK, nameOf, StandInApi, UNDERLAY_PREFIX } from '../scale/api.ts'

const API_IP = '172.17.255.254'
const START_MS = 20_000
/** Of this program and what it starts, but for the agents: what measures must not wait for a busy machine. */
const PRIORITY = -20
setPriority(PRIORITY)
export const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
const ip = (line: string): string => run('ip', ...line.split(' '))

/** An agent program. */
export interface Build {
  readonly version: string
  readonly path: string
}

/** One node. Its agent comes and goes; its namespace and files stay. */
export class WorldNode {
  readonly netns: TempNetns
  readonly pod: TempNetns
  readonly name: string
  readonly dir: string
  podIp = ''
  readonly #url: string
  #agent: ChildProcess | undefined

  constructor(i: number, dir: string, url: string) {
    this.netns = tempNetns()
    this.pod = tempNetns()
    this.name = nameOf(i)
    this.dir = join(dir, this.name)
    this.#url = url
    for (const name of ['lib', 'run']) mkdirSync(join(this.dir, name), { recursive: true })
    ip(`link add up${i} type veth peer name eth1 netns ${basename(this.netns.path)}`)
    ip(`link set up${i} master br0 up`)
    for (const line of ['link set lo up', 'link set eth1 up', `address add ${addressOf(i)}/${UNDERLAY_PREFIX} dev eth1`]) {
      this.exec('ip', ...line.split(' '))
    }
  }

  get pid(): number {
    return this.#agent!.pid!
  }

  /** Runs a command in the node's network namespace. */
  exec(...argv: string[]): string {
    return run('nsenter', `--net=${this.netns.path}`, ...argv)
  }

  /** Starts an agent and waits until it serves. Its /var/lib is the node's own. */
  async start({ path }: Build): Promise<StatusDocument> {
    const { dir } = this
    const flags = [
      ...['--kube-subnet-mgr', '--ip-masq', '--ip-blackhole-route', '--iface=eth1', '--services', `--kube-api-url=${this.#url}`],
      ...[`--run-dir=${dir}/run`, `--subnet-file=${dir}/subnet.env`, `--cni-conf-dir=${dir}`, `--net-config-path=${dir}/../net-conf.json`],
    ]
    const ownLib = ['sh', '-c', 'mount --bind "$0" /var/lib && exec "$@"', `${dir}/lib`]
    const argv = [
      `--net=${this.netns.path}`,
      'nice',
      '-n',
      String(-PRIORITY),
      'unshare',
      '--mount',
      ...ownLib,
      process.execPath,
      path,
      ...flags,
    ]
    const log = openSync(`${dir}/agent.log`, 'a')
    this.#agent = spawn('nsenter', argv, { stdio: ['ignore', log, log], env: { ...process.env, NODE_NAME: this.name } })
    closeSync(log)
    const end = performance.now() + START_MS
    for (;;) {
      const status = await this.status().catch(() => undefined)
      if (status?.agent.phase === 'serving' && status.agent.pid === this.pid) return status
      if (performance.now() > end || this.#agent.exitCode !== null) {
        throw new Error(`${this.name} does not serve:\n${readFileSync(`${dir}/agent.log`, 'utf8').slice(-2000)}`)
      }
      await sleep(20)
    }
  }

  /** What the agent says of itself. */
  async status(): Promise<StatusDocument> {
    const chunks: Buffer[] = []
    const response = await new Promise<AsyncIterable<Buffer>>((resolve, reject) => {
      get({ socketPath: `${this.dir}/run/agent.sock`, path: '/status', timeout: 2000 }, resolve).on('error', reject)
    })
    for await (const chunk of response) chunks.push(chunk)
    return JSON.parse(Buffer.concat(chunks).toString()) as StatusDocument
  }

  signal(signal: NodeJS.Signals): void {
    this.#agent?.kill(signal)
  }

  /** Sends `signal` and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const agent = this.#agent
    this.#agent = undefined
    if (!agent || agent.exitCode !== null || agent.signalCode !== null) return
    const gone = new Promise((resolve) => agent.once('exit', resolve))
    agent.kill(signal)
    await gone
  }

  /** ADD, as a runtime does it for the first plugin of the stock conflist. */
  addPod(bin: string): void {
    const { plugins, ...head } = JSON.parse(STOCK_CONFLIST) as { plugins: object[] }
    const env = {
      ...{ CNI_COMMAND: 'ADD', CNI_CONTAINERID: `bench-${this.name}`, CNI_NETNS: this.pod.path, CNI_IFNAME: 'eth0', CNI_PATH: bin },
      TWILL_CNI_SOCKET: `${this.dir}/run/cni.sock`,
    }
    const done = spawnSync(join(bin, 'flannel'), { input: JSON.stringify({ ...head, ...plugins[0] }), encoding: 'utf8', env })
    if (done.status !== 0) throw new Error(`ADD on ${this.name}: ${done.stdout}`)
    this.podIp = (JSON.parse(done.stdout) as { ips: { address: string }[] }).ips[0]!.address.split('/')[0]!
  }

  remove(): void {
    this.pod.remove()
    this.netns.remove()
  }
}

/** What became of the traffic, see traffic.c. */
export interface Traffic {
  readonly sent: number
  readonly answered: number
  readonly lost: number
  readonly flows: number
  readonly broken: number
  readonly echoed: number
  /** Longest time in ms that the generator itself did not run. */
  readonly late: number
}

const PORT = 9000
const FLOWS = 200

const meta = (name: string): object => ({ namespace: 'default', name, uid: name, resourceVersion: '1' })
/** One service, so that nftables holds elements. */
const services = {
  '/api/v1/services': [{ metadata: meta('web'), spec: { clusterIP: '10.96.0.7', ports: [{ port: 80 }] } }],
  '/apis/discovery.k8s.io/v1/endpointslices': [],
}

export class World {
  readonly dir: string
  readonly nodes: readonly [WorldNode, WorldNode]
  readonly api: StandInApi
  /** This version's agent, and the same with another version. */
  readonly builds: readonly [Build, Build]
  readonly #children: ChildProcess[] = []
  #load: { readonly ask: NodeJS.WritableStream; readonly answers: AsyncIterator<string> } | undefined

  private constructor(dir: string, api: StandInApi, url: string) {
    this.dir = dir
    this.api = api
    this.nodes = [new WorldNode(0, dir, url), new WorldNode(1, dir, url)]
    this.builds = [{ version: VERSION, path: 'dist/agent.mjs' }, otherBuild('99.0.0')]
  }

  /** Two nodes that serve, and a pod on each. */
  static async open(): Promise<World> {
    sweepTempNetns()
    for (const line of [
      'link set lo up',
      'link add br0 type bridge',
      `address add ${API_IP}/${UNDERLAY_PREFIX} dev br0`,
      'link set br0 up',
    ]) {
      ip(line)
    }
    const dir = mkdtempSync(join(tmpdir(), 'twill-bench-pair-'))
    writeFileSync(join(dir, 'net-conf.json'), JSON.stringify({ Network: NETWORK, Backend: { Type: 'vxlan' } }))
    execFileSync('make', ['-s', '-C', 'shim'], { stdio: 'inherit' })
    execFileSync('cc', ['-O2', '-o', join(dir, 'traffic'), 'tools/bench/pair/traffic.c'], { stdio: 'inherit' })
    installShim('dist/shim/twill-cni', join(dir, 'bin'))
    const api = new StandInApi('vxlan', 1, services)
    const world = new World(dir, api, await api.listen(API_IP))
    try {
      for (const node of world.nodes) await node.start(world.builds[0])
      for (const node of world.nodes) node.addPod(join(dir, 'bin'))
      return world
    } catch (error) {
      await world.close()
      throw error
    }
  }

  /** Starts a 1 kHz ping and open TCP flows from pod 0 to pod 1. */
  async startTraffic(): Promise<void> {
    const [from, to] = this.nodes
    await this.#inPod(to, 'echo', String(PORT))
    this.#load = await this.#inPod(from, 'load', to.podIp, String(PORT), String(FLOWS))
  }

  async traffic(): Promise<Traffic> {
    this.#load!.ask.write('\n')
    return JSON.parse((await this.#load!.answers.next()).value as string) as Traffic
  }

  async #inPod(node: WorldNode, ...argv: string[]) {
    const child = spawn('nsenter', [`--net=${node.pod.path}`, join(this.dir, 'traffic'), ...argv], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#children.push(child)
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    if ((await answers.next()).value !== 'ready') throw new Error(`traffic ${argv.join(' ')} did not start`)
    return { ask: child.stdin, answers }
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
    for (const node of this.nodes) {
      node.signal('SIGCONT')
      await node.stop('SIGKILL')
      node.remove()
    }
    this.api.close()
    rmSync(this.builds[1].path, { force: true })
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** The agent as another version: the same bundle, beside it (it needs node_modules), with another version in it. */
function otherBuild(version: string): Build {
  const text = readFileSync('dist/agent.mjs', 'utf8')
  const other = text.replaceAll(`"${VERSION}"`, `"${version}"`)
  if (other === text) throw new Error('dist/agent.mjs names no version')
  const path = `dist/agent-${version}-${process.pid}.mjs`
  writeFileSync(path, other)
  return { version, path }
}
