/** The doctor's cases about the ways to the peers and through FORWARD, and what its commands may hold. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { examine } from '#plan/doctor/checks.ts'
import { word } from '#plan/doctor/diagnosis.ts'
import { type Case, files, healthy, inChain, kernel, outcome, probe, rejects, status } from '#plan/doctor/testing.ts'
import { vagrantHost } from '#plan/testing.ts'

const cases: readonly Case[] = [
  {
    name: 'FORWARD drops by policy, in both directions: one finding',
    facts: {
      ...healthy,
      forwarding: {
        dropped: [
          { ...inChain(), direction: 'in' },
          { ...inChain(), direction: 'out' },
        ],
      },
    },
    want: [
      [
        'forward-drop',
        /from and to pods are dropped by the policy of chain FORWARD \(iptables, table filter\)/,
        'iptables-nft -t filter -I FORWARD 1 -s 10.244.0.0/16 -j ACCEPT',
        'iptables-nft -t filter -I FORWARD 1 -d 10.244.0.0/16 -j ACCEPT',
      ],
    ],
  },
  {
    name: 'ufw, with ufw at hand',
    facts: {
      ...healthy,
      files: { ...files, programs: ['ufw'] },
      forwarding: { dropped: [{ ...inChain({ chain: 'ufw-reject-forward', handle: 3 }), direction: 'in' }] },
    },
    want: [['forward-drop', /to pods .* a rule of chain ufw-reject-forward, called by FORWARD/, 'ufw route allow from 10.244.0.0/16']],
  },
  {
    name: 'firewalld, with and without its command',
    facts: { ...healthy, forwarding: { dropped: [{ ...rejects, direction: 'out' }] } },
    want: [
      [
        'forward-drop',
        /from pods .*nft, table inet firewalld/,
        'nft insert rule inet firewalld filter_FORWARD ip saddr 10.244.0.0/16 accept',
        'nft insert rule inet firewalld filter_FORWARD ip daddr 10.244.0.0/16 accept',
      ],
    ],
  },
  {
    name: 'firewalld, with firewall-cmd',
    facts: { ...healthy, files: { ...files, programs: ['firewall-cmd'] }, forwarding: { dropped: [{ ...rejects, direction: 'out' }] } },
    want: [
      [
        'forward-drop',
        /firewalld/,
        'firewall-cmd --zone=trusted --add-source=10.244.0.0/16',
        'firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16',
      ],
    ],
  },
  {
    name: 'a peer that is gone',
    facts: { ...healthy, probes: [probe({ underlay: false, tunnel: false })] },
    want: [['peer-unreachable', /k8s-w2/]],
  },
  {
    name: 'two peers whose tunnel packets one rule drops: one finding',
    facts: {
      ...healthy,
      probes: ['k8s-w2', 'k8s-w3'].map((name) =>
        probe({
          node: name,
          tunnel: false,
          out: true,
          in: false,
          culprits: [inChain({ chain: 'INPUT', base: 'INPUT', hook: 'input', handle: 9 })],
        }),
      ),
    },
    want: [
      [
        'vxlan-blocked-in',
        /does not pass from there.*chain INPUT/,
        'iptables-nft -t filter -I INPUT 1 -i eth1 -p udp --dport 8472 -j ACCEPT',
      ],
    ],
  },
  {
    name: 'tunnel packets that do not leave',
    facts: {
      ...healthy,
      probes: [
        probe({
          ...{ tunnel: false, out: false, in: true },
          culprits: [inChain({ tool: 'nft', family: 'inet', table: 'site', chain: 'out', base: 'out', hook: 'output', handle: 2 })],
        }),
      ],
    },
    want: [['vxlan-blocked-out', /to there/, 'nft insert rule inet site out oifname eth1 udp dport 8472 accept']],
  },
  {
    name: 'blocked both ways, by nobody here',
    facts: { ...healthy, probes: [probe({ tunnel: false, out: false, in: false })] },
    want: [['vxlan-blocked', /neither there nor back$/]],
  },
  {
    name: 'a black hole',
    facts: { ...healthy, probes: [probe({ largest: 1350 })] },
    want: [
      [
        'mtu-black-hole',
        /1450 bytes get lost .* such of 1350 pass/,
        `kubectl -n kube-flannel patch configmap kube-flannel-cfg --type=merge -p '${JSON.stringify({
          data: { 'net-conf.json': JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', MTU: 1400 } }, null, 2) },
        })}'`,
        'kubectl -n kube-flannel rollout restart ds kube-flannel-ds',
        'kubectl -n kube-flannel rollout status ds kube-flannel-ds --timeout=180s',
      ],
    ],
  },
  {
    name: 'a checksum that a device spoils',
    facts: { ...healthy, probes: [probe({ checksum: false })] },
    want: [['inner-checksum', /k8s-w2 is dropped there for its checksum/, 'twill offload flannel.1 off']],
  },
  {
    name: 'the same, with ethtool at hand',
    facts: { ...healthy, files: { ...files, programs: ['ethtool'] }, probes: [probe({ checksum: false })] },
    want: [['inner-checksum', /k8s-w2/, 'ethtool -K flannel.1 tx-checksum-ip-generic off']],
  },
]
for (const one of cases) {
  test(`doctor: ${one.name}`, () => {
    const { found, wanted } = outcome(one)
    assert.deepEqual(found, wanted)
  })
}

test('a device whose name means something to a shell is quoted', () => {
  const name = 'e;reboot'
  const rename = <T extends { dev?: string; name?: string }>(one: T): T => ({
    ...one,
    ...(one.dev === 'eth1' && { dev: name }),
    ...(one.name === 'eth1' && { name, up: false }),
  })
  const host = { ...vagrantHost, links: vagrantHost.links.map(rename), addresses: vagrantHost.addresses.map(rename) }
  const facts = { ...healthy, host, status: { ...status, interface: { ...status.interface!, name } } }
  const sysctls = { ...kernel.sysctls, [`net/ipv4/conf/${name}/forwarding`]: '0' }
  const found = examine({
    ...facts,
    kernel: { ...kernel, sysctls },
    probes: [probe({ tunnel: false, out: true, culprits: [inChain({ hook: 'input' })] })],
  })
  const commands = found.flatMap(({ fix }) => fix).filter((command) => command.includes('reboot'))
  assert.equal(commands.length, 3)
  for (const command of commands) assert.match(command, /'[^']*e;reboot[^']*'/)
})

test('errors come before warnings', () => {
  const facts = { ...healthy, version: '2', files: { ...files, plugins: [] } }
  assert.deepEqual(
    examine(facts).map(({ severity }) => severity),
    ['error', 'warning'],
  )
})

test('words of a command are quoted when the shell would take them apart', () => {
  assert.equal(word('plain-1.2/x:y=z,@%+'), 'plain-1.2/x:y=z,@%+')
  assert.equal(word('a b'), "'a b'")
  assert.equal(word("it's; rm -rf /"), "'it'\\''s; rm -rf /'")
})
