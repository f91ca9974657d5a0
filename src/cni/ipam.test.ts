import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '#cni/decode.ts'
import { candidates, parseIpam, parseResolvConf } from '#cni/ipam.ts'

const parse = (ipam: JsonObject, args = '', outer: JsonObject = {}) =>
  parseIpam({ cniVersion: '1.0.0', ...outer, ipam }, { type: 'host-local', ...ipam }, args, '/var/lib/cni/networks')
const order = (ipam: JsonObject, last?: string): string[] => [...candidates(parse(ipam).sets[0]!, last)].map(({ ip }) => ip)

// Texts of the reference plugin 1.1.1 for the same configuration.
const refusals: [JsonObject, string][] = [
  [{}, 'no IP ranges specified'],
  [{ subnet: '10.1.0.0/31' }, 'invalid range set 0: Network 10.1.0.0/31 too small to allocate from'],
  [
    { subnet: '10.1.0.1/24' },
    'invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.1.0.0',
  ],
  [{ ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.1.0.0/25' }]] }, 'range set 0 overlaps with 1'],
  [{ ranges: [[{ subnet: '10.1.0.0/24' }, { subnet: '2001:db8::/64' }]] }, 'invalid range set 0: mixed address families'],
  [{ ranges: [[]] }, 'invalid range set 0: empty range set'],
  [{ subnet: '10.1.0.0' }, 'invalid CIDR address: 10.1.0.0'],
  [{ subnet: '10.1.0.0/24', rangeStart: 'x' }, 'invalid IP address: x'],
  [
    { subnet: '10.1.0.0/24', rangeStart: '10.1.0.9', rangeEnd: '10.1.0.8' },
    'invalid range set 0: RangeStart 10.1.0.9 not in network 10.1.0.0/24',
  ],
  [{ subnet: '10.1.0.0/24', routes: [{ dst: '10.0.0.0' }] }, 'invalid CIDR address: 10.0.0.0'],
]
for (const [ipam, message] of refusals) test(`refused: ${message}`, () => assert.throws(() => parse(ipam), { code: 999, message }))

test('the oldest versions have room for one address a family', () => {
  const ranges = [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.2.0.0/24' }]]
  assert.throws(() => parse({ ranges }, '', { cniVersion: '0.2.0' }), {
    message: 'CNI version 0.2.0 does not support more than 1 address per family',
  })
  assert.equal(parse({ ranges }, '', { cniVersion: '0.3.0' }).sets.length, 2)
})

test('another address management is refused by name', () => {
  assert.throws(() => parse({ type: 'dhcp' }), { code: 2, message: /ipam\.type: "dhcp"/ })
})

test('round robin: from the one after the last, gateway left out, the last one last', () => {
  const ipam = { subnet: '10.1.0.0/29' }
  assert.deepEqual(order(ipam), ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '10.1.0.6'])
  assert.deepEqual(order(ipam, '10.1.0.4'), ['10.1.0.5', '10.1.0.6', '10.1.0.2', '10.1.0.3', '10.1.0.4'])
  assert.deepEqual(order(ipam, '10.1.0.6'), ['10.1.0.2', '10.1.0.3', '10.1.0.4', '10.1.0.5', '10.1.0.6'])
  assert.deepEqual(order({ subnet: '10.1.0.0/24', rangeStart: '10.1.0.7', rangeEnd: '10.1.0.9', gateway: '10.1.0.8' }), [
    '10.1.0.7',
    '10.1.0.9',
  ])
  assert.deepEqual(order({ subnet: '2001:db8::/126' }), ['2001:db8::2', '2001:db8::3'])
  const two = { ranges: [[{ subnet: '10.1.0.0/30' }, { subnet: '10.2.0.0/30', gateway: '10.2.0.2' }, { subnet: '10.3.0.0/30' }]] }
  assert.deepEqual(order(two, '10.2.0.1'), ['10.3.0.2', '10.1.0.2', '10.2.0.1'])
})

test('the order of sets and requests: runtimeConfig, flat, ranges; CNI_ARGS, args.cni, runtimeConfig', () => {
  const outer = { runtimeConfig: { ipRanges: [[{ Subnet: '10.3.0.0/24' }]], ips: ['10.3.0.9/24'] }, args: { cni: { ips: ['10.2.0.9'] } } }
  const got = parse({ subnet: '10.1.0.0/24', ranges: [[{ subnet: '10.2.0.0/24' }]], routes: [{ dst: '10.9.9.9/8' }] }, 'IP=10.1.0.9', outer)
  assert.deepEqual(
    got.sets.map((set) => set[0]!.start),
    ['10.3.0.1', '10.1.0.1', '10.2.0.1'],
  )
  assert.deepEqual(got.requested, ['10.1.0.9', '10.2.0.9', '10.3.0.9'])
  assert.deepEqual(got.routes, [{ dst: '10.9.9.9/8' }], 'the result repeats it; the kernel refuses it')
})

test('resolv.conf', () => {
  assert.deepEqual(parseResolvConf('# x\n; y\nnameserver 10.0.0.1\nnameserver  10.0.0.2 \ndomain d\nsearch a b\noptions ndots:5 edns0\n'), {
    nameservers: ['10.0.0.1', '10.0.0.2'],
    domain: 'd',
    search: ['a', 'b'],
    options: ['ndots:5', 'edns0'],
  })
  assert.deepEqual(parseResolvConf(''), {})
})
