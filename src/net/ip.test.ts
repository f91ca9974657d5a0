import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { addToIp, canonicalIp, canonicalNetwork, compareIp, contains, formatIp, parseCidr, parseIp } from '#net/ip.ts'

test('every address the platform knows is parsed, and nothing else', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: fc.constantFrom(...'0123456789abcdef:.'.split('')), maxLength: 40 })),
      (text) => {
        assert.equal(parseIp(text)?.family ?? 0, isIP(text))
      },
    ),
    { numRuns: 2000 },
  )
})

test('printing is canonical: what the URL parser prints for IPv6', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const text = formatIp(bytes)
      assert.deepEqual(parseIp(text)?.bytes, bytes)
      if (!text.includes('.')) assert.equal(`[${text}]`, new URL(`http://[${text}]/`).hostname)
    }),
  )
})

const networks = [
  { text: '10.244.1.7/24', want: '10.244.1.0/24' },
  { text: '10.244.1.7/0', want: '0.0.0.0/0' },
  { text: '10.244.255.7/17', want: '10.244.128.0/17' },
  { text: '10.244.1.7/32', want: '10.244.1.7/32' },
  { text: '2001:db8:42:1::5/61', want: '2001:db8:42::/61' },
  { text: '10.244.1.7', want: undefined },
  { text: '10.244.1.7/33', want: undefined },
  { text: '10.244.01.7/24', want: undefined },
]
for (const { text, want } of networks) test(`the network of ${text} is ${want}`, () => assert.equal(canonicalNetwork(text), want))

test('containment, arithmetic, order', () => {
  const outer = parseCidr('10.244.0.0/16')!
  assert.ok(contains(outer, parseCidr('10.244.255.0/24')!))
  assert.ok(contains(outer, parseIp('10.244.0.0')!))
  assert.ok(!contains(outer, parseCidr('10.0.0.0/8')!))
  assert.ok(!contains(outer, parseIp('10.245.0.0')!))
  assert.ok(!contains(parseCidr('::/0')!, parseIp('10.244.0.0')!))
  assert.equal(formatIp(addToIp(parseIp('10.244.0.255')!.bytes, 1)!), '10.244.1.0')
  assert.equal(formatIp(addToIp(parseIp('10.244.1.0')!.bytes, -1)!), '10.244.0.255')
  assert.equal(addToIp(parseIp('255.255.255.255')!.bytes, 1), undefined)
  assert.deepEqual(['10.0.0.10', '10.0.0.9', '::1'].toSorted(compareIp), ['10.0.0.9', '10.0.0.10', '::1'])
  assert.equal(canonicalIp('2001:DB8::0:1'), '2001:db8::1')
})
