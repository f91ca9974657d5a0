/** The benchmark of restarts in short: every way once or more, nothing lost, nothing changed. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'

test('agents that are killed, ended, stopped, upgraded and downgraded: no ping lost, no flow reset, no message to the kernel', () => {
  const argv = ['--disable-warning=ExperimentalWarning', 'tools/bench/restart.ts', '12', '1']
  const out = execFileSync(process.execPath, argv, { encoding: 'utf8', timeout: 90_000 })
  for (const how of ['SIGSTOP', 'SIGKILL', 'SIGTERM', 'upgrade', 'downgrade']) assert.match(out, new RegExp(`^${how}: \\d+ times`, 'm'))
  for (const what of ['lost', 'resets', 'messages']) assert.match(out, new RegExp(`^bench: restart-${what} ours=0 `, 'm'), out)
  assert.match(out, /200 flows still open/)
})
