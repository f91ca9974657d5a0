/**
 * The table of docs/doctor.md from the one list of findings.
 *
 *     node tools/docs/doctor.ts        writes it between its marks; a test holds the page to the list
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { findingTable } from '#model/findings.ts'

export const page = 'docs/doctor.md'
const BEGIN = '<!-- made by node tools/docs/doctor.ts -->\n'
const END = '<!-- end -->\n'

/** The page's text with its table made anew. */
export function renderDoctorPage(text: string): string {
  const [head, rest] = text.split(BEGIN)
  const tail = rest?.split(END)[1]
  if (head === undefined || tail === undefined) throw new Error(`${page} has lost its marks`)
  const rows = Object.entries(findingTable).map(([id, { what, why }]) => `| \`${id}\` | ${what} | ${why} |`)
  return `${head}${BEGIN}| id | what | why it matters |\n|---|---|---|\n${rows.join('\n')}\n${END}${tail}`
}

if (import.meta.main) writeFileSync(page, renderDoctorPage(readFileSync(page, 'utf8')))
