import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backends } from '#plan/backends/all.ts'
import { type BackendCases, contractOf } from '#plan/backends/contract.ts'

for (const [type, backend] of backends) {
  const { cases } = (await import(`#plan/backends/${type}.cases.ts`)) as { readonly cases: BackendCases }
  for (const { name, got, want } of contractOf(backend, cases)) test(`${type} ${name}`, () => assert.deepEqual(got(), want))
}
