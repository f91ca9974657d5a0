import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { readProtobuf } from '#lab/control/protobuf.ts'
import { protobufFields } from '#lab/control/protobuf-fields.ts'
import { objectType } from '#lab/control/schemas.ts'

const text = (number: number, value: string | Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2, value.length]), Buffer.from(value)])
const number = (field: number, value: number) => Buffer.from([field << 3, value])
const envelope = (apiVersion: string, kind: string, ...raw: Buffer[]) =>
  Buffer.concat([Buffer.from('k8s\0'), text(1, Buffer.concat([text(1, apiVersion), text(2, kind)])), text(2, Buffer.concat(raw))])

test('lists, maps, optional zeros and plain zeros', () => {
  const labels = text(11, Buffer.concat([text(1, 'a'), text(2, 'b')]))
  const metadata = text(1, Buffer.concat([text(1, 'web'), text(2, ''), labels, text(8, '')]))
  const template = text(3, text(2, text(2, Buffer.concat([text(1, 'c'), text(2, 'image'), text(3, 'run'), text(3, '')]))))
  const spec = text(2, Buffer.concat([number(1, 0), number(5, 0), template]))
  assert.deepEqual(readProtobuf(envelope('apps/v1', 'Deployment', metadata, spec)), {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', labels: { a: 'b' } },
    spec: { replicas: 0, template: { spec: { containers: [{ name: 'c', image: 'image', command: ['run', ''] }] } } },
  })
})

test('what is cut off, foreign or unknown is refused', () => {
  const whole = envelope('v1', 'Namespace', text(1, text(1, 'name')))
  for (let i = 5; i < whole.length; i++) assert.throws(() => readProtobuf(whole.subarray(0, i)), /protobuf/, `cut at ${i}`)
  assert.throws(() => readProtobuf(Buffer.from('{"kind":"Pod"}')), /does not begin/)
  assert.throws(() => readProtobuf(envelope('apps/v1', 'StatefulSet')), /does not read StatefulSet/)
})

test('every name in the table is a field of its type', () => {
  const models = new URL('gen/models/', import.meta.resolve('@kubernetes/client-node'))
  const lines = new Map(
    protobufFields
      .trim()
      .split('\n')
      .map((line) => line.split(': ') as [string, string | undefined]),
  )
  const names = (fields: string): string[] =>
    fields.split(', ').flatMap((field) => {
      const [, name, type] = field.split(' ')
      return type!.startsWith('=') ? names(lines.get(type!.slice(1))!) : [name!]
    })
  const inline = new Set(['core.EphemeralContainerCommon', 'core.ProbeHandler', 'core.VolumeSource'])
  for (const [message, fields] of lines) {
    if (inline.has(message)) continue
    const [group, type] = message.split('.') as [string, string]
    const prefixed = `${group[0]!.toUpperCase()}${group.slice(1)}V1${type}`
    const { fields: known } = objectType(existsSync(new URL(`${prefixed}.d.ts`, models)) ? prefixed : `V1${type}`)
    for (const name of fields ? names(fields) : []) assert.ok(known.has(name), `${message}.${name}`)
  }
})
