import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TwillError } from '#base/errors.ts'
import { envName, flagEntries } from '#config/flags.ts'
import { parseBool, parseCommandLine, parseInteger, shownFlags, usage } from '#config/parse.ts'

const problems = (argv: string[], env = {}): readonly string[] => {
  try {
    parseCommandLine(argv, env)
  } catch (error) {
    assert.equal((error as TwillError).code, 'ERR_FLAGS')
    return (error as TwillError).details.problems as string[]
  }
  return []
}

test('the manifest line of Flannel', () => {
  const { flags, ask, rest } = parseCommandLine(['--ip-masq', '--kube-subnet-mgr', '--iface=eth1'], {})
  assert.equal(ask, 'run')
  assert.deepEqual(rest, [])
  assert.equal(flags['ip-masq'], true)
  assert.equal(flags['kube-subnet-mgr'], true)
  assert.deepEqual(flags.iface, ['eth1'])
  assert.equal(flags['subnet-file'], '/run/flannel/subnet.env')
  assert.equal(flags['iptables-forward-rules'], true)
})

test('every flag of the table can be set both ways, from the environment and on the command line', () => {
  const sample = { string: 'x', list: 'x', bool: 'true', int: '7' }
  for (const [name, flag] of flagEntries.filter(([n]) => n !== 'version')) {
    const want = flag.type === 'int' ? 7 : flag.type === 'bool' ? true : flag.type === 'list' ? ['x'] : 'x'
    assert.deepEqual(parseCommandLine([`-${name}=${sample[flag.type]}`], {}).flags[name], want, name)
    assert.deepEqual(parseCommandLine([], { [envName(name)]: sample[flag.type] }).flags[name], want, envName(name))
    if (flag.type !== 'bool') assert.deepEqual(parseCommandLine([`--${name}`, sample[flag.type]], {}).flags[name], want, name)
    assert.match(usage(), new RegExp(`--${name}\\b`))
  }
})

const syntax = [
  {
    name: 'a bool takes no separate word: parsing stops there',
    argv: ['--ip-masq', 'false', '--iface=x'],
    masq: true,
    rest: ['false', '--iface=x'],
  },
  { name: 'a bool with =', argv: ['-ip-masq=F'], masq: false, rest: [] },
  { name: 'a value may look like a flag', argv: ['--iface', '--ip-masq'], masq: false, rest: [] },
  { name: '-- ends the flags', argv: ['--ip-masq', '--', '--iface=x'], masq: true, rest: ['--iface=x'] },
  { name: 'a lone dash is a word', argv: ['-', '--ip-masq'], masq: false, rest: ['-', '--ip-masq'] },
]
for (const { name, argv, masq, rest } of syntax) {
  test(`Go flag syntax: ${name}`, () => {
    const got = parseCommandLine(argv, {})
    assert.equal(got.flags['ip-masq'], masq)
    assert.deepEqual(got.rest, rest)
  })
}

test('repeated flags gather; one value from the environment, without splitting', () => {
  assert.deepEqual(parseCommandLine(['--iface=a', '-iface', 'b'], {}).flags.iface, ['a', 'b'])
  assert.deepEqual(parseCommandLine([], { FLANNELD_IFACE: 'a,b' }).flags.iface, ['a,b'])
})

test('the command line wins; an empty variable is unset; FLANNELD_VERSION does nothing', () => {
  assert.deepEqual(parseCommandLine(['--iface=a'], { FLANNELD_IFACE: 'b' }).flags.iface, ['a'])
  const { flags, ask } = parseCommandLine([], { FLANNELD_HEALTHZ_PORT: '', FLANNELD_VERSION: 'true' })
  assert.equal(flags['healthz-port'], 0)
  assert.equal(ask, 'run')
})

test('help and version', () => {
  assert.equal(parseCommandLine(['-h'], {}).ask, 'help')
  assert.equal(parseCommandLine(['--help', '--nonsense'], {}).ask, 'help')
  assert.equal(parseCommandLine(['--version'], {}).ask, 'version')
})

test('all problems at once, each with name, value and what is allowed', () => {
  assert.deepEqual(
    problems(['--healthz-port=http', '--ifaces=x', '--ip-masq=yes', '--subnet-lease-renew-margin', '0', '--iface-regex=(', '--v'], {
      FLANNELD_IPTABLES_RESYNC: 'abc',
    }),
    [
      '--healthz-port: found "http", allowed is an integer from 0 to 65535',
      '--ifaces: there is no such flag, did you mean --iface?',
      '--ip-masq: found "yes", allowed is true or false',
      '--subnet-lease-renew-margin: found "0", allowed is an integer from 1 to 1439',
      '--v: needs a value, allowed is an integer',
      'FLANNELD_IPTABLES_RESYNC: found "abc", allowed is an integer from 1 to 86400',
      '--iface-regex: found "(", allowed is a regular expression',
    ],
  )
  assert.deepEqual(problems(['---x']), ['---x: not a flag; allowed are -name, --name, --name=value'])
})

test('secrets are never shown', () => {
  const { flags } = parseCommandLine(['--etcd-password=hunter2', '--ip-masq'], {})
  assert.deepEqual(shownFlags(flags), { 'etcd-password': '***', 'ip-masq': true })
})

test('Go booleans and integers', () => {
  const integers: [string, number | undefined][] = [
    ['0', 0],
    ['-12', -12],
    ['0x1F', 31],
    ['0o17', 15],
    ['017', 15],
    ['0b101', 5],
    ['1_000', 1000],
    ['08', undefined],
    ['', undefined],
    ['1.5', undefined],
    ['1e3', undefined],
    [' 1', undefined],
    ['9'.repeat(20), undefined],
  ]
  for (const [text, want] of integers) assert.equal(parseInteger(text), want, text)
  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) assert.equal(parseBool(text), true)
  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) assert.equal(parseBool(text), false)
  for (const text of ['yes', 'tRUE', '']) assert.equal(parseBool(text), undefined)
})
