import assert from 'node:assert/strict'
import { test } from 'node:test'
import { echoRequest, ethernet, ipv4, isReply, vxlan } from '#wire/packet.ts'

const echo = echoRequest({ id: 0x1234, seq: 7 }, 4)
const packet = ipv4({ from: '192.0.2.1', to: '192.0.2.2' }, echo)

test('an echo request in IPv4: lengths, DF and both checksums (RFC 1071: the sum of all words is ffff)', () => {
  const sum = (bytes: Uint8Array): number => {
    let total = 0
    for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
    while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
    return total
  }
  assert.equal(packet.subarray(0, 10).toHex(), '45000020000040004001')
  assert.equal(packet.subarray(12, 20).toHex(), 'c0000201c0000202')
  assert.equal(sum(packet.subarray(0, 20)), 0xffff)
  assert.equal(sum(echo), 0xffff)
  assert.equal(echo.toHex(), `0800${echo.subarray(2, 4).toHex()}1234000700000000`)
})

test('a frame in vxlan: VNI in 24 bits, then Ethernet', () => {
  const frame = ethernet({ from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }, packet)
  assert.equal(frame.subarray(0, 14).toHex(), '0200000000020200000000010800')
  assert.equal(vxlan(0x010203, frame).subarray(0, 10).toHex(), '08000000010203000200')
})

test('a reply is one only from the right host, with the right numbers', () => {
  const reply = ipv4({ from: '192.0.2.2', to: '192.0.2.1' }, Uint8Array.of(0, 0, 0, 0, 0x12, 0x34, 0, 7))
  const asked = { id: 0x1234, seq: 7 }
  assert.equal(isReply(reply, '192.0.2.2', asked), true)
  assert.equal(isReply(reply, '192.0.2.3', asked), false)
  assert.equal(isReply(reply, '192.0.2.2', { id: 0x1234, seq: 8 }), false)
  assert.equal(isReply(packet, '192.0.2.1', asked), false)
  assert.equal(isReply(reply.subarray(0, 22), '192.0.2.2', asked), false)
})
