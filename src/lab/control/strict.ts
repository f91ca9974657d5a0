/**
 * Is this object what its kind says? Unknown fields and wrong types, in the words of kube-apiserver's strict decoder.
 * @module
 */
import { type FieldType, objectType } from '#lab/control/schemas.ts'
import { badRequest } from '#lab/control/status.ts'
import { isTree, type Tree } from '#lab/control/tree.ts'

/** The names that Go has for the kinds of JSON values and of fields, as its decoder prints them. */
function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'boolean') return 'bool'
  return typeof value
}
function goType(type: FieldType): string {
  if (type.is === 'list') return `[]${goType(type.of)}`
  if (type.is === 'map') return `map[string]${goType(type.of)}`
  if (type.is === 'object')
    return type.type.replace(/^[A-Za-z]*?V(\d\w*?)([A-Z])/, (_, version: string, first: string) => `v${version}.${first}`)
  return {
    string: 'string',
    integer: 'int32',
    boolean: 'bool',
    time: 'v1.Time',
    'int-or-string': 'intstr.IntOrString',
    any: 'interface {}',
  }[type.is]
}

const fits: Record<Exclude<FieldType['is'], 'object'>, (value: unknown) => boolean> = {
  string: (value) => typeof value === 'string',
  integer: (value) => Number.isInteger(value),
  boolean: (value) => typeof value === 'boolean',
  time: (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value)),
  'int-or-string': (value) => typeof value === 'string' || Number.isInteger(value),
  any: () => true,
  list: Array.isArray,
  map: isTree,
}

/** Quantities (`cpu: 1`) are texts in the schema that may be written as numbers. */
const quantities = /\.(limits|requests|capacity|allocatable|sizeLimit|divisor)(\..*)?$/

/**
 * Walks `object` along the fields of `model`. Unknown fields are left out of the result, as a typed decoder would.
 * @returns  The cleaned object, and the path of each unknown field: `spec.containers[0].foo`.
 * @throws {ApiError} 400 if a value has another type than its field: no kube-apiserver can read that.
 */
export function decode(kind: string, model: string, object: Tree): { object: Tree; unknown: string[] } {
  const unknown: string[] = []
  function walk(value: unknown, type: FieldType, path: string): unknown {
    if (value === null || value === undefined) return undefined
    const mismatch = () => {
      const field = `${kind}.${path.replaceAll(/\[\d+\]/g, '').replaceAll(/\[[^\]]*\]/g, '')}`
      return badRequest(
        `${kind} in version "${String(object.apiVersion).split('/').at(-1)}" cannot be handled as a ${kind}: ` +
          `json: cannot unmarshal ${jsonKind(value)} into Go struct field ${field} of type ${goType(type)}`,
      )
    }
    if (type.is === 'object') {
      if (!isTree(value)) throw mismatch()
      return walkObject(value, type.type, path)
    }
    if (type.is === 'string' && typeof value === 'number' && quantities.test(path)) return String(value)
    if (!fits[type.is](value)) throw mismatch()
    if (type.is === 'list') return (value as unknown[]).map((part, i) => walk(part, type.of, `${path}[${i}]`))
    if (type.is === 'map') {
      return Object.fromEntries(Object.entries(value as Tree).map(([key, part]) => [key, walk(part, type.of, `${path}.${key}`) ?? '']))
    }
    return value
  }
  function walkObject(from: Tree, type: string, path: string): Tree {
    const { fields } = objectType(type)
    const to: Tree = {}
    for (const [key, value] of Object.entries(from)) {
      const here = path === '' ? key : `${path}.${key}`
      const field = fields.get(key)
      if (!field) unknown.push(here)
      else {
        const kept = walk(value, field.type, here)
        if (kept !== undefined) to[key] = kept
      }
    }
    return to
  }
  return { object: walkObject(object, model, ''), unknown }
}

/** What kube-apiserver answers to fieldValidation=Strict. */
export const strictError = (kind: string, version: string, unknown: readonly string[]) =>
  badRequest(
    `${kind} in version "${version}" cannot be handled as a ${kind}: strict decoding error: ${unknown.map((path) => `unknown field "${path}"`).join(', ')}`,
  )
