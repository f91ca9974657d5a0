/**
 * A node whose agent and plugins can be killed after any of their writes (cut.c), and what is left on it as one value.
 * @module
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns, type TempNetns, tempNetns } from '#kernel/temp-netns.ts'

export interface Answer {
  /** null: killed. */
  readonly exit: number | null
  readonly text: string
}

/** Which plugin is killed after which of its writes. */
export interface Cut {
  readonly plugin: string
  readonly at: number
}

export interface Pod {
  readonly id: string
  readonly netns: string
  /** Absent: portmap is not called for it. */
  readonly hostPort?: number
}

export const NETWORK = 'cbr0'
const VERSION = '1.1.0' // the oldest with GC
const main = { cniVersion: VERSION, name: NETWORK, type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const portmap = { cniVersion: VERSION, name: NETWORK, type: 'portmap', capabilities: { portMappings: true } }

/** The built cutter and shim, once a process. */
export class Tools {
  readonly dir = mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'twill-leaks-'))
  readonly cut = join(this.dir, 'cut')
  readonly bin = join(this.dir, 'bin')

  constructor() {
    sweepTempNetns()
    execFileSync('make', ['-s', '-C', 'shim'])
    execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', this.cut, 'tools/leaks/cut.c'])
    installShim('dist/shim/twill-cni', this.bin)
  }

  close(): void {
    rmSync(this.dir, { recursive: true })
  }
}

/** One node: a namespace, files below `dir`, an agent. */
export class World {
  readonly dir: string
  readonly #tools: Tools
  readonly #node: TempNetns = tempNetns()
  readonly #pods: TempNetns[] = []
  #agent: ChildProcess | undefined

  constructor(tools: Tools, dir: string) {
    this.#tools = tools
    this.dir = dir
    mkdirSync(dir, { recursive: true })
    this.masquerade('agent')
  }

  /** Who masquerades. `pod`: the bridge plugin, by an element in the kernel for each pod, and then the agent alone wires up pods;
   * else the plugin does that, on an errand. */
  masquerade(who: 'agent' | 'pod'): void {
    const lines = ['NETWORK=10.244.0.0/16', 'SUBNET=10.244.1.1/24', 'MTU=1450', `IPMASQ=${who === 'agent'}`]
    writeFileSync(join(this.dir, 'subnet.env'), lines.map((line) => `FLANNEL_${line}\n`).join(''))
  }

  netns(): string {
    const one = tempNetns()
    this.#pods.push(one)
    return one.path
  }

  /** Starts the agent. When it is to be cut, only writes after `arm()` count, or all of them.
   * @returns true when it serves; false if it was cut before. */
  async start(at = 0, count: 'armed' | 'all' = 'armed'): Promise<boolean> {
    const words = [this.#log('agent'), `${at}`, ...(count === 'armed' ? ['wait'] : []), process.execPath, 'tools/cni-agent.ts', this.dir]
    const agent = spawn('nsenter', [`--net=${this.#node.path}`, this.#tools.cut, ...words], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env.PATH!, NODE_COMPILE_CACHE: join(this.#tools.dir, 'cache') },
    })
    this.#agent = agent
    return await new Promise<boolean>((resolve) => {
      agent.stdout.once('data', () => resolve(true))
      agent.once('exit', () => resolve(false))
    })
  }

  /** From here on the agent's writes count. */
  arm(): void {
    this.#agent!.kill('SIGUSR1')
  }

  get agentLives(): boolean {
    return this.#agent !== undefined && this.#agent.exitCode === null && this.#agent.signalCode === null
  }

  /** As a machine that fails kills it. */
  async kill(): Promise<void> {
    if (!this.agentLives) return
    const gone = new Promise((resolve) => this.#agent!.once('exit', resolve))
    this.#agent!.kill('SIGKILL') // the tracer; its program dies with it
    await gone
  }

  /** The agent's end, after it was told to. */
  async stop(): Promise<void> {
    if (!this.agentLives) return
    const gone = new Promise((resolve) => this.#agent!.once('exit', resolve))
    this.#agent!.stdin!.end()
    await gone
  }

  /** What the runtime does for a new pod. True if it may call the pod running. */
  async add(pod: Pod, cut?: Cut): Promise<boolean> {
    const first = await this.call('flannel', 'ADD', pod, main, cut)
    if (first.exit !== 0 || pod.hostPort === undefined) return first.exit === 0
    const portMappings = [{ hostPort: pod.hostPort, containerPort: 80, protocol: 'tcp' }]
    const conf = { ...portmap, runtimeConfig: { portMappings }, prevResult: JSON.parse(first.text) as object }
    return (await this.call('portmap', 'ADD', pod, conf, cut)).exit === 0
  }

  /** What the runtime does with a pod that ends. */
  async del(pod: Pod, cut?: Cut): Promise<boolean> {
    const first = pod.hostPort === undefined ? undefined : await this.call('portmap', 'DEL', pod, portmap, cut)
    const second = await this.call('flannel', 'DEL', pod, main, cut)
    return (first === undefined || first.exit === 0) && second.exit === 0
  }

  /** GC: only `alive` stay. */
  async collect(alive: readonly Pod[]): Promise<Answer[]> {
    const valid = { 'cni.dev/valid-attachments': alive.map(({ id }) => ({ containerID: id, ifname: 'eth0' })) }
    const none = { id: '', netns: '' }
    return [await this.call('portmap', 'GC', none, { ...portmap, ...valid }), await this.call('flannel', 'GC', none, { ...main, ...valid })]
  }

  /** One plugin call. */
  call(plugin: string, command: string, pod: Pick<Pod, 'id' | 'netns'>, conf: object, cut?: Cut): Promise<Answer> {
    const cutter = cut?.plugin === plugin ? [this.#tools.cut, this.#log('plugin'), `${cut.at}`] : []
    const child = spawn('nsenter', [`--net=${this.#node.path}`, ...cutter, join(this.#tools.bin, plugin)], {
      env: {
        PATH: process.env.PATH!,
        CNI_COMMAND: command,
        CNI_CONTAINERID: pod.id,
        CNI_NETNS: pod.netns,
        CNI_IFNAME: 'eth0',
        CNI_PATH: this.#tools.bin,
        TWILL_CNI_SOCKET: join(this.dir, 'run/cni.sock'),
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdin.on('error', () => {}).end(JSON.stringify(conf))
    let text = ''
    child.stdout.on('data', (part: Buffer) => {
      text += part.toString()
    })
    return new Promise((resolve) => child.once('close', (exit) => resolve({ exit, text })))
  }

  #log(name: string): string {
    return `${join(this.#tools.dir, name)}.cuts`
  }

  /** What the agent wrote since its writes count, one line each. */
  writes(): string[] {
    return readFileSync(this.#log('agent'), 'utf8').trim().split('\n').filter(Boolean)
  }

  /** The write that the last cut plugin ended with. */
  lastWriteOfPlugin(): string {
    return readFileSync(this.#log('plugin'), 'utf8').trim().split('\n').at(-1)!
  }

  /** Runs a program in a namespace; its output. */
  inside(netns: string, ...argv: string[]): string {
    const { status, stdout, stderr } = spawnSync('nsenter', [`--net=${netns}`, ...argv], { encoding: 'utf8' })
    if (status !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
    return stdout
  }

  onNode(...argv: string[]): string {
    return this.inside(this.#node.path, ...argv)
  }

  files(dir: string): string[] {
    return existsSync(join(this.dir, dir)) ? readdirSync(join(this.dir, dir)).toSorted() : []
  }

  /** Files there look an hour old. */
  letTimePass(dir: string): void {
    const then = Date.now() / 1000 - 3600
    for (const name of this.files(dir)) utimesSync(join(this.dir, dir, name), then, then)
  }

  /** Container by address, of host-local's files. */
  held(): ReadonlyMap<string, string> {
    const names = this.files(`networks/${NETWORK}`).filter((name) => /^\d/.test(name))
    return new Map(names.map((ip) => [ip, readFileSync(join(this.dir, 'networks', NETWORK, ip), 'utf8').split('\r\n')[0]!]))
  }

  /** Everything that a pod leaves traces in. */
  state(): State {
    const links = JSON.parse(this.onNode('ip', '-j', 'link', 'show', 'type', 'veth') || '[]') as { ifname?: string }[]
    const table = spawnSync('nsenter', [`--net=${this.#node.path}`, 'nft', '-j', 'list', 'table', 'inet', 'twill'], { encoding: 'utf8' })
    const inKernel = [...table.stdout.matchAll(/"(10\.244\.1\.\d+)"/g)].map(([, ip]) => ip!).filter((ip) => !/\.[01]$/.test(ip))
    return {
      veths: links.flatMap(({ ifname }) => ifname ?? []).length,
      held: [...this.held()].map(([ip, id]) => `${id} ${ip}`).toSorted(),
      elements: [...new Set(inKernel)].toSorted(),
      attachments: this.files('run/attachments'),
      hostPorts: this.files('run/hostports'),
      queue: this.files('run/delete-queue'),
      scratch: this.files('flannel'),
    }
  }

  async close(): Promise<void> {
    await this.kill()
    for (const one of [this.#node, ...this.#pods]) one.remove()
  }
}

export interface State {
  readonly veths: number
  readonly held: readonly string[]
  /** Pod addresses that elements of the nftables table speak of. */
  readonly elements: readonly string[]
  readonly attachments: readonly string[]
  readonly hostPorts: readonly string[]
  readonly queue: readonly string[]
  readonly scratch: readonly string[]
}

/** The state of a node with these pods and no trace of another. */
export function stateOf(alive: readonly { readonly id: string; readonly ip: string }[]): State {
  const each = (text: (one: { id: string; ip: string }) => string): string[] => alive.map(text).toSorted()
  return {
    veths: alive.length,
    held: each(({ id, ip }) => `${id} ${ip}`),
    elements: each(({ ip }) => ip),
    attachments: each(({ id }) => `${id}-eth0.json`),
    hostPorts: each(({ id }) => `${id}-eth0.json`),
    queue: [],
    scratch: each(({ id }) => id),
  }
}
