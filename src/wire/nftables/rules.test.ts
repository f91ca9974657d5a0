import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileRule, decompileRule } from '#wire/nftables/rules.ts'

const addresses = ['10.244.1.0/24', '10.0.0.0/8', '10.0.0.0/12', '0.0.0.0/0', '192.0.2.1']
const selector4 = fc.constantFrom('ip saddr', 'ip daddr', 'ct original ip saddr', 'ct original ip daddr')
const key = fc.constantFrom(
  'ip daddr . meta l4proto . th dport',
  'ip6 daddr . meta l4proto . th dport',
  'ip6 saddr . ip6 daddr . ct original ip6 daddr . meta l4proto . th dport',
  'meta l4proto . th sport',
  'iifname',
  'ct mark',
)
const not = fc.constantFrom('', '!= ')
const match = fc.oneof(
  fc.tuple(selector4, not, fc.constantFrom(...addresses)).map(([a, b, c]) => `${a} ${b}${c}`),
  fc
    .tuple(fc.constantFrom('meta mark', 'ct mark'), fc.constantFrom('==', '!='), fc.nat(), fc.nat())
    .map(([a, op, mask, value]) => `${a} & ${hex(mask)} ${op} ${hex(value)}`),
  fc.tuple(fc.constantFrom('meta mark', 'ct mark'), not, fc.nat()).map(([a, op, value]) => `${a} ${op}${hex(value)}`),
  fc.tuple(fc.constantFrom('iifname', 'oifname'), not).map(([a, op]) => `${a} ${op}"cni0"`),
  fc
    .tuple(fc.constantFrom('ct state', 'ct status'), fc.constantFrom('', '! '))
    .map(([a, op]) => `${a} ${op}${a === 'ct state' ? 'established,related' : 'dnat'}`),
  fc.constantFrom(
    'meta l4proto tcp',
    'meta l4proto != 47',
    'fib saddr type local',
    'fib daddr type != 9',
    'th dport 53',
    'meta nfproto != ipv6',
  ),
  fc.tuple(key, not).map(([a, op]) => `${a} ${op}@set-1`),
)
const verdict = fc.oneof(
  fc.constantFrom(
    'accept',
    'drop',
    'return',
    'jump a',
    'goto endpoints-2',
    'masquerade',
    'masquerade fully-random',
    'reject',
    'reject with tcp reset',
    'meta mark set meta mark | 0x00002000',
    'meta mark set meta mark | 0x80000001 goto a',
    'ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst @f update @m { ip saddr . ct original proto-dst timeout 3h : ip daddr . th dport }',
    'update @m { ip6 saddr . ip6 daddr . meta l4proto . th dport timeout 1d1h1m1s : ip6 daddr . th dport }',
  ),
  fc.constantFrom(
    'numgen random mod 7 vmap @index',
    'dnat ip to ip daddr . meta l4proto . th dport map @m',
    'dnat ip6 to ip6 daddr map @m',
  ),
  key.map((each) => `${each} vmap @m`),
)
const comment = fc.constantFrom('', ' comment "flanneld masq"', ' comment "é"')
const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`

test('text to bytes and back is the same text', () => {
  const rule = fc
    .tuple(fc.array(match, { maxLength: 3 }), verdict, comment)
    .map(([matches, end, note]) => [...matches, end].join(' ') + note)
  fc.assert(
    fc.property(rule, (text) => {
      const mixed = /\bip\b/.test(text) && /\bip6\b/.test(text)
      if (mixed) assert.throws(() => compileRule(text, 'inet'), { code: 'ERR_NFT_RULE' })
      else assert.equal(decompileRule(compileRule(text, 'inet'), 'inet'), text)
    }),
  )
})

const refused = [
  { rule: 'ip protocol tcp accept', says: /‹ip protocol tcp› is not in Twill's subset/ },
  { rule: 'tcp dport 80 accept', says: /‹tcp dport 80›/ },
  { rule: 'ip saddr 10.0.0.1/8 accept', says: /reads back as: ip saddr 10\.0\.0\.0\/8 accept/ },
  { rule: 'meta mark 0x4000 return', says: /"0x4000" as the nftables type mark/ },
  { rule: 'ip saddr 10.0.0.0/8 ip6 daddr ::1 accept', says: /mixes ip and ip6/ },
  { rule: 'jump', says: /‹jump› is not in/ },
  { rule: 'reject with icmp', says: /‹tcp› is expected, not ‹icmp›/ },
  { rule: 'accept comment "a" drop', says: /a comment comes last/ },
  { rule: `accept comment "${'x'.repeat(200)}"`, says: /200 bytes long, at most 127/ },
  { rule: 'ip  saddr 10.0.0.0/8 accept', says: /reads back as: ip saddr/ },
]
for (const { rule, says } of refused) test(`refused: ${rule.slice(0, 50)}`, () => assert.throws(() => compileRule(rule, 'inet'), says))

test('an inet table tests for the family once a rule, a table of one family never', () => {
  const size = (rule: string, family: 'inet' | 'ip'): number => compileRule(rule, family).expressions.length
  const one = size('ip saddr 192.0.2.1 accept', 'inet') - size('ip saddr 192.0.2.1 accept', 'ip')
  const two = size('ip saddr 192.0.2.1 ip daddr 192.0.2.2 accept', 'inet') - size('ip saddr 192.0.2.1 ip daddr 192.0.2.2 accept', 'ip')
  assert.ok(one > 0)
  assert.equal(two, one)
})

test('a rule that Twill could not have made is foreign, whatever it is', () => {
  const { expressions } = compileRule('ip saddr 10.0.0.0/8 accept', 'inet')
  for (let at = 0; at < expressions.length; at++) {
    const broken = expressions.slice()
    broken[at]! ^= 0xff
    try {
      const text = decompileRule({ expressions: broken }, 'inet')
      if (!text.startsWith('# foreign: ')) assert.equal(compileRule(text, 'inet').expressions.toHex(), broken.toHex())
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ERR_MESSAGE_TRUNCATED')
    }
  }
})
