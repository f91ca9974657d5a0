import assert from 'node:assert/strict'
import { test } from 'node:test'
import { savedPorts } from '#kernel/reference-save.ts'

/** As Debian's portmap 1.1.1 leaves it and iptables-nft-save 1.8.9 prints it, for a pod with both families. */
const dispatch = (match: string, protocol: string, ports: string, id: string): string =>
  `-A CNI-HOSTPORT-DNAT ${match}-p ${protocol} -m comment --comment "dnat name: \\"cbr0\\" id: \\"${id}\\"" -m multiport --dports ${ports} -j CNI-DN-${id}`
const v4 = (id: string, { snat = true, condition = '' } = {}): string[] => [
  `:CNI-DN-${id} - [0:0]`,
  dispatch(condition, 'tcp', '8080', id),
  dispatch(condition, 'udp', '8081', id),
  ...(snat
    ? [
        `-A CNI-DN-${id} -s 10.244.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
        `-A CNI-DN-${id} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
        `-A CNI-DN-${id} -s 10.244.1.0/24 -d 10.0.0.1/32 -p udp -m udp --dport 8081 -j CNI-HOSTPORT-SETMARK`,
      ]
    : []),
  `-A CNI-DN-${id} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.5:80`,
  `-A CNI-DN-${id} -d 10.0.0.1/32 -p udp -m udp --dport 8081 -j DNAT --to-destination 10.244.1.5:81`,
]
const v6 = (id: string): string[] => [
  `:CNI-DN-${id} - [0:0]`,
  dispatch('', 'tcp', '8080', id),
  `-A CNI-DN-${id} -s fd00::/64 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK`,
  `-A CNI-DN-${id} -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::5]:80`,
]
const text = (...lines: string[]): string => ['*nat', ':PREROUTING ACCEPT [0:0]', ...lines, 'COMMIT', ''].join('\n')
const mappings = [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 8081, containerPort: 81, protocol: 'udp', hostIp: '10.0.0.1' },
]

test('hostPorts of both families, with and without masquerade', () => {
  assert.deepEqual(savedPorts(text(...v4('aa'), ...v4('bb', { snat: false })), text(...v6('aa'))), [
    { network: 'cbr0', containerId: 'aa', addresses: ['10.244.1.5/24', 'fd00::5/64'], mappings, masquerade: 'near' },
    { network: 'cbr0', containerId: 'bb', addresses: ['10.244.1.5/32'], mappings, masquerade: 'none' },
  ])
})

test('masqAll', () => {
  const all = v4('aa').map((line) => line.replace(/-s (10\.244\.1\.0\/24|127\.0\.0\.1\/32) /, ''))
  assert.equal(savedPorts(text(...all))[0]!.masquerade, 'all')
})

const odd: readonly { name: string; lines: string[] }[] = [
  { name: 'conditions in one family', lines: v4('aa', { condition: '! -s 10.9.0.0/16 ' }) },
  { name: 'a rule of someone else in the chain', lines: [...v4('aa'), '-A CNI-DN-aa -p tcp -j LOG'] },
  { name: 'two pods in one chain', lines: v4('aa').map((line) => line.replace('10.244.1.5:81', '10.244.1.6:81')) },
]
for (const { name, lines } of odd) test(`left alone: ${name}`, () => assert.deepEqual(savedPorts(text(...lines), text(...v6('aa'))), []))

test('no hostPorts, no answer', () => assert.deepEqual(savedPorts(text(), ''), []))
