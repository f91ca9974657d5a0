import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { simulate } from './simulate/world.ts'

// A taste of what `make simulate` runs by the hundred thousand.
test('every invariant holds through 500 generated histories', () => {
  const argv = ['--disable-warning=ExperimentalWarning', 'tools/simulate.ts', '--seeds', '500', '--workers', '2']
  assert.match(execFileSync(process.execPath, argv, { encoding: 'utf8' }), /^500 of 500 histories held/m)
})

test('one seed gives one history, line by line', async () => {
  const tell = async (): Promise<string[]> => {
    const lines: string[] = []
    await simulate(7, (line) => lines.push(line))
    return lines
  }
  const first = await tell()
  assert.ok(first.length > 20)
  assert.deepEqual(await tell(), first)
})
