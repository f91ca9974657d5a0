/**
 * Each kind of object that the agent keeps, broken by the tools that a person has and put right by a running agent: how long it takes
 * (from before the command is started to the object read right again), and what of a 1 kHz ping between two pods is lost meanwhile.
 *
 *     node tools/bench/repair.ts [ROUNDS]
 *
 * @module
 */
import { mkdirSync, openSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { breakagesOf } from '#daemon/breakages.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { type Kernel, type Scope, show } from '#model/kernel.ts'
import { Desired } from '#plan/desired.ts'
import { scopeOf } from '#plan/sweep.ts'
import { twillTable } from '#plan/table.ts'
import { run, World } from './pair/world.ts'

const ROUNDS = Number(process.argv[2] ?? 25)
const GOAL_MS = 500
const DEADLINE_MS = 10_000
/** Between breakages: who breaks one object ten times in ten seconds is waited out. */
const REST_MS = 220
const always = (): boolean => true

/** Another's eyes on the node: says when all is as it was. */
class Observer {
  readonly #desired = new Desired()
  readonly #kernel: Kernel
  readonly #scope: Scope
  #unsure = false

  constructor(kernel: Kernel, scope: Scope) {
    this.#kernel = kernel
    this.#scope = scope
  }

  /** What there is now is what is right. */
  async follow(signal: AbortSignal): Promise<ReturnType<typeof breakagesOf>> {
    void this.#watch(signal)
    const items = await this.#kernel.dump(this.#scope)
    this.#desired.setOwner('as it was', items)
    this.#desired.reset(items)
    return breakagesOf(items)
  }

  async #watch(signal: AbortSignal): Promise<void> {
    for await (const change of this.#kernel.watch(this.#scope, signal)) {
      if (change.verb === 'overrun') this.#unsure = true
      else this.#desired.observe(change)
    }
  }

  /** @throws after the deadline, with what is missing. */
  async untilRight(what: string, startMs: number): Promise<void> {
    for (let turn = 1; ; turn++) {
      await sleep(4)
      // Notifications do not tell all: now and then, and at the end, the truth is read.
      if (this.#unsure || turn % 20 === 0 || this.#wrong().length === 0) {
        this.#unsure = false
        this.#desired.reset(await this.#kernel.dump(this.#scope))
        if (this.#wrong().length === 0 && !this.#unsure) return
      }
      if (performance.now() - startMs > DEADLINE_MS) throw new Error(`${what}: not within ${DEADLINE_MS} ms: ${this.#wrong().join('; ')}`)
    }
  }

  #wrong(): string[] {
    return this.#desired.pending(always).map(({ item }) => show(item))
  }
}

/** Waits until no more pings are lost: a carrier that comes back is noticed up to a second later. @returns all that were lost. */
async function untilQuiet(): Promise<number> {
  for (let { lost } = await world.traffic(); ; ) {
    await sleep(REST_MS)
    const now = await world.traffic()
    if (now.lost === lost) return lost
    lost = now.lost
  }
}

interface Sample {
  readonly kind: string
  readonly ms: number
  readonly lost: number
}

const quantile = (values: readonly number[], q: number): number => values.toSorted((a, b) => a - b)[Math.ceil(q * values.length) - 1]!
const samples: Sample[] = []
const stop = new AbortController()
const world = await World.open()
try {
  await world.startTraffic()
  const [node] = world.nodes
  // From here on this program is in the first node's namespace: what it breaks and reads is there.
  sys.setns(openSync(node.netns.path, 'r'), CLONE_NEWNET)
  const kernel = await openLinux()
  const files = [`${node.dir}/subnet.env`, `${node.dir}/10-flannel.conflist`]
  const sysctls = ['net/ipv4/ip_forward', 'net/ipv6/conf/flannel.1/accept_ra']
  const scope = scopeOf({ device: 'flannel.1', host: await kernel.host(), files, sysctls, tables: [twillTable] })
  const observer = new Observer(kernel, scope)
  const breakages = await observer.follow(stop.signal)
  console.log(`${breakages.length} kinds of breakage, each ${ROUNDS} times`)
  let { lost } = await world.traffic()
  for (let round = 0; round < ROUNDS; round++) {
    for (const { kind, argv } of breakages) {
      const start = performance.now()
      run(...argv)
      await observer.untilRight(kind, start)
      const ms = performance.now() - start
      const before = lost
      lost = await untilQuiet()
      samples.push({ kind, ms, lost: lost - before })
    }
  }
  const { repairs } = await node.status()
  const traffic = await world.traffic()
  mkdirSync('bench/results', { recursive: true })
  writeFileSync('bench/results/repair.json', `${JSON.stringify({ samples, traffic, repairs }, null, 2)}\n`)
  for (const [kind, of] of Map.groupBy(samples, (sample) => sample.kind)) {
    const ms = of!.map((sample) => sample.ms)
    const p99 = quantile(ms, 0.99)
    const pings = of!.reduce((sum, sample) => sum + sample.lost, 0)
    console.log(
      `${kind}: p50 ${quantile(ms, 0.5).toFixed(0)} ms, ${pings} pings lost in ${of!.length} (${(pings / of!.length).toFixed(1)} each)`,
    )
    console.log(`bench: repair-${kind} ours=${p99.toFixed(0)}ms peer=none ratio=- goal=${GOAL_MS} ${p99 <= GOAL_MS ? 'ok' : 'short'}`)
  }
  const all = samples.map(({ ms }) => ms)
  const p99 = quantile(all, 0.99)
  console.log(
    `${all.length} repairs: p50 ${quantile(all, 0.5).toFixed(0)} ms, longest ${Math.max(...all).toFixed(0)} ms; ` +
      `${traffic.lost} of ${traffic.sent} pings lost, ${traffic.broken} of ${traffic.flows + traffic.broken} TCP flows broken`,
  )
  console.log(`bench: repair-p99 ours=${p99.toFixed(0)}ms peer=none ratio=- goal=${GOAL_MS} ${p99 <= GOAL_MS ? 'ok' : 'short'}`)
  await kernel.close()
} finally {
  stop.abort()
  await world.close()
}
