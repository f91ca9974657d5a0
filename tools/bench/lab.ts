/**
 * lab-first-line, lab-warm: `make lab` as a newcomer types it, on a machine that has run it before; the median of three.
 * lab-cold, with --cold only: the same in a fresh clone with an empty npm cache. Debian packages and kubectl are the machine's: what they
 * cost on a bare one is apt's and Go's to say. No peer.
 *
 *     node tools/bench/lab.ts [--cold]
 * @module
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

const rounds = 3
const goals = { firstLineSeconds: 1, warmSeconds: 20, coldSeconds: 90 } as const
const { values } = parseArgs({ options: { cold: { type: 'boolean', default: false } } })
const env = { ...process.env, TWILL_LAB: `b${process.pid}`, NO_COLOR: '1' }

interface Told {
  readonly firstLineSeconds: number
  readonly wholeSeconds: number
}

/** Runs `make lab` in a clone. @throws {Error} with its last words if the story does not come to its end. */
function makeLab(cwd: string, more: Readonly<Record<string, string>> = {}): Promise<Told> {
  const began = performance.now()
  const seconds = (): number => (performance.now() - began) / 1000
  const child = spawn('make', ['lab'], { cwd, env: { ...env, ...more }, stdio: ['ignore', 'pipe', 'pipe'] })
  let firstLineSeconds: number | undefined
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => {
      said += bytes.toString()
      if (said.includes('\n')) firstLineSeconds ??= seconds()
    })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status) => {
      if (status === 0) resolve({ firstLineSeconds: firstLineSeconds!, wholeSeconds: seconds() })
      else reject(new Error(`make lab ended with ${status}: ${said.slice(-2000)}`))
    })
  })
}

const median = (samples: readonly number[]): number => samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)]!
const line = (name: string, ours: number, goal: number): void =>
  console.log(`bench: ${name} ours=${ours.toFixed(2)}s peer=none ratio=- goal=${goal} ${ours <= goal ? 'ok' : 'short'}`)
const down = (): string => execFileSync('bin/twill', ['lab', 'down'], { env, encoding: 'utf8' })

async function cold(): Promise<Told> {
  // Not below /tmp: a node has a /tmp of its own, and must see the clone.
  const dir = mkdtempSync('/var/tmp/twill-cold-')
  try {
    execFileSync('git', ['clone', '--quiet', process.cwd(), `${dir}/twill`])
    return await makeLab(`${dir}/twill`, { npm_config_cache: `${dir}/npm` })
  } finally {
    down()
    rmSync(dir, { recursive: true })
  }
}

try {
  await makeLab(process.cwd()) // what was not built is built now
  const warm: Told[] = []
  for (let round = 0; round < rounds; round++) {
    down()
    warm.push(await makeLab(process.cwd()))
  }
  down()
  const once = values.cold ? await cold() : undefined
  mkdirSync('bench/results', { recursive: true })
  writeFileSync('bench/results/lab.json', `${JSON.stringify({ warm, cold: once }, null, 2)}\n`)
  line('lab-first-line', median(warm.map((told) => told.firstLineSeconds)), goals.firstLineSeconds)
  line('lab-warm', median(warm.map((told) => told.wholeSeconds)), goals.warmSeconds)
  if (once) line('lab-cold', once.wholeSeconds, goals.coldSeconds)
} finally {
  down()
}
