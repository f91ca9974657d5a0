/**
 * cni-add and cni-del: every exec that a runtime makes for a pod, 100 pods one after another, ours and the peer's turn about
 * in one run, each in a node namespace of its own.
 *
 *     ours   ADD: loopback, flannel, portmap    DEL: portmap, flannel, loopback     the shim; agent: tools/cni-agent.ts
 *     peer   ADD: loopback, bridge, portmap     DEL: portmap, bridge, loopback      Debian's reference; bridge execs host-local
 *
 * A small C program (launch.c) starts each plugin and times it from fork to wait, the same for both. A pod's figure is the
 * sum of its execs; the headline is the median over pods. Between operations both rest equally long, so that the kernel's
 * work after one contestant's answer is not counted against the other.
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns, type TempNetns, tempNetns } from '#kernel/temp-netns.ts'

const REFERENCE = '/usr/lib/cni'
const PODS = 100
const WARM_UP = 5
const REST_MS = 40
const goals = { 'cni-add': 5, 'cni-del': 1.5 } as const

const stock = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const loopback = { cniVersion: '0.3.1', name: 'cni-loopback', type: 'loopback' }
const portmap = { cniVersion: '0.3.1', name: 'cbr0', type: 'portmap', capabilities: { portMappings: true } }

/** Sorted sample at a quantile. */
const quantile = (samples: readonly number[], q: number): number => samples.toSorted((a, b) => a - b)[Math.floor(q * (samples.length - 1))]!
const ms = (value: number): string => value.toFixed(2)

interface Exec {
  readonly plugin: string
  readonly ms: number
}

/** One side: a node namespace with a launcher in it. */
class Contestant {
  readonly name: string
  readonly netns: TempNetns = tempNetns()
  readonly #launcher: ChildProcess
  readonly #answers: AsyncIterator<string>
  readonly #dir: string
  readonly #bin: string
  readonly #main: string
  readonly #conf: object
  readonly #env: readonly string[]
  errors = 0
  readonly add: Exec[][] = []
  readonly del: Exec[][] = []

  constructor(o: { name: string; dir: string; launcher: string; bin: string; main: string; conf: object; env: readonly string[] }) {
    this.name = o.name
    this.#dir = o.dir
    this.#bin = o.bin
    this.#main = o.main
    this.#conf = o.conf
    this.#env = o.env
    this.#launcher = spawn('nsenter', [`--net=${this.netns.path}`, o.launcher], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#answers = createInterface({ input: this.#launcher.stdout! })[Symbol.asyncIterator]()
  }

  async #exec(plugin: string, command: string, pod: Pod, conf: object, ifname: string): Promise<{ exec: Exec; text: string }> {
    const [input, output] = [join(this.#dir, `${this.name}.in`), join(this.#dir, `${this.name}.out`)]
    writeFileSync(input, JSON.stringify(conf))
    const env = [
      ...[
        `CNI_COMMAND=${command}`,
        `CNI_CONTAINERID=${pod.id}`,
        `CNI_NETNS=${pod.netns.path}`,
        `CNI_IFNAME=${ifname}`,
        `CNI_PATH=${this.#bin}`,
      ],
      ...[`CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.id.slice(-8)}`, `PATH=${process.env.PATH}`, ...this.#env],
    ]
    this.#launcher.stdin!.write(`${[input, output, join(this.#bin, plugin), ...env].join('\t')}\n`)
    const [took, status] = ((await this.#answers.next()).value as string).split(' ').map(Number) as [number, number]
    const text = readFileSync(output, 'utf8')
    if (status !== 0) {
      this.errors++
      console.error(`${this.name}: ${plugin} ${command}: ${text}`)
    }
    await sleep(REST_MS)
    return { exec: { plugin, ms: took / 1e6 }, text }
  }

  /** What a runtime does for a new pod. */
  async addPod(pod: Pod): Promise<void> {
    const lo = await this.#exec('loopback', 'ADD', pod, loopback, 'lo')
    const main = await this.#exec(this.#main, 'ADD', pod, this.#conf, 'eth0')
    const prevResult = main.text === '' ? undefined : (JSON.parse(main.text) as object)
    const last = await this.#exec('portmap', 'ADD', pod, { ...portmap, prevResult }, 'eth0')
    this.add.push([lo.exec, main.exec, last.exec])
  }

  async delPod(pod: Pod): Promise<void> {
    const first = await this.#exec('portmap', 'DEL', pod, portmap, 'eth0')
    const main = await this.#exec(this.#main, 'DEL', pod, this.#conf, 'eth0')
    const lo = await this.#exec('loopback', 'DEL', pod, loopback, 'lo')
    this.del.push([first.exec, main.exec, lo.exec])
  }

  close(): void {
    this.#launcher.stdin!.end()
    this.netns.remove()
  }
}

interface Pod {
  readonly id: string
  readonly netns: TempNetns
}

function report(figure: 'cni-add' | 'cni-del', ours: readonly Exec[][], peer: readonly Exec[][], errors: number): void {
  const sums = (pods: readonly Exec[][], skip?: string): number[] =>
    pods.map((execs) => execs.filter(({ plugin }) => plugin !== skip).reduce((sum, one) => sum + one.ms, 0))
  for (const [name, pods] of [
    ['ours', ours],
    ['peer', peer],
  ] as const) {
    const all = sums(pods)
    const each = pods[0]!.map(
      ({ plugin }, i) =>
        `${plugin} ${ms(
          quantile(
            pods.map((execs) => execs[i]!.ms),
            0.5,
          ),
        )}`,
    )
    console.log(
      `${figure} ${name}: median ${ms(quantile(all, 0.5))} p10 ${ms(quantile(all, 0.1))} p90 ${ms(quantile(all, 0.9))} ms (${each.join(', ')})`,
    )
  }
  const median = (pods: readonly Exec[][], skip?: string): number => quantile(sums(pods, skip), 0.5)
  const without = median(peer, 'loopback') / median(ours, 'loopback')
  console.log(
    `${figure} without loopback, which some runtimes do themselves: ours ${ms(median(ours, 'loopback'))} peer ${ms(median(peer, 'loopback'))} ms, ratio ${without.toFixed(1)}`,
  )
  const ratio = median(peer) / median(ours)
  const verdict = ratio >= goals[figure] && errors === 0 ? 'ok' : 'short'
  console.log(
    `bench: ${figure} ours=${ms(median(ours))}ms peer=${ms(median(peer))}ms ratio=${ratio.toFixed(1)} goal=${goals[figure]} ${verdict}`,
  )
}

if (!existsSync(`${REFERENCE}/bridge`)) {
  console.error(`The peer is missing: install containernetworking-plugins (${REFERENCE}/bridge).`)
  process.exit(2)
}
sweepTempNetns()
// Both stores must lie on the disk that /var/lib/cni would lie on, not on a tmpfs.
const dir = mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'twill-bench-cni-'))
const bin = join(dir, 'bin')
execFileSync('make', ['-s', '-C', 'shim'], { stdio: 'inherit' })
execFileSync('cc', ['-O2', '-o', join(dir, 'launch'), 'tools/bench/launch.c'], { stdio: 'inherit' })
installShim('dist/shim/twill-cni', bin)
mkdirSync(join(dir, 'ours'))
writeFileSync(
  join(dir, 'ours/subnet.env'),
  'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
)
// /run is a tmpfs on a node, and so is this.
const runDir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'twill-bench-run-'))
symlinkSync(runDir, join(dir, 'ours/run'))
const socket = join(dir, 'ours/run/cni.sock')
const launcher = join(dir, 'launch')
const ours = new Contestant({ name: 'ours', dir, launcher, bin, main: 'flannel', conf: stock, env: [`TWILL_CNI_SOCKET=${socket}`] })
const peerConf = {
  ...{
    cniVersion: '0.3.1',
    hairpinMode: true,
    ipMasq: false,
    isDefaultGateway: true,
    isGateway: true,
    mtu: 1450,
    name: 'cbr0',
    type: 'bridge',
  },
  ipam: { dataDir: join(dir, 'peer'), ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '10.244.0.0/16' }], type: 'host-local' },
}
const peer = new Contestant({ name: 'peer', dir, launcher, bin: REFERENCE, main: 'bridge', conf: peerConf, env: [] })
const agent = spawn('nsenter', [`--net=${ours.netns.path}`, process.execPath, 'tools/cni-agent.ts', join(dir, 'ours')], {
  stdio: ['pipe', 'pipe', 'inherit'],
})
const pods: Pod[] = []
try {
  await new Promise((resolve) => agent.stdout.once('data', resolve))
  const podsOf = (side: string): Pod[] =>
    Array.from({ length: WARM_UP + PODS }, (_, i) => {
      const pod = { id: `${side}${i}`.padStart(64, '0'), netns: tempNetns() }
      pods.push(pod)
      return pod
    })
  const [mine, theirs] = [podsOf('a'), podsOf('b')]
  const round = async (verb: 'addPod' | 'delPod'): Promise<void> => {
    for (const [i, pod] of mine.entries()) {
      const turn = [() => ours[verb](pod), () => peer[verb](theirs[i]!)]
      for (const go of i % 2 === 0 ? turn : turn.toReversed()) await go()
    }
  }
  await round('addPod')
  await round('delPod')
  const held = (store: string): string[] => readdirSync(store).filter((name) => name.startsWith('10.'))
  assert.deepEqual([held(join(dir, 'ours/networks/cbr0')), held(join(dir, 'peer/cbr0'))], [[], []], 'addresses left after DEL')
} finally {
  for (const { netns } of pods) netns.remove()
  agent.stdin.end()
  await new Promise((resolve) => agent.once('exit', resolve))
  ours.close()
  peer.close()
  rmSync(dir, { recursive: true })
  rmSync(runDir, { recursive: true, force: true })
}
const results = {
  at: new Date().toISOString(),
  pods: PODS,
  warmUp: WARM_UP,
  unit: 'ms',
  ours: { add: ours.add, del: ours.del },
  peer: { add: peer.add, del: peer.del },
}
mkdirSync('bench/results', { recursive: true })
writeFileSync(`bench/results/cni-${results.at.replace(/[:.]/g, '-')}.json`, JSON.stringify(results))
console.log(`cni: ${PODS} pods a side, errors: ours ${ours.errors}, peer ${peer.errors}`)
report('cni-add', ours.add.slice(WARM_UP), peer.add.slice(WARM_UP), ours.errors)
report('cni-del', ours.del.slice(WARM_UP), peer.del.slice(WARM_UP), ours.errors)
