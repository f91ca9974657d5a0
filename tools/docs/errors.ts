/**
 * docs/errors.md from the rooms' error tables.
 *
 *     node tools/docs/errors.ts        writes the page; a test holds it to the tables
 * @module
 */
import { globSync, writeFileSync } from 'node:fs'
import { allErrors } from '#base/errors.ts'

const page = 'docs/errors.md'

/** Stands for any detail in an error's text: prints as its name, and survives what texts do to values. */
function placeholder(name: string): unknown {
  const text = (): string => `‹${name}›`
  const target = {
    toString: text,
    valueOf: text,
    toJSON: text,
    join: text,
    map: () => placeholder(name),
    [Symbol.toPrimitive]: text,
    [Symbol.iterator]: function* () {},
  }
  return new Proxy(target, { get: (o, key) => Reflect.get(o, key) ?? (typeof key === 'string' ? text : undefined) })
}

const details = new Proxy({}, { get: (_, key) => placeholder(String(key)) })

/** The page's text: every code of every room, with its message and the way out. */
export async function renderErrors(): Promise<string> {
  const parts = [
    '# Errors\n',
    'Every error has a code to match on, says what was found, and names the way out. `‹word›` stands for a value. Made by `node tools/docs/errors.ts`.\n',
  ]
  for (const file of globSync('src/*/errors.ts').toSorted()) {
    if (file.startsWith('src/base/')) continue
    const before = new Set(allErrors.keys())
    await import(`../../${file}`)
    const codes = [...allErrors].filter(([code]) => !before.has(code)).toSorted(([a], [b]) => (a < b ? -1 : 1))
    parts.push(`## ${file.split('/')[1]}\n`, '| code | message | what to do |', '|---|---|---|')
    const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
    for (const [code, entry] of codes) parts.push(`| ${code} | ${cell(entry.text(details as never))} | ${cell(entry.remedy)} |`)
    parts.push('')
  }
  return parts.join('\n')
}

if (import.meta.main) writeFileSync(page, await renderErrors())
