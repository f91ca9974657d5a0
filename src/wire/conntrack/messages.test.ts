import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Connection,
  CT_NEW,
  decodeConnection,
  deleteConnection,
  dstPortOf,
  dumpConnections,
  knowsConnections,
} from '#wire/conntrack/messages.ts'

const udp = { src: '10.244.1.2', dst: '10.96.0.10', protocol: 17, srcPort: 40000, dstPort: 53 }
const connection: Connection = { family: 4, original: udp, reply: udp, status: 8, id: 0x01020304, zone: 0 }

test('a filtered list, byte for byte', () => {
  assert.deepEqual(dumpConnections({ family: 4, protocol: 17, dst: '10.96.0.10', dstPort: 53 }), {
    type: 0x101,
    flags: 0,
    body: Uint8Array.fromHex(
      '02000000' + // AF_INET, version 0, resource 0
        '24000180' +
        '0c000180' +
        '080002000a60000a' +
        '14000280' +
        '0500010011000000' +
        '0600030000350000' +
        '0c001980' +
        '080001002a000000', // destination address and port, protocol number
    ),
  })
})

test('a deletion, byte for byte', () => {
  assert.deepEqual(deleteConnection(connection), {
    type: 0x102,
    flags: 4,
    body: Uint8Array.fromHex(
      '02000000' +
        '34000180' +
        '14000180' +
        '080001000af40102' +
        '080002000a60000a' +
        '1c000280' +
        '0500010011000000' +
        '060002009c400000' +
        '0600030000350000' +
        '08000c0001020304',
    ),
  })
  assert.equal(
    deleteConnection({ ...connection, zone: 7 })
      .body.toHex()
      .slice(-16),
    '0600120000070000',
  )
})

test('what a deletion names decodes as it was', () => {
  const port = fc.integer({ min: 0, max: 0xffff })
  const ip = fc.oneof(fc.ipV4(), fc.constantFrom('fd00:96::10', '::1', 'fe80::1'))
  fc.assert(
    fc.property(ip, port, port, fc.integer({ min: 0, max: 0xffffffff }), port, (src, srcPort, dstPort, id, zone) => {
      const family = src.includes(':') ? 6 : 4
      const original = { src, dst: src, protocol: 17, srcPort, dstPort }
      const { body } = deleteConnection({ family, original, reply: original, status: 0, id, zone })
      const { reply: _, ...decoded } = decodeConnection({ type: CT_NEW, flags: 0, seq: 0, pid: 0, body })!
      assert.equal(dstPortOf({ type: CT_NEW, flags: 0, seq: 0, pid: 0, body }), dstPort)
      assert.deepEqual(decoded, { family, original, status: 0, id, zone })
    }),
  )
})

test('another family is none of ours; a cut message is named', () => {
  const message = (body: Uint8Array) => ({ type: CT_NEW, flags: 0, seq: 0, pid: 0, body })
  assert.equal(decodeConnection(message(Uint8Array.of(7, 0, 0, 0))), undefined)
  assert.throws(() => decodeConnection(message(Uint8Array.of(2))), { code: 'ERR_MESSAGE_TRUNCATED' })
  assert.throws(() => decodeConnection(message(Uint8Array.of(2, 0, 0, 0, 9, 0, 1, 0))), { code: 'ERR_MESSAGE_TRUNCATED' })
})

test('a kernel that does not know the subsystem says EINVAL to everything', () => {
  const error = (errno: number) => ({ type: 2, flags: 0, seq: 1, pid: 0, body: new Uint8Array(Int32Array.of(-errno, 20, 0, 0, 0).buffer) })
  assert.deepEqual(
    [error(22), error(1), { ...error(0), type: 0x105 }].map((answer) => knowsConnections(answer)),
    [false, true, true],
  )
})
