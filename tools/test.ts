/**
 * Runs every test and ends in two lines that scripts read:
 *     skipped: <name> (<why>); …        or  skipped: none
 *     N passed, N failed
 *
 *     node tools/test.ts [--kind unit|kernel|lab|slow] [PATTERN…]      PATTERN: part of a file's path
 *
 * Kinds, by file name: `x.test.ts` needs no rights; `x.ktest.ts` meets the real kernel as root in namespaces of its own;
 * `x.ltest.ts` uses a whole lab; `x.stest.ts` takes minutes and runs only when asked for (--kind slow). Kinds run one after another (a lab wants the machine for itself), files within one in parallel.
 * @module
 */
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import type { EventData } from 'node:test'
import { run } from 'node:test'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { kind: { type: 'string' }, verbose: { type: 'boolean', short: 'v' } },
})

const kinds = [
  { name: 'unit', ending: 'test.ts', root: false, concurrency: 2, timeoutMs: 120_000 },
  { name: 'kernel', ending: 'ktest.ts', root: true, concurrency: 2, timeoutMs: 180_000 },
  { name: 'lab', ending: 'ltest.ts', root: true, concurrency: 1, timeoutMs: 900_000 },
  { name: 'slow', ending: 'stest.ts', root: false, concurrency: 1, timeoutMs: 1_800_000 },
] as const

let passed = 0
let failed = 0
const skipped: string[] = []
const failures: string[] = []

/** A check that is a program of its own: its exit status is the verdict. */
function check(name: string, argv: readonly [string, ...string[]]): void {
  const [command, ...args] = argv
  const done = spawnSync(command, args, { encoding: 'utf8' })
  if (done.status === 0) passed++
  else {
    failed++
    failures.push(name)
    console.log(`✖ ${name}\n${done.stdout}${done.stderr}`)
  }
}

function runFiles(files: readonly string[], concurrency: number, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const stream = run({ files: files.slice(), concurrency, timeout: timeoutMs, execArgv: ['--disable-warning=ExperimentalWarning'] })
    const where = (data: { file?: string; name: string }): string => `${(data.file ?? '').replace(`${process.cwd()}/`, '')}: ${data.name}`
    stream.on('test:pass', (data: EventData.TestPass) => {
      if (data.details.type === 'suite') return
      if (data.skip !== undefined) skipped.push(`${where(data)} (${data.skip === true ? 'no reason given' : data.skip})`)
      else {
        passed++
        if (values.verbose) console.log(`✔ ${where(data)}`)
      }
    })
    stream.on('test:fail', (data: EventData.TestFail) => {
      // The file's own entry fails along with its tests, unless the file itself died: count each failure once.
      const error = data.details.error as Error & { cause?: unknown; failureType?: string }
      if (error.failureType === 'subtestsFailed') return
      failed++
      failures.push(where(data))
      const cause = error.cause instanceof Error ? error.cause : error
      console.log(`✖ ${where(data)}\n${cause.stack ?? cause.message}\n`)
    })
    stream.on('test:stderr', (data: EventData.TestStderr) => values.verbose && process.stderr.write(data.message))
    stream.on('test:stdout', (data: EventData.TestStdout) => values.verbose && process.stdout.write(data.message))
    stream.on('end', resolve)
    stream.resume()
  })
}

const started = performance.now()
if (values.kind === undefined && positionals.length === 0) {
  check('types (tsc)', ['node_modules/.bin/tsc', '--noEmit'])
  check('format and lint (biome)', ['node_modules/.bin/biome', 'check', '--error-on-warnings', '.'])
}
for (const kind of kinds) {
  if (values.kind !== undefined && values.kind !== kind.name) continue
  const all = globSync([`src/**/*.${kind.ending}`, `tools/**/*.${kind.ending}`, `shim/**/*.${kind.ending}`]).toSorted()
  const files = positionals.length === 0 ? all : all.filter((file) => positionals.some((part) => file.includes(part)))
  if (files.length === 0) continue
  if (kind.name === 'slow' && values.kind !== 'slow') {
    skipped.push(...files.map((file) => `${file} (takes minutes: make test KIND=slow)`))
    continue
  }
  if (kind.root && process.getuid?.() !== 0) {
    skipped.push(...files.map((file) => `${file} (needs root)`))
    continue
  }
  console.log(`${kind.name}: ${files.length} files, ${Math.round((performance.now() - started) / 1000)} s after the start`)
  await runFiles(files, kind.concurrency, kind.timeoutMs)
}
if (failures.length > 0) console.log(`failed: ${failures.join('; ')}`)
console.log(`took ${Math.round((performance.now() - started) / 1000)} s`)
console.log(`skipped: ${skipped.length === 0 ? 'none' : skipped.join('; ')}`)
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
