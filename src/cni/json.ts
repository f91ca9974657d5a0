/** JSON as Go's encoding/json writes it, since runtimes and the reference plugins compare and keep such text. @module */

/** `text` as JSON, or undefined if it is none. */
export function parseJson(text: string): { value: unknown } | { problem: string } {
  try {
    return { value: JSON.parse(text) as unknown }
  } catch (error) {
    return { problem: (error as Error).message }
  }
}

const htmlEscapes = /[<>&\u2028\u2029]/g
const escaped = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`

/** `value` as Go prints it: member order kept. Compact, or indented by `indent` blanks. */
export function goJson(value: unknown, indent = 0): string {
  return JSON.stringify(value, null, indent).replace(htmlEscapes, escaped)
}

/** `value` with the keys of all objects sorted: how Go prints maps. */
export function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sortKeys(one)]),
  )
}
