import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CniError, failureAnswer } from '#cni/failure.ts'
import { parseKnownArgs, parseRequest } from '#cni/request.ts'

const env = (more: Record<string, string>): Map<string, string> =>
  new Map(
    Object.entries({
      PLUGIN: 'bridge',
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: 'abc',
      CNI_NETNS: '/run/netns/x',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      ...more,
    }),
  )
const good = '{"cniVersion":"0.3.1","name":"a"}'
const answerOf = (more: Record<string, string>, config: string): unknown => {
  try {
    const call = parseRequest({ env: env(more), config })
    return [call.command, call.version, call.network]
  } catch (error) {
    assert.ok(error instanceof CniError, String(error))
    return JSON.parse(failureAnswer(error).stdout)
  }
}

// Answers of the reference plugins 1.1.1 to the same environment and configuration; where ours must differ, a note says so.
const cases: [string, Record<string, string>, string, unknown][] = [
  ['a good one', {}, good, ['ADD', '0.3.1', 'a']],
  ['keys in any case', {}, '{"CNIVersion":"1.0.0","NAME":"a"}', ['ADD', '1.0.0', 'a']],
  ['no name', {}, '{"cniVersion":"0.3.1"}', { code: 7, msg: 'missing network name' }],
  ['a bad name', {}, '{"cniVersion":"0.3.1","name":"a/b"}', { code: 7, msg: 'invalid characters found in network name', details: 'a/b' }],
  [
    'an unknown version',
    {},
    '{"cniVersion":"9.3.1","name":"a"}',
    {
      code: 1,
      msg: 'incompatible CNI versions',
      details: 'config is "9.3.1", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]',
    },
  ],
  ['no version, which means 0.1.0', {}, '{"name":"a"}', ['ADD', '0.1.0', 'a']],
  ['an empty version, which means 0.1.0', {}, '{"name":"a","cniVersion":""}', ['ADD', '0.1.0', 'a']],
  [
    'a version that is no text',
    {},
    '{"name":"a","cniVersion":1}',
    { code: 6, msg: 'decoding version from network config: json: cannot unmarshal number into Go struct field .cniVersion of type string' },
  ],
  [
    'STATUS needs no container',
    { CNI_COMMAND: 'STATUS', CNI_CONTAINERID: '', CNI_NETNS: '', CNI_IFNAME: '' },
    '{"cniVersion":"1.1.0","name":"a"}',
    ['STATUS', '1.1.0', 'a'],
  ],
  ['a bad container ID', { CNI_CONTAINERID: '/x' }, good, { code: 4, msg: 'invalid characters in containerID', details: '/x' }],
  ['a container ID that climbs', { CNI_CONTAINERID: '..' }, good, { code: 4, msg: 'invalid characters in containerID', details: '..' }],
  ['no container ID', { CNI_CONTAINERID: '' }, good, { code: 4, msg: 'required env variables [CNI_CONTAINERID] missing' }],
  [
    'two missing',
    { CNI_CONTAINERID: '', CNI_NETNS: '' },
    good,
    { code: 4, msg: 'required env variables [CNI_CONTAINERID,CNI_NETNS] missing' },
  ],
  ['DEL needs no namespace', { CNI_COMMAND: 'DEL', CNI_NETNS: '' }, good, ['DEL', '0.3.1', 'a']],
  [
    'a long interface name',
    { CNI_IFNAME: 'abcdefghijklmnopq' },
    good,
    { code: 4, msg: 'interface name is too long', details: 'interface name should be less than 16 characters' },
  ],
  ['a colon in it', { CNI_IFNAME: 'a:b' }, good, { code: 4, msg: 'interface name contains / or : or whitespace characters' }],
  ['a blank in it', { CNI_IFNAME: 'a b' }, good, { code: 4, msg: 'interface name contains / or : or whitespace characters' }],
  ['a dot for it', { CNI_IFNAME: '.' }, good, { code: 4, msg: 'interface name is . or ..' }],
  ['CHECK before 0.4.0', { CNI_COMMAND: 'CHECK' }, good, { code: 1, msg: 'config version does not allow CHECK' }],
  [
    'STATUS before 1.1.0',
    { CNI_COMMAND: 'STATUS' },
    '{"cniVersion":"1.0.0","name":"a"}',
    { code: 1, msg: 'config version does not allow STATUS' },
  ],
  ['GC before 1.1.0', { CNI_COMMAND: 'GC' }, good, { code: 1, msg: 'config version does not allow GC' }],
  ['another command', { CNI_COMMAND: 'FOO' }, good, { code: 4, msg: 'unknown CNI_COMMAND: FOO' }],
]
for (const [name, more, config, want] of cases) test(`request: ${name}`, () => assert.deepEqual(answerOf(more, config), want))

test('what is no JSON object is code 6 with the text that runtimes show', () => {
  for (const config of ['', '{x', '[]', '{"name":5}']) {
    const got = answerOf({}, config) as { code: number; msg: string }
    assert.equal(got.code, 6, config)
    assert.match(got.msg, /^error unmarshall network config: /)
  }
})

test('CNI_ARGS: unknown keys are errors unless IgnoreUnknown says otherwise, in any order', () => {
  assert.throws(() => parseKnownArgs('Ax=b', ['IP']), { message: 'ARGS: unknown args ["Ax=b"]' })
  assert.throws(() => parseKnownArgs('a=b;', ['IP']), { message: 'ARGS: invalid pair ""' })
  assert.throws(() => parseKnownArgs('a=b=c', ['IP']), { message: 'ARGS: invalid pair "a=b=c"' })
  assert.equal(parseKnownArgs('K8S_POD_NAME=x;IP=10.0.0.5;IgnoreUnknown=1', ['IP']).get('IP'), '10.0.0.5')
})
