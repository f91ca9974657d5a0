import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { BackendType } from '#plan/backends/backend.ts'
import { type BackendCases, contractOf } from '#plan/backends/contract.ts'

const page = readFileSync('docs/backends.md', 'utf8')

/** A package of its own, so that `#room/file.ts` is found: what the page shows lies there as if it were in src/plan/backends/. */
const dir = mkdtempSync(join(tmpdir(), 'twill-docs-'))
after(() => rmSync(dir, { recursive: true }))
writeFileSync(join(dir, 'package.json'), JSON.stringify({ type: 'module', imports: { '#*': './src/*' } }))
symlinkSync(join(process.cwd(), 'src'), join(dir, 'src'))
mkdirSync(join(dir, 'toy'))

/** The program that the page shows under a file's name, loaded. */
async function shown(file: string): Promise<Record<string, unknown>> {
  const [, code] = new RegExp(`src/plan/backends/${file}[\\s\\S]*?\`\`\`ts\\n([\\s\\S]*?)\`\`\``).exec(page)!
  writeFileSync(join(dir, 'toy', file), code!)
  return (await import(join(dir, 'toy', file))) as Record<string, unknown>
}

const { direct } = (await shown('direct.ts')) as { direct: BackendType }
const { cases } = (await shown('direct.cases.ts')) as { cases: BackendCases }
for (const { name, got, want } of contractOf(direct, cases)) {
  test(`the toy of docs/backends.md ${name}`, () => assert.deepEqual(got(), want))
}
