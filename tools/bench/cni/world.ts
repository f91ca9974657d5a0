/**
 * Where the CNI benchmarks run: two node namespaces, ours with the agent's CNI half (tools/cni-agent.ts), the peer's with Debian's
 * reference plugins, and pods for both. Each makes for a pod the execs that a runtime makes, one after another:
 *
 *     ours   ADD: loopback, flannel, portmap    DEL: portmap, flannel, loopback     the shim
 *     peer   ADD: loopback, bridge, portmap     DEL: portmap, bridge, loopback      bridge execs host-local
 *
 * A small C program (launch.c) starts the plugins and times them, the same for both.
 * @module
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns, type TempNetns, tempNetns } from '#kernel/temp-netns.ts'

const REFERENCE = '/usr/lib/cni'
/** Where the parts of a chained plugin's stdin meet: the result of the plugin before it goes between them. */
const PREV_RESULT = ',"prevResult":'

const stock = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const loopback = { cniVersion: '0.3.1', name: 'cni-loopback', type: 'loopback' }
const portmap = { cniVersion: '0.3.1', name: 'cbr0', type: 'portmap', capabilities: { portMappings: true } }
/** What flannel delegates to the bridge plugin. */
const bridge = (dataDir: string): object => ({
  ...{ cniVersion: '0.3.1', name: 'cbr0', type: 'bridge', mtu: 1450 },
  ...{ hairpinMode: true, ipMasq: false, isDefaultGateway: true, isGateway: true },
  ipam: { dataDir, ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '10.244.0.0/16' }], type: 'host-local' },
})

/** Sorted sample at a quantile. */
export const quantile = (samples: readonly number[], q: number): number =>
  samples.toSorted((a, b) => a - b)[Math.floor(q * (samples.length - 1))]!
export const median = (samples: readonly number[]): number => quantile(samples, 0.5)
export const ms = (value: number): string => value.toFixed(2)

export type Command = 'ADD' | 'DEL'

export interface Pod {
  readonly id: string
  readonly netns: TempNetns
}

export interface Exec {
  readonly plugin: string
  readonly ms: number
}

/** A line for launch.c. */
interface Job {
  readonly plugin: string
  readonly output: string
  readonly line: string
}

interface Side {
  readonly name: string
  /** Its own directory. */
  readonly dir: string
  readonly launcher: string
  /** Directory of the plugins. */
  readonly bin: string
  /** The configuration of the plugin that attaches the pod. */
  readonly main: { readonly type: string }
  /** Addresses are files here. */
  readonly store: string
  readonly env: readonly string[]
}

/** One side: a node namespace with a launcher in it. */
export class Contestant {
  readonly name: string
  readonly netns: TempNetns = tempNetns()
  readonly #side: Side
  readonly #launcher: ChildProcess
  readonly #answers: AsyncIterator<string>
  /** Failed execs so far. */
  errors = 0
  #shown = false

  constructor(side: Side) {
    this.name = side.name
    this.#side = side
    for (const conf of [loopback, portmap, side.main]) writeFileSync(join(side.dir, `${conf.type}.conf`), JSON.stringify(conf))
    writeFileSync(join(side.dir, 'chained.conf'), JSON.stringify(portmap).replace(/}$/, PREV_RESULT))
    writeFileSync(join(side.dir, 'end.conf'), '}')
    this.#launcher = spawn('nsenter', [`--net=${this.netns.path}`, side.launcher], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#answers = createInterface({ input: this.#launcher.stdout! })[Symbol.asyncIterator]()
  }

  /** One after another, as `rest` allows; each exec's time. */
  async chain(pod: Pod, command: Command, rest: () => Promise<unknown>): Promise<Exec[]> {
    const execs: Exec[] = []
    for (const job of this.#jobs(pod, command)) {
      execs.push(await this.#exec(job))
      await rest()
    }
    return execs
  }

  /** The chains of all pods at once: ms from the first fork to the last exit. */
  async burst(pods: readonly Pod[], command: Command): Promise<number> {
    const all = pods.map((pod) => this.#jobs(pod, command))
    const [took, failed] = await this.#ask(
      `burst ${pods.length} ${all[0]!.length}\n${all
        .flat()
        .map(({ line }) => line)
        .join('')}`,
    )
    this.errors += failed
    if (failed > 0) for (const { output } of all.flat()) this.#showFailure(output)
    return took
  }

  /** One plugin with any command, for a pod that may never have been. */
  exec(plugin: string, command: string, pod: Pod): Promise<Exec> {
    return this.#exec(this.#job(plugin, command, pod, [plugin]))
  }

  /** Addresses given away. */
  addresses(): string[] {
    return readdirSync(this.#side.store).filter((name) => name.startsWith('10.'))
  }

  /** The pods' ends on the node. */
  links(): string[] {
    const text = execFileSync('nsenter', [`--net=${this.netns.path}`, 'ip', '-j', 'link', 'show', 'type', 'veth'], { encoding: 'utf8' })
    return (JSON.parse(text) as { ifname?: string }[]).flatMap(({ ifname }) => ifname ?? [])
  }

  close(): void {
    this.#launcher.stdin!.end()
    this.netns.remove()
  }

  #jobs(pod: Pod, command: Command): Job[] {
    const { type } = this.#side.main
    const [lo, main] = [this.#job('loopback', command, pod, ['loopback']), this.#job(type, command, pod, [type])]
    if (command === 'DEL') return [this.#job('portmap', command, pod, ['portmap']), main, lo]
    return [lo, main, this.#job('portmap', command, pod, ['chained', main.output, 'end'])]
  }

  /** @param input  Configurations by name, or paths. */
  #job(plugin: string, command: string, pod: Pod, input: readonly string[]): Job {
    const { dir, bin } = this.#side
    const output = join(dir, `${pod.id}-${plugin}.out`)
    const files = input.map((name) => (name.startsWith('/') ? name : join(dir, `${name}.conf`)))
    const env = [
      `CNI_COMMAND=${command}`,
      `CNI_CONTAINERID=${pod.id}`,
      `CNI_NETNS=${pod.netns.path}`,
      `CNI_IFNAME=${plugin === 'loopback' ? 'lo' : 'eth0'}`,
      `CNI_PATH=${bin}`,
      `CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.id.slice(-8)}`,
      `PATH=${process.env.PATH}`,
      ...this.#side.env,
    ]
    return { plugin, output, line: `${[files.join('+'), output, join(bin, plugin), ...env].join('\t')}\n` }
  }

  async #exec({ plugin, output, line }: Job): Promise<Exec> {
    const [took, status] = await this.#ask(line)
    if (status !== 0) {
      this.errors++
      this.#showFailure(output)
    }
    return { plugin, ms: took }
  }

  /** [ms, exit status or number of failures]. */
  async #ask(text: string): Promise<[number, number]> {
    this.#launcher.stdin!.write(text)
    const [ns, status] = ((await this.#answers.next()).value as string).split(' ').map(Number) as [number, number]
    return [ns / 1e6, status]
  }

  /** The first one speaks for the rest. */
  #showFailure(output: string): void {
    if (this.#shown) return
    const text = existsSync(output) ? readFileSync(output, 'utf8') : ''
    if (!text.includes('"code"')) return
    this.#shown = true
    console.error(`${this.name}: ${output}: ${text}`)
  }
}

export class CniWorld {
  readonly ours: Contestant
  readonly peer: Contestant
  readonly #pods: Pod[] = []
  readonly #agent: ChildProcess
  readonly #dirs: readonly string[]

  /** @throws if the peer is not installed. */
  static async open(): Promise<CniWorld> {
    if (!existsSync(`${REFERENCE}/bridge`))
      throw new Error(`The peer is missing: install containernetworking-plugins (${REFERENCE}/bridge).`)
    sweepTempNetns()
    const world = new CniWorld()
    await new Promise((resolve) => world.#agent.stdout!.once('data', resolve))
    return world
  }

  private constructor() {
    // Both stores must lie on the disk that /var/lib/cni would lie on, not on a tmpfs.
    const dir = mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'twill-bench-cni-'))
    // /run is a tmpfs on a node, and so is this.
    const runDir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'twill-bench-run-'))
    this.#dirs = [dir, runDir]
    const [bin, launcher, mine, theirs] = ['bin', 'launch', 'ours', 'peer'].map((name) => join(dir, name)) as [
      string,
      string,
      string,
      string,
    ]
    execFileSync('make', ['-s', '-C', 'shim'], { stdio: 'inherit' })
    execFileSync('cc', ['-O2', '-o', launcher, 'tools/bench/cni/launch.c'], { stdio: 'inherit' })
    installShim('dist/shim/twill-cni', bin)
    mkdirSync(mine)
    mkdirSync(theirs)
    writeFileSync(
      join(mine, 'subnet.env'),
      'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    )
    symlinkSync(runDir, join(mine, 'run'))
    this.ours = new Contestant({
      ...{ name: 'ours', dir: mine, launcher, bin, main: stock, store: join(mine, 'networks/cbr0') },
      env: [`TWILL_CNI_SOCKET=${join(mine, 'run/cni.sock')}`],
    })
    const main = bridge(join(theirs, 'networks')) as { type: string }
    this.peer = new Contestant({
      ...{ name: 'peer', dir: theirs, launcher, bin: REFERENCE, main, store: join(theirs, 'networks/cbr0') },
      env: [],
    })
    this.#agent = spawn('nsenter', [`--net=${this.ours.netns.path}`, process.execPath, 'tools/cni-agent.ts', mine], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
  }

  /** New pods, whose IDs begin with `side`. */
  pods(side: string, count: number): Pod[] {
    const pods = Array.from({ length: count }, (_, i) => ({ id: `${side}${i}`.padStart(64, '0'), netns: tempNetns() }))
    this.#pods.push(...pods)
    return pods
  }

  /** Ours and the peer, in turn about who is first. */
  turn(round: number): Contestant[] {
    return round % 2 === 0 ? [this.ours, this.peer] : [this.peer, this.ours]
  }

  async close(): Promise<void> {
    for (const { netns } of this.#pods) netns.remove()
    this.#agent.stdin!.end()
    if (this.#agent.exitCode === null) await new Promise((resolve) => this.#agent.once('exit', resolve))
    this.ours.close()
    this.peer.close()
    for (const dir of this.#dirs) rmSync(dir, { recursive: true })
  }
}

/** Keeps the raw samples below bench/results. */
export function saveResults(name: string, results: object): void {
  const at = new Date().toISOString()
  mkdirSync('bench/results', { recursive: true })
  writeFileSync(`bench/results/${name}-${at.replace(/[:.]/g, '-')}.json`, JSON.stringify({ at, ...results }))
}
