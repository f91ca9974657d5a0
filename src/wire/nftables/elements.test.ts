import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NftElementItem, NftMapItem, NftType } from '#model/kernel.ts'
import { show } from '#model/kernel.ts'
import { formatIp } from '#net/ip.ts'
import { decodeAttributes } from '#wire/netlink.ts'
import { decodeElement, elementItems, encodeElement } from '#wire/nftables/elements.ts'
import { numberOf, partsOf, types, type ValueType } from '#wire/nftables/types.ts'

const at = { family: 'inet', table: 'twill' } as const
const map = (key: readonly NftType[], value?: readonly NftType[], interval?: boolean): NftMapItem => ({
  kind: 'nft-map',
  ...at,
  name: 'm',
  key,
  ...(value && { value }),
  ...(interval && { interval }),
})
const element = (key: readonly string[], value?: readonly string[]): NftElementItem => ({
  kind: 'nft-element',
  ...at,
  map: 'm',
  key,
  ...(value && { value }),
})
const back = (to: NftMapItem, elements: readonly NftElementItem[]): string[] =>
  elementItems(
    to,
    elements.flatMap((each) => decodeAttributes(encodeElement(to, each))).map(({ payload }) => decodeElement(to, payload)),
  ).map(show)

const byteArray = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
const texts: Record<Exclude<NftType, 'verdict'>, fc.Arbitrary<string>> = {
  ipv4_addr: byteArray(4).map(formatIp),
  ipv6_addr: byteArray(16).map(formatIp),
  inet_proto: fc.oneof(fc.constantFrom('tcp', 'udp', 'sctp', 'icmp', 'ipv6-icmp'), fc.constant('47')),
  inet_service: fc.integer({ min: 0, max: 65535 }).map(String),
  mark: fc.nat().map((n) => `0x${n.toString(16).padStart(8, '0')}`),
  ifname: fc.constantFrom('"cni0"', '"flannel.1"', '"abcdefghijklmno"'),
  ether_addr: fc.constantFrom('02:00:00:00:00:01', 'ff:ff:ff:ff:ff:ff'),
  integer: fc.nat().map(String),
}
const partNames = Object.keys(texts) as Exclude<NftType, 'verdict'>[]

test('keys and values of several parts: text to bytes and back', () => {
  const parts = fc.array(fc.constantFrom(...partNames), { minLength: 1, maxLength: 4 })
  const typed = parts.chain((names) => fc.tuple(fc.constant(names), fc.tuple(...names.map((name) => texts[name]))))
  fc.assert(
    fc.property(typed, typed, ([key, keyText], [value, valueText]) => {
      const one = element(keyText, valueText)
      assert.deepEqual(back(map(key, value), [one]), [show(one)])
      assert.deepEqual(back(map(key), [element(keyText)]), [show(element(keyText))])
    }),
  )
})

test("nft's number of a concatenation leads back to its parts", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...partNames), { minLength: 1, maxLength: 5 }), (names) => {
      assert.deepEqual(partsOf(numberOf(names)), names)
    }),
  )
  assert.equal(numberOf(['ipv4_addr', 'inet_proto', 'inet_service']), 0x730d) // as nft 1.0.6 sends it
  assert.equal(partsOf(63), undefined)
})

test('verdicts', () => {
  const to = map(['integer'], ['verdict'])
  for (const verdict of ['accept', 'drop', 'return', 'jump a', 'goto endpoints-2']) {
    assert.deepEqual(back(to, [element(['1'], [verdict])]), [show(element(['1'], [verdict]))])
  }
  assert.throws(() => encodeElement(to, element(['1'], ['goto'])), { code: 'ERR_NFT_VALUE' })
})

const blocks = map(['ipv4_addr'], undefined, true)
test('intervals that touch are told apart again, whatever the order of their halves', () => {
  const keys = ['0.0.0.0/8', '1.0.0.0', '1.0.0.1-1.0.0.6', '10.0.0.0/8', '192.0.2.0/25', '240.0.0.0/4']
  fc.assert(
    fc.property(fc.shuffledSubarray(keys), (some) => {
      const want = some.map((key) => show(element([key]))).toSorted()
      assert.deepEqual(
        back(
          blocks,
          some.map((key) => element([key])),
        ).toSorted(),
        want,
      )
    }),
  )
})
for (const bad of ['10.0.0.1/8', '1.0.0.0-1.0.0.255', '10.0.0.2-10.0.0.1', '10.0.0.1-10.0.0.1', 'fd00::/8', '10.0.0.0/33']) {
  test(`an interval has one text: not ${bad}`, () => assert.throws(() => encodeElement(blocks, element([bad])), { code: 'ERR_NFT_VALUE' }))
}

test('a value that is none of its type is refused', () => {
  const bad: Partial<Record<ValueType, readonly string[]>> = {
    ipv4_addr: ['10.0.0', '::1'],
    inet_service: ['65536', '-1', '080', 'http'],
    inet_proto: ['256', 'TCP'],
    mark: ['1', '0x1', '0x100000000'],
    ifname: ['cni0', '"abcdefghijklmnop"', '""'],
    ether_addr: ['02:00'],
    integer: ['4294967296', ''],
  }
  for (const [type, list] of Object.entries(bad))
    for (const text of list) assert.equal(types[type as ValueType].parse(text), undefined, `${type} ${text}`)
})
