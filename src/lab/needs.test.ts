import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { labError } from '#lab/errors.ts'
import { lacking, needs } from '#lab/needs.ts'
import { repo } from '#lab/repo.ts'

test('all that is missing is named at once, with the packages that bring it', () => {
  const dir = mkdtempSync(`${tmpdir()}/twill-needs-`)
  try {
    for (const [program] of needs) if (program !== 'nft' && program !== 'bridge') symlinkSync('/bin/true', `${dir}/${program}`)
    const lack = lacking({ PATH: dir })!
    assert.deepEqual(lack, { missing: ['bridge', 'nft'], packages: ['iproute2', 'nftables'] })
    const { message } = labError.ERR_LAB_PROGRAMS(lack)
    assert.match(message, /bridge, nft \(Debian packages: iproute2, nftables\)/)
    for (const program of lack.missing) symlinkSync('/bin/true', `${dir}/${program}`)
    assert.equal(lacking({ PATH: dir }), undefined)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('each package is one that make lab installs, or is essential in Debian', () => {
  const installed = /^lab_needs='([^']*)'/m
    .exec(readFileSync(`${repo}/tools/setup.sh`, 'utf8'))![1]!
    .split('\n')
    .map((l) => l.split(' ')[1])
  for (const [program, debianPackage] of needs)
    assert.ok(installed.includes(debianPackage) || debianPackage === 'mount', `${program} of ${debianPackage}`)
})
