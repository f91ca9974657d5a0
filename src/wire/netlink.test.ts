import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  afterHeader,
  attr,
  attributeAt,
  attributeMap,
  concat,
  decodeAck,
  decodeAttributes,
  decodeMessages,
  encodeRequests,
  read,
} from '#wire/netlink.ts'

const bytes = fc.uint8Array({ maxLength: 40 })
const u16 = fc.integer({ min: 0, max: 0xffff })
const plain = { noNullPrototype: true }
const truncated = { code: 'ERR_MESSAGE_TRUNCATED' }

test('an attribute, byte for byte', () => {
  assert.deepEqual([...attr.string(3, 'lo')], [7, 0, 3, 0, 0x6c, 0x6f, 0, 0])
  assert.deepEqual([...attr.u8(7, 1)], [5, 0, 7, 0, 1, 0, 0, 0])
  assert.deepEqual([...attr.u16(7, 0x1234)], [6, 0, 7, 0, 0x34, 0x12, 0, 0])
  assert.deepEqual([...attr.u32(4, 0x12345678)], [8, 0, 4, 0, 0x78, 0x56, 0x34, 0x12])
  assert.deepEqual([...attr.be16(15, 8472)], [6, 0, 15, 0, 0x21, 0x18, 0, 0])
  assert.deepEqual([...attr.be32(15, 0x12345678)], [8, 0, 15, 0, 0x12, 0x34, 0x56, 0x78])
  assert.deepEqual([...attr.be64(1, 0x0102030405060708n)], [12, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8])
  assert.deepEqual([...attr.flag(23)], [4, 0, 23, 0])
  assert.deepEqual([...attr.nest(18, attr.u8(1, 2))], [12, 0, 18, 0x80, 5, 0, 1, 0, 2, 0, 0, 0])
})

test('a batch, byte for byte: numbered, padded, always a request', () => {
  const batch = encodeRequests(
    [
      { type: 16, flags: 4, body: Uint8Array.of(1) },
      { type: 17, flags: 0, body: new Uint8Array() },
    ],
    0xffffffff,
  )
  assert.deepEqual(
    [...batch],
    [17, 0, 0, 0, 16, 0, 5, 0, 255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 17, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  )
})

test('one attribute is found through its nests, and is what a full decoding finds', () => {
  const type = fc.integer({ min: 0, max: 5 })
  const leaf = fc.record({ type, payload: bytes }, plain)
  fc.assert(
    fc.property(
      fc.array(fc.record({ type, inner: fc.array(leaf, { maxLength: 4 }) }, plain), { maxLength: 4 }),
      type,
      type,
      (nests, a, b) => {
        const all = concat(...nests.map((nest) => attr.nest(nest.type, ...nest.inner.map((each) => attr.bytes(each.type, each.payload)))))
        const want = nests.find((nest) => nest.type === a)?.inner.find((each) => each.type === b)?.payload
        assert.deepEqual(attributeAt(all, a, b), want)
      },
    ),
  )
  assert.throws(() => attributeAt(Uint8Array.of(9, 0, 1, 0), 1), truncated)
  assert.throws(() => attributeAt(Uint8Array.of(3, 0, 1, 0), 1), truncated)
})

test('what is encoded is what is decoded', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ type: fc.integer({ min: 0, max: 0x3fff }), payload: bytes }, plain)), (list) => {
      const all = concat(...list.map(({ type, payload }) => attr.bytes(type, payload)))
      assert.deepEqual(decodeAttributes(all), list)
      const nested = decodeAttributes(attr.nest(9, all))[0]!
      assert.deepEqual([nested.type, [...nested.payload]], [9, [...all]])
    }),
  )
  fc.assert(
    fc.property(fc.array(fc.record({ type: u16, flags: u16, body: bytes }, plain)), (list) => {
      const decoded = decodeMessages(encodeRequests(list, 7))
      assert.deepEqual(
        decoded.map(({ type, flags, seq, body }) => ({ type, flags, seq, body })),
        list.map(({ type, flags, body }, i) => ({ type, flags: flags | 1, seq: 7 + i, body })),
      )
    }),
  )
})

test('any bytes are decoded or refused, never read past their end', () => {
  for (const decode of [decodeMessages, decodeAttributes]) {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (input) => {
        try {
          decode(input)
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'ERR_MESSAGE_TRUNCATED')
        }
      }),
      { numRuns: 1000 },
    )
  }
})

const cut: { name: string; decode: () => unknown }[] = [
  { name: 'a message whose length runs past the end', decode: () => decodeMessages(Uint8Array.of(17, ...new Uint8Array(15))) },
  { name: 'a message length under 16 (which would never end)', decode: () => decodeMessages(new Uint8Array(16)) },
  { name: 'an attribute length under 4', decode: () => decodeAttributes(Uint8Array.of(3, 0, 1, 0)) },
  { name: 'an attribute that runs past the end', decode: () => decodeAttributes(Uint8Array.of(9, 0, 1, 0, 1, 2, 3, 4)) },
  { name: 'a fixed header cut short', decode: () => afterHeader(new Uint8Array(15), 16, 'a link message') },
  { name: 'an integer cut short', decode: () => read.u32(new Uint8Array(3)) },
]
for (const { name, decode } of cut) test(`refused: ${name}`, () => assert.throws(decode, truncated))

test('an attribute holds 65,531 bytes and no more', () => {
  assert.equal(decodeAttributes(attr.bytes(1, new Uint8Array(65531)))[0]!.payload.length, 65531)
  assert.throws(() => attr.bytes(1, new Uint8Array(65532)), { code: 'ERR_FIELD_TOO_LONG' })
})

test('of a repeated type the last attribute counts; a string ends at its NUL or with the payload', () => {
  assert.deepEqual([...attributeMap(concat(attr.u8(1, 1), attr.u8(1, 2))).get(1)!], [2])
  assert.equal(read.string(Uint8Array.of(0x6c, 0x6f, 0, 0x78)), 'lo')
  assert.equal(read.string(Uint8Array.of(0x6c, 0x6f)), 'lo')
})

const NLMSG_ERROR = 2
const CAPPED = 0x100
const TLVS = 0x200
const s32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer)
/** The request as it is echoed: 20 bytes, of which the body is left out when capped. */
const header = Uint8Array.of(20, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0)
const extended = concat(attr.string(1, 'Unknown device type'), attr.u32(2, 36))

test('acks: success, an errno, the kernel’s own words behind a whole or a capped echo', () => {
  const ack = (flags: number, ...parts: Uint8Array[]) => decodeAck({ type: NLMSG_ERROR, flags, seq: 1, pid: 0, body: concat(...parts) })
  assert.deepEqual(ack(CAPPED, s32(0), header), { errno: 0 })
  assert.deepEqual(ack(0, s32(-19), header, s32(0)), { errno: 19 })
  const full = { errno: 95, message: 'Unknown device type', offset: 36 }
  assert.deepEqual(ack(TLVS | CAPPED, s32(-95), header, extended), full)
  assert.deepEqual(ack(TLVS, s32(-95), header, s32(0), extended), full)
  // NLMSG_DONE of a dump that failed: no request is echoed.
  assert.deepEqual(decodeAck({ type: 3, flags: TLVS, seq: 1, pid: 0, body: concat(s32(-95), extended) }), full)
  assert.throws(() => ack(0), truncated)
})
