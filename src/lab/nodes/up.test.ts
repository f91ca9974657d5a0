import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { untilReady } from '#lab/nodes/up.ts'

test('a node that says ready is heard at once, though its stream stays open', async () => {
  const stream = new PassThrough()
  stream.write('pid 17\n')
  stream.write('ready\n')
  assert.deepEqual(await untilReady(stream, 60_000), { said: 'pid 17\nready\n', late: false })
})

test('one that ends before it was ready is told by what it said', async () => {
  const stream = new PassThrough()
  stream.end('pid 17\n')
  assert.deepEqual(await untilReady(stream, 60_000), { said: 'pid 17\n', late: false })
})

test('one that hangs is given up at the deadline', async () => {
  const stream = new PassThrough()
  stream.write('pid 17\n')
  assert.deepEqual(await untilReady(stream, 20), { said: 'pid 17\n', late: true })
})
