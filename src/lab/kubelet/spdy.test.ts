import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  controlFrame,
  cutFrames,
  dataFrame,
  dictionary,
  HeaderCodec,
  packHeaders,
  SpdyServer,
  type,
  unpackHeaders,
} from '#lab/kubelet/spdy.ts'

test('the dictionary is SPDY/3’s, byte for byte', () => {
  assert.equal(dictionary.length, 1423)
  const sum = createHash('sha256').update(dictionary).digest('hex')
  assert.equal(sum, '51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02')
})

test('frames are found whatever the pieces they come in', () => {
  const frames = [
    controlFrame(type.ping, Buffer.of(0, 0, 0, 1)),
    dataFrame(3, Buffer.from('hello')),
    dataFrame(3, Buffer.alloc(0), 1),
    dataFrame(5, Buffer.alloc(70_000, 7)),
  ]
  const all = Buffer.concat(frames)
  const want = cutFrames(all).frames.map(({ type: kind, stream, flags, payload }) => [kind, stream, flags, payload.length])
  assert.deepEqual(want, [
    [6, 0, 0, 4],
    [undefined, 3, 0, 5],
    [undefined, 3, 1, 0],
    [undefined, 5, 0, 70_000],
  ])
  fc.assert(
    fc.property(fc.nat(all.length), fc.nat(all.length), (a, b) => {
      const [first, second] = [Math.min(a, b), Math.max(a, b)]
      let rest: Buffer = Buffer.alloc(0)
      const seen: number[] = []
      for (const piece of [all.subarray(0, first), all.subarray(first, second), all.subarray(second)]) {
        const cut = cutFrames(Buffer.concat([rest, piece]))
        rest = cut.rest
        seen.push(...cut.frames.map(({ payload }) => payload.length))
      }
      assert.deepEqual(seen, [4, 5, 0, 70_000])
      assert.equal(rest.length, 0)
    }),
  )
})

test('headers come back as they were, block after block of one zlib stream; a length that lies is refused', async () => {
  const [ours, theirs] = [new HeaderCodec(), new HeaderCodec()]
  for (const headers of [
    new Map([
      ['streamtype', 'error'],
      ['port', '80'],
    ]),
    new Map<string, string>(),
    new Map([['requestid', '1']]),
  ])
    assert.deepEqual(await theirs.unpack(await ours.pack(headers)), headers)
  const lying = packHeaders(new Map([['a', 'b']]))
  lying.writeUInt32BE(1000, 4)
  assert.throws(() => unpackHeaders(lying), RangeError)
})

test('a stream is opened, answered, echoed and ended; a ping comes back; what is reset is forgotten', async () => {
  const sent: Buffer[] = []
  const opened: string[] = []
  const server = new SpdyServer(
    (bytes, done) => {
      sent.push(bytes)
      done?.()
    },
    ({ headers, bytes }) => {
      opened.push(headers.get('port')!)
      bytes.pipe(bytes)
    },
  )
  const client = new HeaderCodec()
  const block = await client.pack(new Map([['port', '80']]))
  await server.feed(controlFrame(type.synStream, Buffer.concat([Buffer.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0), block])))
  await server.feed(controlFrame(type.ping, Buffer.of(0, 0, 0, 7)))
  const echoed = new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const { frames } = cutFrames(Buffer.concat(sent))
      if (!frames.some((frame) => frame.type === undefined && frame.flags === 1)) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
  await server.feed(dataFrame(1, Buffer.from('echo'), 1))
  await echoed
  const { frames } = cutFrames(Buffer.concat(sent))
  assert.deepEqual(
    frames.map((frame) => [frame.type, frame.stream, frame.flags]),
    [
      [type.synReply, 0, 0],
      [type.ping, 0, 0],
      [undefined, 1, 0],
      [undefined, 1, 1],
    ],
  )
  assert.equal(frames[2]!.payload.toString(), 'echo')
  assert.deepEqual(opened, ['80'])
  await server.feed(dataFrame(9, Buffer.from('late')))
  assert.equal(sent.length, 4)
})
