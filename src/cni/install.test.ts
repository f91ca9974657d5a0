import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { installShim, uninstallShim } from '#cni/install.ts'

test('install, install again, update, another maker, uninstall', () => {
  const root = mkdtempSync(join(tmpdir(), 'twill-install-'))
  try {
    const shim = join(root, 'twill-cni')
    const bin = join(root, 'bin')
    const actions = () => installShim(shim, bin).map((one) => one.action)
    assert.throws(() => installShim(shim, bin), { code: 'ERR_SHIM_MISSING' })
    writeFileSync(shim, 'no shim')
    assert.throws(() => installShim(shim, bin), { code: 'ERR_SHIM_MISSING' })

    writeFileSync(shim, '\x7fELF twill-cni shim 0.1.0')
    assert.deepEqual(actions(), ['installed', 'installed', 'installed', 'installed', 'installed'])
    assert.equal(statSync(join(bin, 'flannel')).mode & 0o777, 0o755)
    assert.deepEqual(actions(), ['current', 'current', 'current', 'current', 'current'])
    assert.deepEqual(readdirSync(bin), ['bridge', 'flannel', 'host-local', 'loopback', 'portmap'])

    writeFileSync(shim, '\x7fELF twill-cni shim 0.2.0')
    writeFileSync(join(bin, 'portmap'), 'theirs')
    writeFileSync(join(bin, 'bridge'), 'theirs too')
    assert.deepEqual(installShim(shim, bin), [
      { path: join(bin, 'flannel'), action: 'updated' },
      { path: join(bin, 'portmap'), action: 'replaced', saved: join(bin, 'portmap.before-twill') },
      { path: join(bin, 'loopback'), action: 'updated' },
      { path: join(bin, 'bridge'), action: 'kept' },
      { path: join(bin, 'host-local'), action: 'updated' },
    ])
    assert.equal(readFileSync(join(bin, 'portmap.before-twill'), 'utf8'), 'theirs')

    uninstallShim(bin)
    assert.deepEqual(readdirSync(bin), ['bridge', 'portmap'])
    assert.equal(readFileSync(join(bin, 'portmap'), 'utf8'), 'theirs')
    uninstallShim(bin)
  } finally {
    rmSync(root, { recursive: true })
  }
})
