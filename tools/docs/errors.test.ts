import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { renderErrors } from './errors.ts'

test('docs/errors.md is what the error tables say (node tools/docs/errors.ts writes it)', async () => {
  assert.equal(readFileSync('docs/errors.md', 'utf8'), await renderErrors())
})
