/**
 * The agent killed, ended, stopped, upgraded and downgraded on two nodes in turn, under a 1 kHz ping and 200 open TCP flows between
 * their pods: none may be lost, and a new agent finds nothing to change.
 *
 *     node tools/bench/restart.ts [TIMES] [STOP_SECONDS]
 *
 * @module
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Build, World } from './pair/world.ts'

const FULL = 200
const TIMES = Number(process.argv[2] ?? FULL)
const STOP_MS = Number(process.argv[3] ?? 60) * 1000
/** SIGSTOPs, of all times: they take a minute each. */
const STOPS = 2
/** Each on both nodes in turn. */
const WAYS = ['SIGKILL', 'SIGTERM', 'other version'] as const

interface Sample {
  readonly how: string
  readonly node: string
  /** From the signal to serving again. */
  readonly ms: number
  /** Mutating messages of the new agent. */
  readonly mutations: number
}

const world = await World.open()
const samples: Sample[] = []
try {
  await world.startTraffic()
  const builds: [Build, Build] = [world.builds[0], world.builds[0]]
  for (let i = 0; i < TIMES; i++) {
    const at = i % 2
    const node = world.nodes[at]!
    const start = performance.now()
    const way = i < STOPS ? 'SIGSTOP' : WAYS[(i >> 1) % WAYS.length]!
    const how = way !== 'other version' ? way : builds[at] === world.builds[0] ? 'upgrade' : 'downgrade'
    if (how === 'SIGSTOP') {
      const { kernel } = await node.status()
      node.signal('SIGSTOP')
      await sleep(STOP_MS)
      node.signal('SIGCONT')
      const after = await node.status()
      samples.push({ how, node: node.name, ms: performance.now() - start, mutations: after.kernel.mutations - kernel.mutations })
      continue
    }
    await node.stop(how === 'SIGKILL' ? 'SIGKILL' : 'SIGTERM')
    if (way === 'other version') builds[at] = builds[at] === world.builds[0] ? world.builds[1] : world.builds[0]
    const status = await node.start(builds[at]!)
    if (status.agent.version !== builds[at]!.version) throw new Error(`${node.name} runs ${status.agent.version}`)
    samples.push({ how, node: node.name, ms: performance.now() - start, mutations: status.kernel.mutations })
  }
  await sleep(1500)
  const traffic = await world.traffic()
  const changed = samples.reduce((sum, { mutations }) => sum + mutations, 0)
  if (TIMES >= FULL) {
    mkdirSync('bench/results', { recursive: true })
    writeFileSync('bench/results/restart.json', `${JSON.stringify({ samples, traffic }, null, 2)}\n`)
  }
  for (const [how, of] of Map.groupBy(samples, (sample) => sample.how)) {
    const ms = of!.map((sample) => sample.ms).toSorted((a, b) => a - b)
    console.log(`${how}: ${ms.length} times, median ${ms[ms.length >> 1]!.toFixed(0)} ms, longest ${ms.at(-1)!.toFixed(0)} ms`)
  }
  console.log(
    `${samples.length} in all: ${traffic.sent} pings, ${traffic.flows} flows still open, ${traffic.echoed} messages echoed; the generator was late by ${traffic.late} ms at most`,
  )
  const line = (name: string, value: number): void =>
    console.log(`bench: restart-${name} ours=${value} peer=none ratio=- goal=0 ${value === 0 ? 'ok' : 'short'}`)
  line('lost', traffic.lost)
  line('resets', traffic.broken)
  line('messages', changed)
} finally {
  await world.close()
}
