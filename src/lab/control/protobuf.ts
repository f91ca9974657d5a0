/**
 * Reads the protobuf bodies that kubectl sends since 1.33 for `create namespace`, `create token`, `auth can-i` and their like. Reads
 * only: answers are JSON, which every client takes.
 *     "k8s\0" | runtime.Unknown { 1 typeMeta { 1 apiVersion, 2 kind }, 2 raw: the object }
 * Go's encoder writes fields that are not pointers even when they are zero, so zero counts as absent unless the table says otherwise.
 * Source: k8s.io/apimachinery/pkg/runtime/serializer/protobuf.
 * @module
 */
import { protobufFields } from '#lab/control/protobuf-fields.ts'
import { badRequest } from '#lab/control/status.ts'
import { isTree, type Tree } from '#lab/control/tree.ts'

interface Field {
  readonly name: string
  readonly mark: '' | '*' | '%' | '&' | '='
  readonly type: string
}

let table: Map<string, Map<number, Field>> | undefined

function fieldsOf(message: string): ReadonlyMap<number, Field> | undefined {
  table ??= new Map(
    protobufFields
      .trim()
      .split('\n')
      .map((line) => {
        const [name, fields] = line.split(': ') as [string, string | undefined]
        const parsed = (fields ?? '').split(', ').map((text): [number, Field] => {
          const [number, field, type] = text.split(' ') as [string, string, string]
          const mark = /^[*%&=]?/.exec(type)![0] as Field['mark']
          return [Number(number), { name: field, mark, type: type.slice(mark.length) }]
        })
        return [name, new Map(parsed)]
      }),
  )
  return table.get(message)
}

/** Splits a message into its fields: varints as bigint, the rest as views. */
function* entries(bytes: Buffer): Generator<[number, bigint | Buffer]> {
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined || shift > 63n) throw badRequest('the protobuf body ends inside a number')
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, value)
    }
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const wire = tag & 7
    if (wire === 0) yield [tag >>> 3, varint()]
    else if (wire === 2) {
      const length = Number(varint())
      if (length < 0 || at + length > bytes.length) throw badRequest('the protobuf body ends inside a field')
      yield [tag >>> 3, bytes.subarray(at, at + length)]
      at += length
    } else throw badRequest(`the protobuf body has a field of wire type ${wire}, which no Kubernetes type uses`)
  }
}

/** The value of one field; undefined for a zero that only says "not set". */
function decodeValue(type: string, value: bigint | Buffer, keepZero: boolean): unknown {
  if (typeof value === 'bigint') return value === 0n && !keepZero ? undefined : type === 'o' ? value !== 0n : Number(value)
  if (type === 's') return value.length === 0 && !keepZero ? undefined : value.toString()
  if (type === 'b') return value.toString('base64')
  const inner = new Map(entries(value))
  const text = (number: number) => inner.get(number)?.toString() ?? ''
  switch (type) {
    case 'meta.Time':
    case 'meta.MicroTime':
      return inner.size === 0 ? undefined : new Date(Number(inner.get(1) ?? 0n) * 1000 + Number(inner.get(2) ?? 0n) / 1e6).toISOString()
    case 'intstr.IntOrString': {
      if (inner.get(1) === 1n) return text(3)
      const number = Number(inner.get(2) ?? 0n)
      return number === 0 && !keepZero ? undefined : number
    }
    case 'resource.Quantity':
      return text(1)
    case 'runtime.RawExtension':
      return text(1) === '' ? undefined : JSON.parse(text(1))
    default:
      return decodeMessage(type, value)
  }
}

function decodeMessage(message: string, bytes: Buffer): Tree {
  const fields = fieldsOf(message)
  const to: Tree = {}
  for (const [number, value] of entries(bytes)) {
    const field = fields?.get(number)
    if (!field) continue
    const { name, mark, type } = field
    if (mark === '*') to[name] = [...((to[name] as unknown[] | undefined) ?? []), decodeValue(type, value, true)]
    else if (mark === '=') Object.assign(to, decodeValue(type, value, false))
    else if (mark === '%') {
      const [key, item] = [1, 2].map((part) => new Map(entries(value as Buffer)).get(part))
      const map = isTree(to[name]) ? to[name] : {}
      to[name] = { ...map, [key?.toString() ?? '']: item === undefined ? '' : decodeValue(type, item, true) }
    } else {
      const one = decodeValue(type, value, mark === '&')
      if (one !== undefined) to[name] = one
    }
  }
  return to
}

const groups: Readonly<Record<string, string>> = { v1: 'core', 'meta.k8s.io/v1': 'meta' }

/** The object of a request body, as its JSON would be. @throws {ApiError} 400 for what is no protobuf or no type that the lab takes. */
export function readProtobuf(body: Buffer): Tree {
  if (body.subarray(0, 4).toString('latin1') !== 'k8s\0')
    throw badRequest('the body does not begin as a protobuf object of Kubernetes does')
  const unknown = new Map(entries(body.subarray(4)))
  const [typeMeta, raw] = [unknown.get(1), unknown.get(2)]
  if (!Buffer.isBuffer(raw)) throw badRequest('the protobuf body holds no object')
  const names = new Map(entries(Buffer.isBuffer(typeMeta) ? typeMeta : Buffer.alloc(0)))
  const [apiVersion, kind] = [names.get(1)?.toString() ?? '', names.get(2)?.toString() ?? '']
  const message = kind === 'DeleteOptions' ? 'meta.DeleteOptions' : `${groups[apiVersion] ?? apiVersion.split(/[./]/)[0]}.${kind}`
  if (!fieldsOf(message)) throw badRequest(`the embedded lab control plane does not read ${kind} (${apiVersion}) in protobuf; send JSON`)
  return { apiVersion, kind, ...decodeMessage(message, raw) }
}
