import assert from 'node:assert/strict'
import { test } from 'node:test'
import { displaced, parseBridgeConf } from '#cni/bridge.ts'

test('keys match in any case; what is not there is the default of the reference', () => {
  const got = parseBridgeConf({ ISDEFAULTGATEWAY: true, HairpinMode: true, mtu: -1, RuntimeConfig: { Mac: 'C2:11:22:33:44:55' } }, '')
  assert.deepEqual(
    [got.bridge, got.isGateway, got.hairpin, got.mtu, got.mac, got.layer3],
    ['cni0', true, true, 0, 'c2:11:22:33:44:55', false],
  )
})

test('a MAC: runtimeConfig before args.cni before CNI_ARGS', () => {
  const [a, b, c] = ['0a:00:00:00:00:01', '0a:00:00:00:00:02', '0a:00:00:00:00:03']
  assert.equal(parseBridgeConf({ runtimeConfig: { mac: a }, args: { cni: { mac: b } } }, `MAC=${c}`).mac, a)
  assert.equal(parseBridgeConf({ args: { cni: { mac: b } } }, `MAC=${c}`).mac, b)
  assert.equal(parseBridgeConf({}, `MAC=${c}`).mac, c)
})

const refusals: [object, number, RegExp][] = [
  [{ hairpinMode: true, promiscMode: true }, 999, /^cannot set hairpin mode and promiscuous mode at the same time$/],
  [{ disableContainerInterface: true, ipam: { type: 'host-local' } }, 999, /^cannot use IPAM when DisableContainerInterface flag is set$/],
  [{ vlan: 4095 }, 999, /^invalid VLAN ID 4095 \(must be between 0 and 4094\)$/],
  [{ vlan: 5 }, 2, /^unsupported field vlan: 5: /],
  [{ vlanTrunk: [{ id: 5 }] }, 2, /^unsupported field vlanTrunk: /],
  [{ macspoofchk: true }, 2, /^unsupported field macspoofchk: true: /],
  [{ runtimeConfig: { mac: 'zz' } }, 999, /invalid MAC address$/],
]
for (const [conf, code, message] of refusals) {
  test(`refused: ${JSON.stringify(conf)}`, () => assert.throws(() => parseBridgeConf(conf as never, ''), { code, message }))
}

const moves: [string, string[], string[], string[] | RegExp][] = [
  ['a new bridge', [], ['10.1.0.1/24', '2001:db8::1/64'], []],
  ['as it is', ['10.1.0.1/24'], ['10.1.0.1/24'], []],
  ['another IPv4 address', ['10.2.0.1/24'], ['10.1.0.1/24'], /"cni0" already has an IP address different from 10\.1\.0\.1\/24/],
  ['IPv6 subnets side by side', ['2001:db8:1::1/64'], ['2001:db8::1/64'], []],
  ['an IPv6 subnet within another', ['2001:db8::9/32'], ['2001:db8::1/64'], /different from 2001:db8::1\/64/],
  ['two IPv4 gateways of one pod', [], ['10.1.0.1/24', '10.2.0.1/24'], /different from 10\.2\.0\.1\/24/],
]
for (const [name, have, gateways, want] of moves) {
  test(`addresses of a bridge: ${name}`, () => {
    if (Array.isArray(want)) return assert.deepEqual(displaced('cni0', have, gateways, false), want)
    assert.throws(() => displaced('cni0', have, gateways, false), want)
    assert.deepEqual(displaced('cni0', have, gateways, true), have.length > 0 ? have : [gateways[0]], 'forceAddress')
  })
}
