/**
 * The agent among 5,000 nodes, beside real flannel code (tools/peers/flannel) over the same stand-in API, turn about in one run, each
 * start in a network namespace of its own on the real kernel.
 *
 *     start-vxlan-5000, start-hostgw-5000   exec → the kernel has announced a route to every node (and holds every neighbor and FDB entry)
 *     rss-5000, rss-hostgw-5000             resident memory 5 s later; with the anonymous part of it and the highest ever
 *     heartbeats                            CPU under 17 Node updates a second for 20 s, and mutating messages (0)
 *     join-5000                             messages to the kernel for one node that joins; the same at 100 and 10,000 nodes
 *     join-latency                          the API server's event → the node's route is there
 *
 * @module
 */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { backends } from '#plan/backends/all.ts'
import type { BackendType } from './scale/api.ts'
import { buildPeer } from './scale/peer.ts'
import type { Report, World } from './scale/world.ts'

const ROUNDS = { vxlan: 5, 'host-gw': 1 } as const
const NODES = 5000
const goals = { 'start-vxlan-5000': 2, 'start-hostgw-5000': 20, rss: 1, heartbeatCpu: 1, joinMessages: 3, 'join-latency': 1 } as const

const dir = mkdtempSync(join(tmpdir(), 'twill-scale-'))
const peer = buildPeer()
if ('missing' in peer) console.log(`no peer: ${peer.missing}`)

type Side = 'ours' | 'peer'
const argvOf: Readonly<Record<Side, (path: string) => string[]>> = {
  ours: () => [
    ...['bin/twill', 'agent', '--kube-subnet-mgr', '--ip-masq', '--cni=false', '--run-dir={dir}'],
    ...['--kube-api-url={api}', '--net-config-path={net-conf}', '--iface=eth1', '--subnet-file={dir}/subnet.env'],
  ],
  peer: (path) => [path, '-kube-api-url={api}', '-net-config-path={net-conf}', '-iface=eth1', '-subnet-file={dir}/subnet.env'],
}

const samples: { readonly side: Side; readonly backend: BackendType; readonly nodes: number; readonly report: Report }[] = []

async function measure(side: Side, backend: BackendType, nodes: number, life: boolean): Promise<Report | undefined> {
  if (side === 'peer' && 'missing' in peer) return undefined
  const world: World = {
    argv: argvOf[side]('path' in peer ? peer.path : ''),
    backend,
    nodes,
    dir: mkdtempSync(join(dir, `${side}-`)),
    life,
    ...(side === 'ours' && { status: true }),
  }
  const { stdout } = await promisify(execFile)(process.execPath, ['tools/bench/scale/world.ts', JSON.stringify(world)])
  const report = JSON.parse(stdout) as Report
  samples.push({ side, backend, nodes, report })
  const text = (value: number): string => value.toFixed(0)
  console.log(
    `${side} ${backend} ${nodes} nodes: start ${text(report.startMs)} ms (first route ${text(report.firstMs)}), CPU ${text(report.startCpuMs)} ms, ` +
      `RSS ${report.rssMB.toFixed(1)} MB (${report.anonymousMB.toFixed(1)} anonymous, peak ${report.peakMB.toFixed(1)})`,
  )
  const { life: lived } = report
  if (lived) {
    console.log(
      `    heartbeats: ${lived.heartbeatCpu.toFixed(2)} % of a core, ${lived.heartbeatMessages} messages; ` +
        `join: ${median(lived.joinMs).toFixed(1)} ms, CPU ${lived.joinCpuMs.toFixed(2)} ms, ${lived.joinMessages ?? lived.joinNotifications} messages; ` +
        `leave: ${median(lived.leaveMs).toFixed(1)} ms, CPU ${lived.leaveCpuMs.toFixed(2)} ms; RSS then ${lived.rssMB.toFixed(1)} MB`,
    )
  }
  return report
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[(values.length - 1) >> 1]!

/** One verdict: `better` says which way. A figure with a peer is judged by ratio, one without by value. */
function line(name: string, unit: string, goal: number, ours: number, theirs: number | undefined, digits = 0): void {
  const ratio = theirs === undefined ? undefined : theirs / ours
  const shown = (value: number): string => `${value.toFixed(digits)}${unit}`
  const ok = ratio !== undefined && ratio >= goal
  console.log(
    `bench: ${name} ours=${shown(ours)} peer=${theirs === undefined ? 'none' : shown(theirs)} ratio=${ratio?.toFixed(2) ?? '-'} goal=${goal} ${ok ? 'ok' : 'short'}`,
  )
}

function bare(name: string, unit: string, goal: number, ours: number, digits = 0): void {
  console.log(`bench: ${name} ours=${ours.toFixed(digits)}${unit} peer=none ratio=- goal=${goal} ${ours <= goal ? 'ok' : 'short'}`)
}

const medianOf = (side: Side, backend: BackendType, of: (report: Report) => number): number | undefined => {
  const values = samples.filter((s) => s.side === side && s.backend === backend && s.nodes === NODES).map(({ report }) => of(report))
  return values.length === 0 ? undefined : median(values)
}

try {
  const present = (['vxlan', 'host-gw'] as const).filter((type) => backends.has(type))
  const lives = new Map<string, NonNullable<Report['life']>>()
  for (const backend of present) {
    for (let round = 0; round < ROUNDS[backend]; round++) {
      for (const side of ['ours', 'peer'] as const) {
        const report = await measure(side, backend, NODES, round === 0)
        if (report?.life) lives.set(`${side} ${backend}`, report.life)
      }
    }
  }
  const few = await measure('ours', 'vxlan', 100, true)
  const many = await measure('ours', 'vxlan', 10_000, true)
  await measure('peer', 'vxlan', 10_000, false)

  mkdirSync('bench/results', { recursive: true })
  writeFileSync('bench/results/scale.json', `${JSON.stringify(samples, null, 2)}\n`)

  for (const backend of present) {
    const name = backend === 'vxlan' ? 'start-vxlan-5000' : 'start-hostgw-5000'
    const of = (side: Side, what: (report: Report) => number): number | undefined => medianOf(side, backend, what)
    line(
      name,
      'ms',
      goals[name],
      of('ours', (r) => r.startMs)!,
      of('peer', (r) => r.startMs),
    )
    line(
      backend === 'vxlan' ? 'rss-5000' : 'rss-hostgw-5000',
      'MB',
      goals.rss,
      of('ours', (r) => r.rssMB)!,
      of('peer', (r) => r.rssMB),
      1,
    )
  }
  const ours = lives.get('ours vxlan')!
  const theirs = lives.get('peer vxlan')
  bare('heartbeats', '%', goals.heartbeatCpu, ours.heartbeatCpu, 2)
  bare('heartbeat-messages', '', 0, ours.heartbeatMessages)
  bare('join-5000', 'messages', goals.joinMessages, Math.max(ours.joinMessages!, few!.life!.joinMessages!, many!.life!.joinMessages!), 1)
  line('join-latency', 'ms', goals['join-latency'], median(ours.joinMs), theirs && median(theirs.joinMs), 1)
} finally {
  rmSync(dir, { recursive: true, force: true })
}
