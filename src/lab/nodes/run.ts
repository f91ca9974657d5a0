/** Child processes of the lab: argv only, never a shell line. */
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { labError } from '#lab/errors.ts'

export interface RunOptions {
  /** What the program reads on stdin. */
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

export interface Ran {
  /** Exit status; 128 + the signal's number if one ended it, as a shell has it. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. Never rejects for its exit status; `run` does. */
export function tryRun(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { promise, resolve, reject } = Promise.withResolvers<Ran>()
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env: options.env ?? process.env, cwd: options.cwd })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.once('error', (error) => reject(labError.ERR_LAB_COMMAND({ argv, status: -1, stderr: '' }, error)))
  child.once('close', (code, signal) => resolve({ status: exitStatus(code, signal), stdout, stderr }))
  // A program that ends without reading its input is judged by its status, not by our broken pipe.
  child.stdin.on('error', () => {}).end(options.input ?? '')
  return promise
}

/** Runs a program and returns what it printed.
 * @throws {TwillError} ERR_LAB_COMMAND with its stderr if it is missing or does not exit with 0. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await tryRun(argv, options)
  if (ran.status !== 0) throw labError.ERR_LAB_COMMAND({ argv, status: ran.status, stderr: ran.stderr.trim() })
  return ran.stdout
}

/** A child's end as one number. */
export function exitStatus(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal])
}
