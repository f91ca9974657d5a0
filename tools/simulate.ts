/**
 * Runs generated histories of a cluster, a kernel and an agent in simulated time (docs/simulation.md), each from its own seed.
 *
 *     node tools/simulate.ts [--seeds N] [--from N] [--workers N]     N histories from seed --from on; 100,000 by default
 *     node tools/simulate.ts --seed N [--trace]                       one history again, told step by step
 *
 * The last line says how many held; exit status 1 if one did not.
 * @module
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { simulate } from './simulate/world.ts'

const SLICE = 200
/** So many broken seeds are enough to work on. */
const MAX_BROKEN = 20

interface Report {
  readonly done: number
  readonly broken: readonly { readonly seed: number; readonly text: string }[]
  readonly faults: Readonly<Record<string, number>>
  readonly simulatedMs: number
}

async function slice(from: number, count: number): Promise<Report> {
  const broken: { seed: number; text: string }[] = []
  const faults: Record<string, number> = {}
  let simulatedMs = 0
  for (let seed = from; seed < from + count; seed++) {
    try {
      const outcome = await simulate(seed)
      for (const fault of outcome.faults) faults[fault] = (faults[fault] ?? 0) + 1
      simulatedMs += outcome.simulatedMs
    } catch (error) {
      broken.push({ seed, text: String((error as Error).message) })
    }
  }
  return { done: count, broken, faults, simulatedMs }
}

async function one(seed: number, trace: boolean): Promise<void> {
  try {
    const outcome = await simulate(seed, trace ? (line) => console.log(line) : undefined)
    console.log(`seed ${seed}: all invariants held through ${outcome.faults.join(', ') || 'no fault'}`)
  } catch (error) {
    console.log(`seed ${seed}: ${(error as Error).message}`)
    process.exitCode = 1
  }
}

async function many(from: number, seeds: number, workers: number): Promise<void> {
  const started = performance.now()
  let next = from
  let done = 0
  let simulatedMs = 0
  const faults = new Map<string, number>()
  const broken: Report['broken'][number][] = []
  let told = started
  const run = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: 'slices', resourceLimits: { maxYoungGenerationSizeMb: 64 } })
      const give = (): void => {
        const count = Math.min(SLICE, from + seeds - next)
        const order = count <= 0 || broken.length >= MAX_BROKEN ? undefined : { from: next, count }
        worker.postMessage(order)
        next += order?.count ?? 0
      }
      worker.on('message', (report: Report) => {
        done += report.done
        simulatedMs += report.simulatedMs
        broken.push(...report.broken)
        for (const [fault, times] of Object.entries(report.faults)) faults.set(fault, (faults.get(fault) ?? 0) + times)
        if (performance.now() - told > 10_000) {
          told = performance.now()
          console.log(`${done} of ${seeds} histories after ${Math.round((told - started) / 1000)} s, ${broken.length} broken`)
        }
        give()
      })
      worker.on('error', reject)
      worker.on('exit', () => resolve())
      give()
    })
  await Promise.all(Array.from({ length: workers }, run))
  for (const { seed, text } of broken.toSorted((a, b) => a.seed - b.seed)) {
    console.log(`seed ${seed}: ${text}\n    node tools/simulate.ts --seed ${seed} --trace`)
  }
  console.log(
    `faults: ${[...faults]
      .toSorted()
      .map(([fault, times]) => `${fault} ${times}`)
      .join(', ')}`,
  )
  const seconds = (performance.now() - started) / 1000
  const days = simulatedMs / 86_400_000
  console.log(
    `${done - broken.length} of ${done} histories held (${days.toFixed(1)} days of simulated time in ${seconds.toFixed(0)} s, ${((seconds * 1000 * workers) / done).toFixed(2)} ms each on ${workers} threads)`,
  )
  process.exitCode = broken.length === 0 && done === seeds ? 0 : 1
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100000' },
      from: { type: 'string', default: '0' },
      workers: { type: 'string', default: String(Math.min(8, availableParallelism())) },
      seed: { type: 'string' },
      trace: { type: 'boolean', default: false },
    },
  })
  if (values.seed !== undefined) await one(Number(values.seed), values.trace)
  else await many(Number(values.from), Number(values.seeds), Number(values.workers))
} else if (workerData === 'slices') {
  // Nobody reads the stacks of the errors that are meant to happen.
  Error.stackTraceLimit = 0
  parentPort!.on('message', async (order: { from: number; count: number } | undefined) => {
    if (order) parentPort!.postMessage(await slice(order.from, order.count))
    else parentPort!.close()
  })
}
