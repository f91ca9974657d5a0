/** The lab's C programs, lab/*.c: built static into dist/ when one is not there or older than its source. */
import { mkdirSync, renameSync, statSync } from 'node:fs'
import { labError } from '#lab/errors.ts'
import { run, tryRun } from '#lab/nodes/run.ts'
import { repo } from '#lab/repo.ts'

const compilers = ['musl-gcc', 'gcc', 'cc']

/** Builds the nodes' pid 1 and what their kubelets start pods with. Returns the path of the first. @throws {TwillError} ERR_LAB_NO_COMPILER */
export async function ensurePause(): Promise<string> {
  const [pause] = await Promise.all([ensureProgram('pause'), ensureProgram('podrun')])
  return pause
}

/** Path of one built program. @throws {TwillError} ERR_LAB_NO_COMPILER */
export async function ensureProgram(name: 'pause' | 'podrun'): Promise<string> {
  const source = `${repo}/lab/${name}.c`
  const built = `${repo}/dist/${name}`
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
  throw labError.ERR_LAB_NO_COMPILER({ program: name, tried: compilers })
}

async function exists(program: string): Promise<boolean> {
  return (await tryRun([program, '--version']).catch(() => ({ status: -1 }))).status === 0
}
