import assert from 'node:assert/strict'
import { test } from 'node:test'
import { show } from '#model/kernel.ts'
import { type Masquerade, masqItems } from '#plan/masq.ts'

const both: Masquerade = {
  networks: [
    { network: '10.244.0.0/16', subnet: '10.244.1.0/24' },
    { network: 'fd00:10::/56', subnet: 'fd00:10:0:1::/64' },
  ],
  ipMasq: true,
  forwardRules: true,
  randomFully: true,
  mode: 'iptables',
}
const v4 = { ...both, networks: both.networks.slice(0, 1) }
const table = 'table inet twill'
const forward =
  'chain inet twill forward { type filter hook forward priority 0; policy accept; ip saddr 10.244.0.0/16 accept; ip daddr 10.244.0.0/16 accept; }'
const masq = (rules: string): string => `chain inet twill masq { type nat hook postrouting priority 100; policy accept; ${rules} }`

const cases: readonly { readonly name: string; readonly of: Masquerade; readonly want: readonly string[] }[] = [
  { name: 'neither', of: { ...v4, ipMasq: false, forwardRules: false }, want: [] },
  { name: 'forward only', of: { ...v4, ipMasq: false }, want: [table, forward] },
  {
    name: 'iptables mode',
    of: v4,
    want: [
      table,
      masq(
        'meta mark & 0x00004000 == 0x00004000 return; ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return; ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return; ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return; ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random; ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random;',
      ),
      forward,
    ],
  },
  {
    name: 'nftables mode, ports not fully random',
    of: { ...v4, mode: 'nftables', randomFully: false, forwardRules: false },
    want: [
      table,
      masq(
        'meta mark 0x00004000 return; ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return; ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return; ip saddr != 10.244.1.0/24 ip daddr 10.244.0.0/16 return; ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade; ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade;',
      ),
    ],
  },
]
for (const { name, of, want } of cases) test(`masquerade: ${name}`, () => assert.deepEqual(masqItems(of).map(show), want))

test('masquerade: a second family adds its rules behind the first, in the same chains', () => {
  const [, first] = masqItems(v4)
  const [, second] = masqItems(both)
  assert.ok(first?.kind === 'nft-chain' && second?.kind === 'nft-chain')
  assert.deepEqual(second.rules.slice(0, first.rules.length), first.rules)
  const rest = second.rules.slice(first.rules.length).join('; ')
  const translated = first.rules
    .slice(1)
    .join('; ')
    .replaceAll('10.244.0.0/16', 'fd00:10::/56')
    .replaceAll('10.244.1.0/24', 'fd00:10:0:1::/64')
  assert.equal(rest, translated.replaceAll('224.0.0.0/4', 'ff00::/8').replaceAll(/\bip /g, 'ip6 '))
})
