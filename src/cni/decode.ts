/**
 * JSON as Go's encoding/json reads it into structs: keys match in any case (the last one wins; containerd sends HostPort for
 * hostPort), null leaves a field alone, a value of another type is an error, unknown keys pass.
 * @module
 */
import { CniError, cniCode } from '#cni/failure.ts'

/** Reads one value or throws a CniError that names `where`. */
export type Reader<T> = (value: unknown, where: string) => T
export type JsonObject = Readonly<Record<string, unknown>>

const kindOf = (value: unknown): string =>
  Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value === 'object' ? 'object' : typeof value
const wrong = (value: unknown, where: string, want: string): CniError =>
  new CniError(
    cniCode.generic,
    `failed to load netconf: json: cannot unmarshal ${kindOf(value)} into Go struct field ${where} of type ${want}`,
  )

export const text: Reader<string> = (value, where) => {
  if (typeof value !== 'string') throw wrong(value, where, 'string')
  return value
}
export const int: Reader<number> = (value, where) => {
  if (!Number.isSafeInteger(value)) throw wrong(value, where, 'int')
  return value as number
}
export const bool: Reader<boolean> = (value, where) => {
  if (typeof value !== 'boolean') throw wrong(value, where, 'bool')
  return value
}
export const object: Reader<JsonObject> = (value, where) => {
  if (kindOf(value) !== 'object' || value === null) throw wrong(value, where, 'map[string]interface {}')
  return value as JsonObject
}
export const anything: Reader<unknown> = (value) => value
export const list =
  <T>(of: Reader<T>): Reader<T[]> =>
  (value, where) => {
    if (!Array.isArray(value)) throw wrong(value, where, '[]interface {}')
    return value.map((one) => of(one, where))
  }

type Struct<S extends Record<string, Reader<unknown>>> = { [K in keyof S]?: ReturnType<S[K]> }

/** The fields of `spec` (lower camel case) in `value`; a field that is absent or null stays away. */
export function struct<const S extends Record<string, Reader<unknown>>>(spec: S): Reader<Struct<S>> {
  const byLowerName = new Map(Object.keys(spec).map((name) => [name.toLowerCase(), name]))
  return (value, where) => {
    const out: Record<string, unknown> = {}
    for (const [key, one] of Object.entries(object(value, where))) {
      const name = byLowerName.get(key.toLowerCase())
      if (name !== undefined && one !== null) out[name] = spec[name]!(one, `${where}.${name}`)
    }
    return out as Struct<S>
  }
}
