/** The real build of kubectl from the pinned module, cold: minutes of two cores, and some hundred MB from the Go module proxy where they are not there. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { after, test } from 'node:test'
import { findKubectl, onPath } from '#lab/kubectl.ts'
import { run } from '#lab/nodes/run.ts'

const cache = mkdtempSync(`${tmpdir()}/twill-kubectl-`)
after(() => rmSync(cache, { recursive: true }))

const go = onPath('go', process.env)
test('Go builds the pinned kubectl, and it knows its version', { skip: go === undefined && 'no Go on this machine' }, async () => {
  const began = performance.now()
  const found = await findKubectl(console.log, { ...process.env, XDG_CACHE_HOME: cache, TWILL_KUBECTL: 'build' })
  console.log(`built in ${Math.round((performance.now() - began) / 1000)} s`)
  const { clientVersion } = JSON.parse(await run([found.path!, 'version', '--client', '-o', 'json'])) as {
    clientVersion: { gitVersion: string; minor: string }
  }
  assert.deepEqual([clientVersion.gitVersion, clientVersion.minor], ['v1.33.2', '33'])
})
