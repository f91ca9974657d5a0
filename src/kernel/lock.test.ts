import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { lockFile } from '#kernel/lock.ts'

test('the lock is the one that flock(1) takes, both ways', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'twill-lock-'))
  const path = join(dir, 'lock')
  try {
    const unlock = await lockFile(path, systemClock)
    assert.equal(spawnSync('flock', ['-n', '-E', '75', path, 'true']).status, 75)
    unlock()
    assert.equal(spawnSync('flock', ['-n', '-E', '75', path, 'true']).status, 0)

    const holder = spawn('flock', [path, 'sh', '-c', 'echo held; read line'], { stdio: ['pipe', 'pipe', 'inherit'] })
    await new Promise((resolve) => holder.stdout.once('data', resolve))
    let mine = false
    const waiting = lockFile(path, systemClock).then((unlock) => {
      mine = true
      unlock()
    })
    await systemClock.sleep(20)
    assert.equal(mine, false)
    holder.stdin.end('\n')
    await waiting
  } finally {
    rmSync(dir, { recursive: true })
  }
})
