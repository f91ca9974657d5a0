import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { needs } from '#lab/needs.ts'
import { files, machines, packages, unit } from './machines.ts'

test('a machine has what a lab needs', () => {
  const brought = new Set<string>([...packages, 'mount']) // mount is essential: every Debian has it
  assert.deepEqual(
    needs.filter(([, debianPackage]) => !brought.has(debianPackage)),
    [],
  )
})

test('its unit runs a script of this clone, which a shell can read', () => {
  const script = /^ExecStart=\/bin\/sh \/twill\/(\S+)$/m.exec(files[`etc/systemd/system/${unit}`]!)![1]!
  const path = join(import.meta.dirname, '../..', script)
  assert.ok(existsSync(path), path)
  assert.equal(spawnSync('sh', ['-n', path]).status, 0)
})

test('the floor is among the machines', () => assert.ok('5.15' in machines))
