import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { findingTable } from '#model/findings.ts'
import { page, renderDoctorPage } from './doctor.ts'

test('docs/doctor.md lists every finding: run node tools/docs/doctor.ts', () => {
  const text = readFileSync(page, 'utf8')
  assert.equal(text, renderDoctorPage(text))
  for (const id of Object.keys(findingTable)) assert.ok(text.includes(`| \`${id}\` |`), id)
})
