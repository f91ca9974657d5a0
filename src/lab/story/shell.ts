/** What the story types: a command on a node or on this machine, shown as a person would see it, repeated until it shows what it should. */
import { labError } from '#lab/errors.ts'
import { nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import { type Ran, tryRun } from '#lab/nodes/run.ts'
import { until } from '#lab/nodes/until.ts'
import type { LabState } from '#lab/state.ts'

export interface Command {
  /** A node's name. */
  readonly on: string
  /** As typed. Constant text of the story and names it read itself; run by the node's bash. */
  readonly line: string
  /** What the output must show before the story goes on; without it, exit status 0 is enough. */
  readonly expect?: RegExp | ((output: string) => boolean)
  /** Lines to print, chosen from the output; all by default. */
  readonly pick?: (lines: readonly string[]) => readonly string[]
  /** The output proves something by failing. */
  readonly mayFail?: boolean
  /** Run at a terminal of its own (script(1)), as `kubectl exec -it` wants one. */
  readonly tty?: boolean
  readonly deadlineMs?: number
}

const dim = (text: string): string => (process.stdout.isTTY && !process.env.NO_COLOR ? `\x1b[2m${text}\x1b[0m` : text)
const bold = (text: string): string => (process.stdout.isTTY && !process.env.NO_COLOR ? `\x1b[1m${text}\x1b[0m` : text)

export class Shell {
  readonly #state: LabState

  constructor(state: LabState) {
    this.#state = state
  }

  /** A heading and what the step proves. */
  step(number: number, title: string, proves: string): void {
    process.stdout.write(`\n${bold(`${number}. ${title}`)}\n${proves}\n\n`)
  }

  say(text: string): void {
    process.stdout.write(`${text}\n`)
  }

  /** Runs a command without showing it. */
  async quietly(on: string, line: string, tty = false): Promise<Ran> {
    const node = this.#state.nodes.find((n) => n.name === on)!
    const argv = tty ? ['script', '--quiet', '--return', '--command', line, '/dev/null'] : ['bash', '-c', line]
    const ran = await tryRun(onNode(this.#state.lab, node, argv), { env: nodeEnvironment(on), cwd: '/' })
    // A terminal ends lines with CR LF, and echoes the end of our empty input as ^@ or ^D.
    return tty ? { ...ran, stdout: ran.stdout.replaceAll(/\r|\^[@D]\x08*/g, '') } : ran
  }

  /** Runs and shows a command. @returns its output. @throws {TwillError} ERR_LAB_STORY if it never shows what it must. */
  async type(command: Command): Promise<string> {
    const { on, line, expect, pick = (lines) => lines, mayFail = false, tty = false, deadlineMs = 20_000 } = command
    let ran: Ran = { status: -1, stdout: '', stderr: '' }
    const fits = async (): Promise<boolean> => {
      ran = await this.quietly(on, line, tty)
      const output = ran.stdout + ran.stderr
      if (expect === undefined) return mayFail || ran.status === 0
      return typeof expect === 'function' ? expect(output) : expect.test(output)
    }
    const held = await until(fits, { everyMs: 100, deadlineMs: expect || !mayFail ? deadlineMs : 0 })
    const output = `${ran.stdout}${ran.stderr.replace(/^Defaulted container.*\n/m, '')}`.trimEnd()
    process.stdout.write(`${dim(`root@${on}:~#`)} ${line}\n`)
    for (const text of output === '' ? [] : pick(output.split('\n'))) process.stdout.write(`${text}\n`)
    if (!held)
      throw labError.ERR_LAB_STORY({
        node: on,
        line,
        expected: expect instanceof RegExp ? `something like ${expect}` : expect ? 'see the step' : `exit status 0, not ${ran.status}`,
      })
    return ran.stdout
  }
}
