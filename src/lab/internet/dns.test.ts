import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode, type RecordType } from 'dns-packet'
import { answer } from '#lab/internet/dns.ts'

const ask = (name: string, type: RecordType) => {
  const reply = answer(encode({ type: 'query', id: 7, questions: [{ type, name }] }))!
  const { id, rcode, answers } = decode(reply) as ReturnType<typeof decode> & { rcode: string }
  return { id, rcode, data: answers?.map((a) => ('data' in a ? a.data : undefined)) }
}

const cases = [
  { name: 'internet.lab', type: 'A', rcode: 'NOERROR', data: ['198.51.100.10'] },
  { name: 'Internet.LAB', type: 'A', rcode: 'NOERROR', data: ['198.51.100.10'] },
  { name: 'internet.lab', type: 'AAAA', rcode: 'NOERROR', data: [] },
  { name: 'webpod', type: 'A', rcode: 'NXDOMAIN', data: [] },
] as const
for (const { name, type, rcode, data } of cases) {
  test(`${name} ${type} is ${rcode} ${data.join()}`, () => assert.deepEqual(ask(name, type), { id: 7, rcode, data: [...data] }))
}

test('what is no query gets no answer', () => {
  assert.equal(answer(new Uint8Array([1, 2, 3])), undefined)
  assert.equal(answer(encode({ type: 'response', id: 1, questions: [] })), undefined)
})
