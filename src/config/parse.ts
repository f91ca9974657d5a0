/**
 * Command line and environment into one frozen value, by the rules of Go's `flag` package, which flanneld uses:
 *     -x  --x  --x=v  --x v      bools take a value only after `=`; parsing stops at the first word that is no flag, or at `--`
 * The command line wins over FLANNELD_* variables; an empty variable is unset. All problems are reported at once.
 * @module
 */
import { configError } from '#config/errors.ts'
import { envName, type Flag, type FlagName, type Flags, flagEntries, flags } from '#config/flags.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface CommandLine {
  /** --help, -h and --version win over everything else that is right. */
  readonly ask: 'run' | 'help' | 'version'
  readonly flags: Flags
  /** Words after the flags. flanneld ignores them. */
  readonly rest: readonly string[]
}

type Value = string | boolean | number
const allowed: Record<Flag['type'], string> = { string: 'a text', list: 'a text', bool: 'true or false', int: 'an integer' }

/** A Go boolean, or undefined (strconv.ParseBool). */
export function parseBool(text: string): boolean | undefined {
  if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true
  if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false
  return undefined
}

/** A Go integer with base prefix, or undefined (strconv.ParseInt with base 0: 0x1f, 0o17, 017, 0b1, 1_000). */
export function parseInteger(text: string): number | undefined {
  const match = /^([+-]?)(?:(0[xX])(?:_?[0-9a-fA-F])+|(0[oO])(?:_?[0-7])+|(0[bB])(?:_?[01])+|0(?:_?[0-7])*|[1-9](?:_?\d)*)$/.exec(text)
  if (!match) return undefined
  const digits = text.slice(match[1]!.length).replaceAll('_', '')
  const octal = /^0\d/.test(digits)
  const value = Number(octal ? `0o${digits.slice(1)}` : digits)
  return Number.isSafeInteger(value) ? (match[1] === '-' ? -value : value) : undefined
}

function parseValue(flag: Flag, text: string): Value | undefined {
  if (flag.type === 'bool') return parseBool(text)
  if (flag.type !== 'int') return text
  const value = parseInteger(text)
  return value === undefined || value < (flag.min ?? -Infinity) || value > (flag.max ?? Infinity) ? undefined : value
}

function problem(where: string, flag: Flag, text: string): string {
  const range = flag.min === undefined ? '' : ` from ${flag.min} to ${flag.max}`
  return `${where}: found ${flag.secret ? 'a value' : JSON.stringify(text)}, allowed is ${allowed[flag.type]}${range}`
}

/**
 * Parses `argv` (without program and script) and the FLANNELD_* part of `env`.
 * @throws {TwillError} ERR_FLAGS with every problem found.
 */
export function parseCommandLine(argv: readonly string[], env: Environment): CommandLine {
  const problems: string[] = []
  const set = new Map<FlagName, Value | string[]>()
  const give = (name: FlagName, where: string, text: string): void => {
    const value = parseValue(flags[name], text)
    if (value === undefined) problems.push(problem(where, flags[name], text))
    else if (flags[name].type !== 'list') set.set(name, value)
    else set.set(name, [...((set.get(name) as string[] | undefined) ?? []), text])
  }

  let ask: CommandLine['ask'] = 'run'
  let at = 0
  for (; at < argv.length; at++) {
    const word = argv[at]!
    if (word.length < 2 || !word.startsWith('-')) break
    if (word === '--') {
      at++
      break
    }
    const [, name, value] = /^--?([^=]*)(?:=([\s\S]*))?$/.exec(word)!
    if (name === 'help' || name === 'h') ask = 'help'
    else if (name === '' || name!.startsWith('-')) problems.push(`${word}: not a flag; allowed are -name, --name, --name=value`)
    else if (!Object.hasOwn(flags, name!)) problems.push(`--${name}: there is no such flag${nearest(name!)}`)
    else {
      const known = name as FlagName
      if (value !== undefined) give(known, `--${name}`, value)
      else if (flags[known].type === 'bool') set.set(known, true)
      else if (at + 1 < argv.length) give(known, `--${name}`, argv[++at]!)
      else problems.push(`--${name}: needs a value, allowed is ${allowed[flags[known].type]}`)
    }
  }
  for (const [name] of flagEntries) {
    const text = env[envName(name)]
    if (text && name !== 'version' && !set.has(name)) give(name, envName(name), text)
  }
  problems.push(...crossChecks(set))
  if (ask === 'run' && set.get('version') === true) ask = 'version'
  if (problems.length > 0 && ask !== 'help') throw configError.ERR_FLAGS({ problems })

  const values = Object.fromEntries(flagEntries.map(([name, flag]) => [name, set.get(name) ?? flag.default]))
  return Object.freeze({ ask, flags: Object.freeze(values) as unknown as Flags, rest: argv.slice(at) })
}

/** Values that have a form of their own. */
function* crossChecks(set: ReadonlyMap<FlagName, Value | string[]>): Iterable<string> {
  for (const source of (set.get('iface-regex') as string[] | undefined) ?? []) {
    if (compileRegex(source) === undefined) yield `--iface-regex: found ${JSON.stringify(source)}, allowed is a regular expression`
  }
}

/** Go's RE2 syntax in JavaScript's: they differ, in what interface names and addresses need, by leading flags `(?i)` only. */
export function compileRegex(source: string): RegExp | undefined {
  const [, modes = '', body] = /^(?:\(\?([ims]+)\))?([\s\S]*)$/.exec(source)!
  try {
    return new RegExp(body!, modes)
  } catch {
    return undefined
  }
}

/** ", did you mean --x?" for a name at most two letters away. */
function nearest(name: string): string {
  const [best] = flagEntries.map(([flag]) => ({ flag, far: distance(name, flag) })).toSorted((a, b) => a.far - b.far)
  return best && best.far <= 2 ? `, did you mean --${best.flag}?` : ''
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) next.push(Math.min(row[j + 1]! + 1, next[j]! + 1, row[j]! + (letter === b[j] ? 0 : 1)))
    row = next
  }
  return row.at(-1)!
}

/** What --help prints. */
export function usage(): string {
  const line = ([name, flag]: readonly [FlagName, Flag]): string => {
    const value = flag.type === 'bool' ? '' : flag.type === 'list' ? ' value (repeatable)' : ` ${flag.type}`
    const preset = flag.default === '' || flag.type === 'list' ? '' : ` (default ${flag.default})`
    return `  --${name}${value}\n        ${flag.help}${preset}${flag.ignored ? ` [accepted, no effect: ${flag.ignored}]` : ''}`
  }
  const own = flagEntries.filter(([, flag]) => flag.own)
  const theirs = flagEntries.filter(([, flag]) => !flag.own)
  return [
    'Usage: twill agent [flags]',
    '',
    'The node agent. It takes the command line and the environment of flanneld as they are.',
    'Every flag can also be set as FLANNELD_<NAME>: FLANNELD_IP_MASQ=true.',
    '',
    ...theirs.map(line),
    '',
    "Twill's own:",
    ...own.map(line),
    '',
  ].join('\n')
}

/** The flags that differ from their defaults, for the log; secrets are hidden. */
export function shownFlags(values: Flags): Record<string, unknown> {
  const changed = flagEntries.filter(([name, flag]) => String(values[name]) !== String(flag.default))
  return Object.fromEntries(changed.map(([name, flag]) => [name, flag.secret ? '***' : values[name]]))
}
