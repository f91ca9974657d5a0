import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TwillError } from '#base/errors.ts'
import { FLANNEL_BACKENDS, type Keys, parseNetConf } from '#config/net-conf.ts'
import { annotationPrefix } from '#config/prefix.ts'

/** One backend with a key of each type; what it makes is what it read. */
const backends = new Map([
  [
    'vxlan',
    { configure: (keys: Keys) => ({ type: keys.text('Type'), vni: keys.int('VNI', 0, 2 ** 24 - 1), learning: keys.bool('Learning') }) },
  ],
])
const parse = (value: unknown) => parseNetConf(typeof value === 'string' ? value : JSON.stringify(value), 'net-conf.json', backends)
const failure = (value: unknown): { code: string; problems: unknown } => {
  try {
    parse(value)
  } catch (error) {
    const e = error as TwillError
    return { code: e.code, problems: e.details.problems }
  }
  return { code: 'none', problems: [] }
}

test('the manifest of Flannel', () => {
  assert.deepEqual(parse({ Network: '10.244.0.0/16', EnableNFTables: false, Backend: { Type: 'vxlan' } }), {
    network: '10.244.0.0/16',
    enableIPv4: true,
    enableNFTables: false,
    backend: { type: 'vxlan', vni: undefined, learning: undefined },
  })
})

test('keys match in any case, host bits are masked, unknown keys and null are ignored, the last of two wins', () => {
  const text =
    '{"network":"10.1.2.3/16","ENABLEIPV4":true,"other":{},"SubnetLen":null,"backend":{"TYPE":"VXLAN","vni":5,"VNI":6,"learninG":true,"Name":"x"}}'
  const conf = parse(text)
  assert.equal(conf.network, '10.1.0.0/16')
  assert.deepEqual(conf.backend, { type: 'VXLAN', vni: 6, learning: true })
})

const cases = [
  { name: 'not JSON', text: '{', want: [/^not JSON: /] },
  { name: 'not an object', text: '[]', want: [/found \[\], allowed is a JSON object/] },
  {
    name: 'wrong types, all at once',
    text: '{"Network":1,"EnableIPv4":"true","Backend":{"Type":"vxlan","VNI":"1","Learning":0}}',
    want: [
      /^Network: found 1, allowed is a text$/,
      /^EnableIPv4: found "true", allowed is true or false$/,
      /^Backend.VNI: found "1", allowed is an integer from 0 to 16777215$/,
      /^Backend.Learning: found 0, allowed is true or false$/,
    ],
  },
  {
    name: 'an IPv6 Network',
    text: '{"Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
    want: [/^Network: found "fd00::\/48", allowed is an IPv4 CIDR/],
  },
  { name: 'no Network', text: '{"Backend":{"Type":"vxlan"}}', want: [/^Network: found null/] },
  { name: 'no family', text: '{"EnableIPv4":false,"Backend":{"Type":"vxlan"}}', want: [/^EnableIPv4: found false/] },
  {
    name: 'a Backend without Type',
    text: '{"Network":"10.244.0.0/16","Backend":{}}',
    want: [/^Backend.Type: found null, allowed is vxlan$/],
  },
  { name: 'an unknown Type', text: '{"Network":"10.244.0.0/16","Backend":{"Type":"geneve"}}', want: [/^Backend.Type: found "geneve"/] },
]
for (const { name, text, want } of cases) {
  test(`net-conf.json: ${name}`, () => {
    const { code, problems } = failure(text)
    assert.equal(code, 'ERR_NET_CONF')
    const found = problems as string[]
    for (const pattern of want)
      assert.ok(
        found.some((p) => pattern.test(p)),
        `${pattern} in ${JSON.stringify(found)}`,
      )
    assert.ok(found.length >= want.length)
  })
}

test('each backend to come answers by its name, udp also as the default of an absent Backend', () => {
  for (const type of FLANNEL_BACKENDS.filter((t) => t !== 'vxlan')) {
    assert.equal(failure({ Network: '10.244.0.0/16', Backend: { Type: type.toUpperCase() } }).code, 'ERR_BACKEND_TO_COME')
  }
  assert.throws(() => parse({ Network: '10.244.0.0/16' }), /Backend.Type "udp" is a Flannel backend/)
  assert.equal(failure({ Network: '10.244.0.0/16', EnableIPv6: true, Backend: { Type: 'vxlan' } }).code, 'ERR_FAMILY_TO_COME')
})

test('annotation prefix', () => {
  assert.equal(annotationPrefix('flannel.alpha.coreos.com'), 'flannel.alpha.coreos.com/')
  assert.equal(annotationPrefix('flannel.alpha.coreos.com/'), 'flannel.alpha.coreos.com/')
  assert.equal(annotationPrefix('foo.com/x'), 'foo.com/x-')
  assert.equal(annotationPrefix('foo.com/x-'), 'foo.com/x-')
  assert.equal(annotationPrefix('Foo.com'), 'Foo.com/') // unanchored on the left, as Flannel
  for (const bad of ['a/b/c', 'foo', '', 'foo/x']) assert.throws(() => annotationPrefix(bad), { code: 'ERR_ANNOTATION_PREFIX' }, bad)
})
