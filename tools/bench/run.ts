/**
 * Runs the benchmarks, each in a process of its own, and sees to it that every promised figure ends in one line:
 *     bench: <name> ours=<value><unit> peer=<value><unit> ratio=<r> goal=<g> ok|short
 * A figure without a line counts as short.
 *
 *     node tools/bench/run.ts [NAME]      NAME: a program (cni) or one of its figures (cni-add)
 * @module
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** Program (tools/bench/<program>.ts) and the figures it must print. */
const programs: Readonly<Record<string, readonly string[]>> = {
  cni: ['cni-add', 'cni-del'],
  'cni-burst': ['cni-add-burst', 'cni-del-burst'],
  shim: ['shim-exec', 'shim-request'],
  agent: ['start', 'rss-3'],
  lab: ['lab-first-line', 'lab-warm'],
  repair: ['repair-p99'],
  leaks: ['leaks-left', 'leaks-twice'],
  restart: ['restart-lost', 'restart-resets', 'restart-messages'],
  scale: [
    'start-vxlan-5000',
    'rss-5000',
    'start-hostgw-5000',
    'rss-hostgw-5000',
    'heartbeats',
    'heartbeat-messages',
    'join-5000',
    'join-latency',
  ],
}

async function runProgram(program: string, figures: readonly string[]): Promise<boolean> {
  const missing = new Set(figures)
  let short = false
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', `tools/bench/${program}.ts`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line)
    const [, name, verdict] = /^bench: (\S+) .* (ok|short)$/.exec(line) ?? []
    if (name === undefined) continue
    missing.delete(name)
    short ||= verdict === 'short'
  }
  for (const name of missing) console.log(`bench: ${name} ours=missing peer=none ratio=- goal=- short`)
  return !short && missing.size === 0
}

const wanted = process.argv[2] ?? ''
const chosen = Object.entries(programs).filter(([program, figures]) => wanted === '' || program === wanted || figures.includes(wanted))
if (chosen.length === 0) {
  const names = Object.entries(programs).map(([program, figures]) => `${program} (${figures.join(', ')})`)
  console.error(`There is no benchmark '${wanted}'. There are: ${names.join('; ')}.`)
  process.exit(2)
}
let ok = true
for (const [program, figures] of chosen) ok = (await runProgram(program, figures)) && ok
process.exitCode = ok ? 0 : 1
