import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CniResult, parseResult, passedOn, printResult } from '#cni/result.ts'
import { supportedVersions } from '#cni/version.ts'

const both: CniResult = {
  interfaces: [{ name: 'eth0', mac: '0a:58:0a:f4:01:05', mtu: 1450, sandbox: '/run/netns/x' }],
  ips: [
    { interface: 0, address: '10.244.1.5/24', gateway: '10.244.1.1' },
    { interface: 0, address: '2001:db8::5/64' },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.244.1.1' }, { dst: '2001:db8:1::/48', priority: 7 }, { dst: '10.0.0.0/8' }],
  dns: { nameservers: ['10.96.0.10'] },
}

const forms: [string, object][] = [
  [
    '0.2.0',
    {
      cniVersion: '0.2.0',
      ip4: { ip: '10.244.1.5/24', gateway: '10.244.1.1', routes: [{ dst: '0.0.0.0/0', gw: '10.244.1.1' }, { dst: '10.0.0.0/8' }] },
      ip6: { ip: '2001:db8::5/64', routes: [{ dst: '2001:db8:1::/48', priority: 7 }] },
      dns: { nameservers: ['10.96.0.10'] },
    },
  ],
  [
    '0.4.0',
    {
      cniVersion: '0.4.0',
      interfaces: [{ name: 'eth0', mac: '0a:58:0a:f4:01:05', sandbox: '/run/netns/x' }],
      ips: [
        { version: '4', interface: 0, address: '10.244.1.5/24', gateway: '10.244.1.1' },
        { version: '6', interface: 0, address: '2001:db8::5/64' },
      ],
      routes: both.routes,
      dns: { nameservers: ['10.96.0.10'] },
    },
  ],
  ['1.1.0', { cniVersion: '1.1.0', dns: both.dns, interfaces: both.interfaces, ips: both.ips, routes: both.routes }],
]
for (const [version, want] of forms) {
  test(`a result in ${version}, member for member`, () =>
    assert.equal(printResult(both, version as '1.1.0'), JSON.stringify(want, null, 4)))
}

test('what a version prints it reads back', () => {
  for (const version of supportedVersions) {
    const text = printResult(both, version)
    assert.equal(printResult(parseResult(JSON.parse(text), version), version), text, version)
  }
})

test('the oldest form loses routes of a family without an address, and cannot say that there is none', () => {
  const v6: CniResult = { interfaces: [], ips: [{ address: '2001:db8::5/64' }], routes: [{ dst: '10.0.0.0/8' }, { dst: '::/0' }], dns: {} }
  assert.deepEqual(passedOn(v6, '0.1.0').routes, [{ dst: '::/0' }])
  assert.deepEqual(passedOn(v6, '0.3.0').routes, v6.routes)
  assert.throws(() => printResult({ ...v6, ips: [] }, '0.2.0'), { code: 999, message: 'cannot convert: no valid IP addresses' })
})

test('a prevResult of another version is refused, one without a version is taken', () => {
  assert.throws(() => parseResult({ cniVersion: '1.0.0' }, '1.1.0'), /result type supports \[1\.1\.0\]/)
  assert.deepEqual(parseResult({ ips: [{ address: '10.0.0.5/8' }] }, '1.1.0').ips, [{ address: '10.0.0.5/8' }])
})
