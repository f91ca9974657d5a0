/**
 * start and rss-3: the agent in a three-node lab.
 *
 *     start   exec of the agent → data plane read back and found right, as the agent's own log line says it (ms since exec, by the
 *             kernel's start time of the process); every agent restarted some times, all samples together
 *     rss-3   resident memory of the agents once the sample application runs, the largest of the three; what of it is anonymous
 *
 * No peer: flanneld's own main package is not to be had as a module.
 * @module
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'

const ROUNDS = 5
const goals = { startMs: 300, rssMiB: 90 } as const

process.env.TWILL_LAB = `b${process.pid}`
const run = (...argv: [string, ...string[]]): string =>
  execFileSync(argv[0], argv.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const lab = (...argv: string[]): string => run('bin/twill', 'lab', ...argv)
const kubectl = (...argv: string[]): string => lab('exec', 'k8s-ctr', '--', 'kubectl', '-n', 'kube-flannel', ...argv)
const nodes = ['k8s-ctr', 'k8s-w1', 'k8s-w2']

interface Memory {
  readonly node: string
  readonly rssMiB: number
  readonly anonymousMiB: number
}

function memoryOf(node: string): Memory {
  const pid = lab('exec', node, '--', 'pgrep', '-f', 'dist/agent.mjs').trim().split('\n')[0]!
  const status = lab('exec', node, '--', 'cat', `/proc/${pid}/status`)
  const mib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
  return { node, rssMiB: mib('VmRSS'), anonymousMiB: mib('RssAnon') }
}

/** Milliseconds to the verified data plane, of each agent that runs now. */
function startsNow(): number[] {
  const pods = kubectl('get', 'pod', '-l', 'app=flannel', '-o', 'name').trim().split('\n')
  return pods.flatMap((pod) => {
    const line = kubectl('logs', pod, '-c', 'kube-flannel')
      .split('\n')
      .find((text) => text.includes('"dataplane verified"'))
    return line === undefined ? [] : [(JSON.parse(line) as { ms: number }).ms]
  })
}

const quantile = (samples: readonly number[], q: number): number => samples.toSorted((a, b) => a - b)[Math.floor(q * (samples.length - 1))]!

try {
  lab('up')
  const memory = nodes.map(memoryOf)
  const starts = startsNow()
  for (let round = 1; round < ROUNDS; round++) {
    kubectl('delete', 'pod', '-l', 'app=flannel')
    kubectl('rollout', 'status', 'ds/kube-flannel-ds', '--timeout=60s')
    starts.push(...startsNow())
  }
  mkdirSync('bench/results', { recursive: true })
  writeFileSync('bench/results/agent.json', `${JSON.stringify({ startsMs: starts, memory }, null, 2)}\n`)
  for (const { node, rssMiB, anonymousMiB } of memory)
    console.log(`${node}: RSS ${rssMiB.toFixed(1)} MiB, of which anonymous ${anonymousMiB.toFixed(1)} MiB`)
  const [p10, median, p90] = [0.1, 0.5, 0.9].map((q) => quantile(starts, q)) as [number, number, number]
  console.log(
    `start: ${starts.length} starts, p10 ${p10} ms, median ${median} ms, p90 ${p90} ms (three agents start at once on this machine)`,
  )
  console.log(`bench: start ours=${median}ms peer=none ratio=- goal=${goals.startMs} ${median <= goals.startMs ? 'ok' : 'short'}`)
  const rss = Math.max(...memory.map((m) => m.rssMiB))
  console.log(`bench: rss-3 ours=${rss.toFixed(1)}MiB peer=none ratio=- goal=${goals.rssMiB} ${rss <= goals.rssMiB ? 'ok' : 'short'}`)
} finally {
  lab('down')
}
