/**
 * Carries out the steps of a walkthrough in a running lab, through the lab's stable interface only (`bin/twill lab exec`).
 *
 *     node tools/tutorial/run.ts record docs/tutorial.md [--all]     fills in the output of commands that have none yet
 * @module
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { mismatch, parseConsole, type Step } from './console.ts'

/** Types a command at a terminal, as a person at that prompt would; gives all it printed, without colours, and its exit status. */
export function typed(where: string, command: string): { readonly output: string; readonly status: number | null } {
  const terminal = ['script', '--quiet', '--return', '--command', command, '/dev/null'] as const
  const [program, ...args] = where === 'host' ? terminal : (['bin/twill', 'lab', 'exec', where, '--', ...terminal] as const)
  const env = { ...process.env, SHELL: '/bin/bash', NO_COLOR: '1', TERM: 'dumb' }
  const done = spawnSync(program, args, { encoding: 'utf8', timeout: 120_000, stdio: ['ignore', 'pipe', 'pipe'], env })
  const output = (done.stdout + done.stderr)
    .replaceAll('\r', '')
    .replaceAll(/\^[@D]\x08*/g, '')
    .replaceAll(/\x1b\[[0-9;]*[A-Za-z]/g, '')
  return { output, status: done.status }
}

const runStep = (step: Step): string => typed(step.where, step.command).output

/** Runs the step until its output fits, or once if it does not say `wait`; gives why it does not fit, or undefined. */
export async function checkStep(step: Step, deadlineMs = 60_000): Promise<string | undefined> {
  const until = performance.now() + (step.wait ? deadlineMs : 0)
  for (;;) {
    const why = mismatch(step.expected, runStep(step))
    if (why === undefined || performance.now() >= until) return why
    // The condition lives in the cluster: the only way to wait for it is to ask again.
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

async function record(path: string, all: boolean): Promise<void> {
  const lines = readFileSync(path, 'utf8').split('\n')
  let shift = 0
  for (const step of parseConsole(lines.join('\n'))) {
    if (step.wait) await new Promise((resolve) => setTimeout(resolve, 4000))
    const output = runStep(step).trimEnd()
    console.log(`${step.where}# ${step.command}\n${output}\n`)
    if (!all && step.expected.some((line) => line.trim() !== '')) continue
    const at = step.line + shift
    let end = at
    while (!/^```|^(host|root@[\w-]+:~)# /.test(lines[end]!)) end++
    const fresh = output === '' ? [] : output.split('\n').map((line) => line.trimEnd())
    lines.splice(at, end - at, ...fresh)
    shift += fresh.length - (end - at)
    writeFileSync(path, lines.join('\n'))
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { all: { type: 'boolean', default: false } } })
  const [verb, path] = positionals
  if (verb !== 'record' || path === undefined) {
    console.error('usage: node tools/tutorial/run.ts record docs/tutorial.md [--all]')
    process.exit(2)
  }
  await record(path, values.all)
}
