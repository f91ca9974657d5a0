/**
 * The book of kubectl commands: tools/kubectl/commands.yaml, what is typed and what comes back, and docs/kubectl.md, made of it.
 *
 *     node tools/kubectl/book.ts doc                     writes docs/kubectl.md (a test holds it to the data)
 *     node tools/kubectl/book.ts record [--again TEXT]   types the commands in the running lab; fills in outputs that are not there yet, and
 *                                                  anew those of commands that contain TEXT ('' is in all)
 *     node tools/kubectl/book.ts compare                 types them and prints where the output differs: how another API server is held to this one
 * @module
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { parse, parseDocument, Scalar } from 'yaml'
import { typed } from '../tutorial/run.ts'
import { normal } from './normal.ts'

export interface Step {
  readonly run: string
  readonly output?: string
  readonly exit?: number
  readonly wait?: boolean
  readonly unordered?: boolean
  readonly about?: string
}

export interface Section {
  readonly title: string
  readonly about?: string
  readonly files?: Readonly<Record<string, string>>
  readonly steps: readonly Step[]
}

const data = 'tools/kubectl/commands.yaml'
const page = 'docs/kubectl.md'
/** Where they are typed. */
const node = 'k8s-ctr'

/** @throws {YAMLParseError} with line and column. */
export const readBook = (): readonly Section[] => (parse(readFileSync(data, 'utf8')) as { sections: Section[] }).sections

/** Writes the files that a section needs, where its commands are typed. */
export function prepare({ files = {} }: Section): void {
  for (const [name, text] of Object.entries(files)) {
    const argv = ['lab', 'exec', node, '--', 'sh', '-c', 'cat > "/root/$0"', name]
    const done = spawnSync('bin/twill', argv, { input: text, encoding: 'utf8' })
    if (done.status !== 0) throw new Error(`${name}: ${done.stderr}`)
  }
}

const type = (line: string): ReturnType<typeof typed> => typed(node, `cd /root; ${line}`)

/** Types a command until it prints and ends as the book says (once, unless it says `wait`). @returns what differs, or undefined. */
export async function check(step: Step, deadlineMs = 30_000): Promise<string | undefined> {
  const want = normal(step.output ?? '', step)
  const until = performance.now() + (step.wait ? deadlineMs : 0)
  for (;;) {
    const { output, status } = type(step.run)
    const have = normal(output, step)
    const why = status === (step.exit ?? 0) ? difference(want, have) : `exit status ${status}, not ${step.exit ?? 0}: ${output}`
    if (why === undefined || performance.now() >= until) return why
    // The condition lives in the cluster: the only way to wait for it is to ask again.
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** Undefined if they are the same; else what is missing and what is there more, line by line. */
function difference(want: readonly string[], have: readonly string[]): string | undefined {
  if (want.join('\n') === have.join('\n')) return undefined
  const left = have.slice()
  const missing = want.filter((line) => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
  if (missing.length + left.length === 0) return `the order of lines differs:\n${have.join('\n')}`
  return [...missing.map((line) => `- ${line}`), ...left.map((line) => `+ ${line}`)].join('\n')
}

/** How much of a long output the page shows. */
const shownLines = 24

export function renderBook(sections: readonly Section[]): string {
  const count = sections.flatMap((s) => s.steps).length
  const parts = [
    '# kubectl at the lab\n',
    `The lab has a control plane of its own (src/lab/control): a small, honest Kubernetes API. These are ${count} commands that an administrator`,
    'types, in the lab as `make lab` leaves it, and what comes back. Each runs in a test with the real kubectl',
    '(tools/kubectl/commands.ltest.ts). Made from tools/kubectl/commands.yaml by `node tools/kubectl/book.ts doc`; a line of `…` stands for lines',
    'left out here, which the data has. What a command refuses, it refuses by name. `node tools/kubectl/book.ts compare` types them all at',
    'whatever API server the running lab has, and prints what differs.\n',
  ]
  for (const { title, about, files = {}, steps } of sections) {
    parts.push(`## ${title}\n`)
    if (about !== undefined) parts.push(`${about}\n`)
    for (const [name, text] of Object.entries(files)) parts.push(`${name}:\n`, `\`\`\`yaml\n${text.trimEnd()}\n\`\`\`\n`)
    let open = false
    for (const { run, output = '', exit, about: why } of steps) {
      if (why !== undefined) {
        parts.push(...(open ? ['```\n'] : []), `${why}\n`)
        open = false
      }
      if (!open) parts.push('```console')
      open = true
      const lines = output.trimEnd() === '' ? [] : output.trimEnd().split('\n')
      parts.push(`root@${node}:~# ${run}`, ...(lines.length > shownLines ? [...lines.slice(0, shownLines - 1), '…'] : lines))
      if (exit !== undefined) parts.push(`(exit status ${exit})`)
    }
    parts.push('```\n')
  }
  return parts.join('\n')
}

async function record(again: string | undefined): Promise<void> {
  const document = parseDocument(readFileSync(data, 'utf8'))
  for (const [s, section] of readBook().entries()) {
    prepare(section)
    for (const [i, step] of section.steps.entries()) {
      const keep = step.output !== undefined && !(again !== undefined && step.run.includes(again))
      if (step.wait) await check(step, keep ? undefined : 8000)
      const { output, status } = type(step.run)
      if (status !== (step.exit ?? 0)) console.log(`exit status ${status}, not ${step.exit ?? 0}: ${step.run}\n${output}`)
      if (keep) continue
      const text = new Scalar(
        `${output
          .split('\n')
          .map((line) => line.trimEnd())
          .join('\n')
          .trim()}\n`,
      )
      text.type = 'BLOCK_LITERAL'
      document.setIn(['sections', s, 'steps', i, 'output'], text.value === '\n' ? '' : text)
    }
  }
  writeFileSync(data, document.toString({ lineWidth: 0 }))
}

async function compare(): Promise<void> {
  for (const section of readBook()) {
    prepare(section)
    for (const step of section.steps) {
      const why = await check(step)
      if (why !== undefined) console.log(`${step.run}\n${why}\n`)
    }
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { again: { type: 'string' } } })
  if (positionals[0] === 'record') await record(values.again)
  else if (positionals[0] === 'compare') await compare()
  else if (positionals[0] === 'doc') writeFileSync(page, renderBook(readBook()))
  else {
    console.error('usage: node tools/kubectl/book.ts doc | record [--again TEXT] | compare')
    process.exitCode = 2
  }
}
