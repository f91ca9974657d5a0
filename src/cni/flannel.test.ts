import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { JsonObject } from '#cni/decode.ts'
import { delegateConf, loadScratch, loadSubnetEnv, parseFlannelConf, removeScratch, saveScratch } from '#cni/flannel.ts'
import { parseSubnetEnv } from '#cni/subnet-env.ts'

const paths = { subnetFile: '/run/flannel/subnet.env', dataDir: '/var/lib/cni/flannel' }
const stock: JsonObject = { name: 'cbr0', cniVersion: '0.3.1', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const v4 = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
const v6 = 'FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42:1::1/64\n'
const delegate = (conf: JsonObject, env: string): string =>
  delegateConf({ network: 'cbr0', conf }, parseFlannelConf(conf, paths), parseSubnetEnv(env, 'subnet.env'))

const cases: [string, JsonObject, string, string][] = [
  [
    'the stock conflist',
    stock,
    v4,
    '{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.1.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}',
  ],
  [
    'dual stack',
    stock,
    v6 + v4,
    '{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"2001:cafe:42:1::/64"}]],"routes":[{"dst":"10.244.0.0/16"},{"dst":"2001:cafe:42::/56"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}',
  ],
  [
    'what the delegate says wins; ranges never; routes add up; < is escaped as Go does',
    {
      ...stock,
      Delegate: { mtu: 9000, ipMasq: false, isGateway: false, note: '<&>' },
      ipam: { dataDir: '/x', ranges: [], routes: [{ dst: '192.0.2.0/24' }] },
      runtimeConfig: { mac: '02:00:00:00:00:09' },
    },
    v4.replace('IPMASQ=true', 'IPMASQ=yes'),
    '{"cniVersion":"0.3.1","ipMasq":false,"ipam":{"dataDir":"/x","ranges":[[{"subnet":"10.244.1.0/24"}]],"routes":[{"dst":"192.0.2.0/24"},{"dst":"10.244.0.0/16"}],"type":"host-local"},"isGateway":false,"mtu":9000,"name":"cbr0","note":"\\u003c\\u0026\\u003e","runtimeConfig":{"mac":"02:00:00:00:00:09"},"type":"bridge"}',
  ],
  [
    'a daemon that does not masquerade leaves it to the delegate; a delegate of another type gets no isGateway',
    { name: 'cbr0', delegate: { type: 'ptp' } },
    v4.replace('IPMASQ=true', 'IPMASQ=false'),
    '{"ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.244.1.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"mtu":1450,"name":"cbr0","type":"ptp"}',
  ],
]
for (const [name, conf, env, want] of cases) test(`delegate: ${name}`, () => assert.equal(delegate(conf, env), want))

test('the delegate of real Flannel for the same subnet.env is ours', () => {
  // From the scratch files of a node that ran flanneld v0.27.1 and its plugin.
  const real =
    '{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}'
  assert.equal(delegate(stock, v4.replace('10.244.1.1', '10.244.0.1')), real)
})

test('what the delegate may not say', () => {
  for (const [key, value] of Object.entries({ name: 'x', ipam: {}, type: 5 })) {
    assert.throws(() => parseFlannelConf({ ...stock, delegate: { [key]: value } }, paths), /'delegate' dictionary/, key)
  }
})

const envs: [string, string, RegExp][] = [
  ['nothing', '', /^subnet\.env is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ$/],
  ['blanks are not trimmed', v4.replace('FLANNEL_MTU', ' FLANNEL_MTU'), /is missing FLANNEL_MTU$/],
  ['no CIDR', v4.replace('/24', ''), /FLANNEL_SUBNET is "10\.244\.1\.1": expected a CIDR/],
  ['no number', v4.replace('1450', '1450b'), /FLANNEL_MTU is "1450b"/],
]
for (const [name, content, want] of envs) {
  test(`subnet.env: ${name}`, () => assert.throws(() => parseSubnetEnv(content, 'subnet.env'), { message: want }))
}

test('subnet.env: comma lists, duplicates, unknown keys', () => {
  const env = parseSubnetEnv(`X=1\n${v4.replace('10.244.0.0/16', '10.244.0.0/16,10.9.0.0/16,10.244.0.0/16')}`, 'f')
  assert.deepEqual(env, { networks: ['10.244.0.0/16', '10.9.0.0/16'], subnets: ['10.244.1.0/24'], mtu: 1450, ipMasq: true })
})

test('without subnet.env the text is the one people search for', () => {
  assert.throws(() => loadSubnetEnv('/nonexistent/subnet.env'), {
    code: 999,
    message:
      "failed to load flannel 'subnet.env' file: open /nonexistent/subnet.env: no such file or directory. Check the flannel pod log for this node.",
  })
})

test('the scratch file: place, mode, exact bytes; torn ones count as absent', async () => {
  const root = mkdtempSync(join(tmpdir(), 'twill-scratch-'))
  try {
    const dir = join(root, 'flannel')
    await saveScratch(dir, 'abc', '{"name":"cbr0"}')
    assert.equal(readFileSync(join(dir, 'abc'), 'utf8'), '{"name":"cbr0"}')
    assert.equal(statSync(join(dir, 'abc')).mode & 0o777, 0o600)
    assert.equal(statSync(dir).mode & 0o777, 0o700)
    assert.deepEqual(loadScratch(dir, 'abc'), { name: 'cbr0' })
    for (const torn of ['', '{"na', '[]', 'null']) {
      writeFileSync(join(dir, 'torn'), torn)
      assert.equal(loadScratch(dir, 'torn'), undefined, torn)
    }
    removeScratch(dir, 'abc')
    removeScratch(dir, 'abc')
    assert.equal(loadScratch(dir, 'abc'), undefined)
    mkdirSync(join(dir, 'dir'))
    assert.throws(() => loadScratch(dir, 'dir'))
  } finally {
    rmSync(root, { recursive: true })
  }
})
