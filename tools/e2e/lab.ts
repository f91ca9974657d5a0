/** A lab of a test's own, driven by bin/twill as a script would. @module */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after } from 'node:test'

export interface Ran {
  readonly status: number | null
  readonly output: string
}

export interface TestLab {
  /** bin/twill lab ARGS */
  lab(...args: string[]): Ran
  /** One line of bash on a node. */
  on(node: string, line: string): Ran
}

/** A lab called `name`, taken down when the tests are done. Nothing is built before `lab('up')`. */
export function testLab(name: string): TestLab {
  const env = { ...process.env, NO_COLOR: '1', TWILL_LAB: name }
  const lab = (...args: string[]): Ran => {
    const done = spawnSync('bin/twill', ['lab', ...args], { encoding: 'utf8', timeout: 180_000, env })
    return { status: done.status, output: done.stdout + done.stderr }
  }
  after(() => {
    lab('down')
  })
  return { lab, on: (node, line) => lab('exec', node, '--', 'bash', '-c', line) }
}

/** The condition is in another process: asking again is the only way to see it. */
export async function eventually(what: string, holds: () => boolean, deadlineMs = 60_000): Promise<void> {
  const end = performance.now() + deadlineMs
  while (!holds()) {
    assert.ok(performance.now() < end, `not within ${deadlineMs / 1000} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}
