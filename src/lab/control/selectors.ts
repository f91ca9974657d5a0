/**
 * Label and field selectors: parse and match, as k8s.io/apimachinery/pkg/labels and pkg/fields do.
 *     app=web,tier!=cache,env in (a,b),!legacy,owner        spec.nodeName=k8s-w1,status.phase!=Failed
 * @module
 */
import { badRequest } from '#lab/control/status.ts'

type Labels = Readonly<Record<string, string>>

/** One requirement. `gt` and `lt` compare integers. */
export interface Requirement {
  readonly key: string
  readonly op: 'in' | 'notin' | 'exists' | '!' | 'gt' | 'lt'
  readonly values: readonly string[]
}

/** meta/v1 LabelSelector, as it lies in spec.selector and in affinity terms. */
export interface LabelSelector {
  readonly matchLabels?: Labels
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[]
}

/** Splits at commas that are not inside parentheses. */
const splitTerms = (text: string) => text.split(/,(?![^(]*\))/)

/** @throws {ApiError} 400 with kube-apiserver's wording if `text` is no label selector. */
export function parseLabelSelector(text: string): Requirement[] {
  if (text.trim() === '') return []
  return splitTerms(text).map((term) => {
    const set = /^\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*$/.exec(term)
    if (set) return { key: set[1]!, op: set[2] as 'in' | 'notin', values: set[3]!.split(',').map((value) => value.trim()) }
    const equal = /^\s*([\w./-]+)\s*(==|=|!=|>|<)\s*([\w.-]*)\s*$/.exec(term)
    if (equal) {
      const op = ({ '!=': 'notin', '>': 'gt', '<': 'lt' } as const)[equal[2] as '!='] ?? 'in'
      return { key: equal[1]!, op, values: [equal[3]!] }
    }
    const exists = /^\s*(!?)\s*([\w./-]+)\s*$/.exec(term)
    if (exists) return { key: exists[2]!, op: exists[1] === '!' ? '!' : 'exists', values: [] }
    throw badRequest(
      `unable to parse requirement: found '${term.trim()}', expected: a label selector such as key=value, key in (a,b) or !key`,
    )
  })
}

/** As Kubernetes has it: a missing key satisfies `!=` and `notin`. */
export function matches(requirements: readonly Requirement[], labels: Labels | undefined): boolean {
  return requirements.every(({ key, op, values }) => {
    const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined
    if (op === '!') return value === undefined
    if (op === 'notin') return value === undefined || !values.includes(value)
    if (value === undefined) return false
    if (op === 'in') return values.includes(value)
    if (op === 'gt') return Number(value) > Number(values[0])
    return op === 'lt' ? Number(value) < Number(values[0]) : true
  })
}

const operators: Record<string, Requirement['op']> = { In: 'in', NotIn: 'notin', Exists: 'exists', DoesNotExist: '!', Gt: 'gt', Lt: 'lt' }

/** The requirements of a LabelSelector object. An empty selector matches everything; callers decide what an absent one means. */
export function requirementsOf(selector: LabelSelector): Requirement[] {
  return [
    ...Object.entries(selector.matchLabels ?? {}).map(([key, value]): Requirement => ({ key, op: 'in', values: [value] })),
    ...(selector.matchExpressions ?? []).map(({ key, operator, values }): Requirement => {
      const op = operators[operator]
      if (op === undefined) throw badRequest(`"${operator}" is not a valid label selector operator`)
      return { key, op, values: values ?? [] }
    }),
  ]
}

/** Shorthand of both steps for controllers: does this LabelSelector select these labels? */
export const selects = (selector: LabelSelector, labels: Labels | undefined) => matches(requirementsOf(selector), labels)

/** The text form, as `kubectl get deploy -owide` prints it in SELECTOR. */
export function showSelector(selector: LabelSelector | undefined): string {
  if (selector === undefined) return '<none>'
  const terms = requirementsOf(selector).map(({ key, op, values }, i) => {
    if (i < Object.keys(selector.matchLabels ?? {}).length) return `${key}=${values[0]}`
    if (op === 'exists') return key
    return op === '!' ? `!${key}` : `${key} ${op} (${values.toSorted().join(',')})`
  })
  return terms.length === 0 ? '<none>' : terms.toSorted().join(',')
}

export interface FieldRequirement {
  readonly path: readonly string[]
  readonly value: string
  readonly negate: boolean
}

/** @throws {ApiError} 400 if `text` is no field selector. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  return text
    .split(',')
    .filter((term) => term.trim() !== '')
    .map((term) => {
      const found = /^\s*([\w.[\]-]+?)\s*(==|=|!=)(.*)$/.exec(term)
      if (!found) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`)
      return { path: found[1]!.split('.'), value: found[3]!.trim(), negate: found[2] === '!=' }
    })
}

/** A field that an object lacks compares as the empty text, so `spec.nodeName=` finds unscheduled pods. */
export function matchesFields(requirements: readonly FieldRequirement[], object: unknown): boolean {
  return requirements.every(({ path, value, negate }) => {
    let at: unknown = object
    for (const part of path) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined
    return (at === undefined || at === null ? '' : String(at)) === value ? !negate : negate
  })
}
