/** The nodes' pid 1: lab/pause.c, built static into dist/ when it is not there or older than its source. */
import { mkdirSync, renameSync, statSync } from 'node:fs'
import { labError } from '#lab/errors.ts'
import { run, tryRun } from '#lab/nodes/run.ts'
import { repo } from '#lab/repo.ts'

const compilers = ['musl-gcc', 'gcc', 'cc']

/** Path of the built program. @throws {TwillError} ERR_LAB_NO_COMPILER */
export async function ensurePause(): Promise<string> {
  const source = `${repo}/lab/pause.c`
  const built = `${repo}/dist/pause`
  const builtAt = statSync(built, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (builtAt > statSync(source).mtimeMs) return built
  mkdirSync(`${repo}/dist`, { recursive: true })
  for (const compiler of compilers) {
    if (!(await exists(compiler))) continue
    // Under another name first: two labs may build at once, and one may run it already.
    const fresh = `${built}.${process.pid}`
    await run([compiler, '-static', '-Os', '-s', '-Wall', '-Werror', '-o', fresh, source])
    renameSync(fresh, built)
    return built
  }
  throw labError.ERR_LAB_NO_COMPILER({ tried: compilers })
}

async function exists(program: string): Promise<boolean> {
  return (await tryRun([program, '--version']).catch(() => ({ status: -1 }))).status === 0
}
