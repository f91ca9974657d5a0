import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressesOn, parsePortMap } from '#cni/portmap.ts'
import type { CniResult } from '#cni/result.ts'

const one = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
const conf = (more: object, ...portMappings: object[]) => ({ ...more, runtimeConfig: { portMappings } })

const good: readonly { name: string; conf: object; want: object }[] = [
  { name: 'nothing to map', conf: {}, want: { mappings: [], masquerade: 'near' } },
  {
    name: 'as containerd sends it',
    conf: conf({}, { HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }),
    want: { mappings: [one], masquerade: 'near' },
  },
  {
    name: 'protocols in any case',
    conf: conf({}, { ...one, protocol: 'SCTP' }),
    want: { mappings: [{ ...one, protocol: 'sctp' }], masquerade: 'near' },
  },
  {
    name: 'an address is canonical',
    conf: conf({ masqAll: true }, { ...one, hostIP: 'FD00:0::1' }),
    want: { mappings: [{ ...one, hostIp: 'fd00::1' }], masquerade: 'all' },
  },
  { name: 'snat: false beats masqAll', conf: conf({ snat: false, masqAll: true }, one), want: { mappings: [one], masquerade: 'none' } },
  {
    name: 'the mark that we use anyhow',
    conf: conf({ markMasqBit: 13, backend: 'iptables' }, one),
    want: { mappings: [one], masquerade: 'near' },
  },
  {
    name: 'what is not to be had matters only with mappings',
    conf: conf({ conditionsV4: ['-s', '10.0.0.0/8'] }),
    want: { mappings: [], masquerade: 'near' },
  },
]
for (const { name, conf: given, want } of good) test(`portmap: ${name}`, () => assert.deepEqual(parsePortMap({ ...given }), want))

const bad: readonly { name: string; conf: object; says: RegExp }[] = [
  { name: 'no host port', conf: conf({}, { ...one, hostPort: 0 }), says: /^failed to parse config: Invalid host port number: 0$/ },
  { name: 'no container port', conf: conf({}, { ...one, containerPort: -1 }), says: /Invalid container port number: -1/ },
  { name: 'a port too large', conf: conf({}, { ...one, hostPort: 65536 }), says: /Invalid host port number: 65536/ },
  { name: 'a port that is text', conf: conf({}, { ...one, hostPort: '80' }), says: /cannot unmarshal string/ },
  { name: 'another protocol', conf: conf({}, { ...one, protocol: 'icmp' }), says: /unknown protocol "icmp"/ },
  { name: 'no protocol', conf: conf({}, { hostPort: 1, containerPort: 1 }), says: /unknown protocol ""/ },
  { name: 'no address', conf: conf({}, { ...one, hostIP: 'node' }), says: /Invalid host IP address: node/ },
  { name: 'conditions', conf: conf({ conditionsV6: ['!', '-d', 'fd00::/8'] }, one), says: /unsupported field conditionsV6/ },
  {
    name: 'a chain of the user',
    conf: conf({ externalSetMarkChain: 'KUBE-MARK-MASQ' }, one),
    says: /unsupported field externalSetMarkChain/,
  },
  { name: 'another mark', conf: conf({ markMasqBit: 4 }, one), says: /unsupported field markMasqBit: 4/ },
  { name: 'a mark that is none', conf: conf({ markMasqBit: 32 }), says: /MasqMarkBit must be between 0 and 31/ },
  {
    name: 'two marks',
    conf: conf({ markMasqBit: 4, externalSetMarkChain: 'X' }),
    says: /Cannot specify externalSetMarkChain and markMasqBit/,
  },
]
for (const { name, conf: given, says } of bad)
  test(`portmap refuses: ${name}`, () => assert.throws(() => parsePortMap({ ...given }), { message: says }))

test('the pod address of each family on the interface asked for; an address of no interface counts, one of the host does not', () => {
  const result = (...ips: CniResult['ips'][number][]): CniResult => ({
    interfaces: [{ name: 'cni0' }, { name: 'eth0', sandbox: '/n' }, { name: 'net1', sandbox: '/n' }, { name: 'eth0' }],
    ips,
    routes: [],
    dns: {},
  })
  const at = (index: number, address: string) => ({ interface: index, address })
  assert.deepEqual(
    addressesOn(
      'eth0',
      result(at(2, '10.0.0.1/24'), at(0, '10.0.0.2/24'), at(3, '10.0.0.3/24'), at(1, 'fd00::4/64'), at(1, '10.0.0.5/24')),
    ),
    ['10.0.0.5/24', 'fd00::4/64'],
  )
  assert.deepEqual(addressesOn('eth0', result({ address: '10.0.0.1/24' }, { address: '10.0.0.2/24' })), ['10.0.0.1/24'])
  assert.deepEqual(addressesOn('eth1', result(at(1, '10.0.0.1/24'))), [])
})
