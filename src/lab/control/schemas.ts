/**
 * The fields of the Kubernetes API types, read from the type declarations of @kubernetes/client-node, one type when it is first needed.
 *
 *     export declare class V1PodStatus {
 *         /** RFC 3339 date … *\/
 *         'startTime'?: Date;              `?` absent means required
 *
 * The declarations are generated from Kubernetes' OpenAPI document, carry its descriptions, and cost nothing until somebody sends a
 * field. They describe v1.34; the lab says v1.33.2: the few fields between the two are accepted and kept.
 * @module
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The type of a field. `any` holds whatever it holds (a managed field set, a raw extension). */
export type FieldType =
  | { readonly is: 'string' | 'integer' | 'boolean' | 'time' | 'int-or-string' | 'any' }
  | { readonly is: 'list' | 'map'; readonly of: FieldType }
  | { readonly is: 'object'; readonly type: string }

export interface Field {
  readonly type: FieldType
  readonly required: boolean
  readonly doc: string
}

export interface ObjectType {
  readonly doc: string
  readonly fields: ReadonlyMap<string, Field>
}

const models = new URL('gen/models/', import.meta.resolve('@kubernetes/client-node'))
const known = new Map<string, ObjectType>()

function parseType(text: string): FieldType {
  const list = /^Array<(.*)>$/.exec(text)
  if (list) return { is: 'list', of: parseType(list[1]!) }
  const map = /^\{\s*\[key: string\]: (.*);\s*\}$/s.exec(text)
  if (map) return { is: 'map', of: parseType(map[1]!) }
  if (text === 'number') return { is: 'integer' }
  if (text === 'Date' || text === 'V1MicroTime') return { is: 'time' }
  if (text === 'IntOrString') return { is: 'int-or-string' }
  if (text === 'string' || text === 'boolean') return { is: text }
  return /^([A-Z][a-z]+)?V\d/.test(text) ? { is: 'object', type: text } : { is: 'any' }
}

/** A doc comment's text on one line. */
const plain = (comment: string | undefined) =>
  (comment ?? '')
    .replace(/^\s*\* ?/gm, '')
    .replace(/\s+/g, ' ')
    .replaceAll("\\'", "'")
    .trim()

/** @param name  As the client library calls it: `V1PodSpec`. */
export function objectType(name: string): ObjectType {
  const cached = known.get(name)
  if (cached) return cached
  const text = readFileSync(fileURLToPath(new URL(`${name}.d.ts`, models)), 'utf8')
  const start = text.search(/(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*)?export declare class/)
  const head = /(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?export declare class \w+ \{/y
  head.lastIndex = start
  const opened = head.exec(text)
  const fields = new Map<string, Field>()
  const field = /\s*(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?'([^']+)'(\?)?: ((?:\{[^}]*\}|[^;{])+);/y
  field.lastIndex = head.lastIndex
  for (let found = field.exec(text); found; found = field.exec(text)) {
    const [, doc, key, optional, type] = found
    // The generator puts an underscore before names that are words of the language: `_from`, `_continue`.
    fields.set(key!.replace(/^_/, ''), { type: parseType(type!.trim()), required: optional === undefined, doc: plain(doc) })
  }
  const type: ObjectType = { doc: plain(opened?.[1]), fields }
  known.set(name, type)
  return type
}
