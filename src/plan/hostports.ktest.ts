import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openNft } from '#kernel/nft.ts'
import { Probe } from '#kernel/probe.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '#kernel/socket.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { Item, Op } from '#model/kernel.ts'
import type { PodPorts, PortMapping } from '#model/pod.ts'
import { hostPortBase, hostPortItems } from '#plan/hostports.ts'
import { masqItems } from '#plan/masq.ts'
import { twillTable } from '#plan/table.ts'

sys.unshare(CLONE_NEWNET)

/** One node (this namespace) with two pods on a bridge; behind its uplink another node's pod and a host outside. */
const families = [
  {
    ip: '-4',
    network: '10.244.0.0/16',
    subnet: '10.244.1.0/24',
    host: 32,
    link: 24,
    gateway: '10.244.1.1',
    web: '10.244.1.2',
    client: '10.244.1.3',
    remotePod: '10.244.2.2',
    uplink: '192.168.10.1',
    router: '192.168.10.2',
    other: '10.0.2.15',
    outside: '198.51.100.10',
    loopback: '127.0.0.1',
  },
  {
    ip: '-6',
    network: 'fd00:10::/56',
    subnet: 'fd00:10:0:1::/64',
    host: 128,
    link: 64,
    gateway: 'fd00:10:0:1::1',
    web: 'fd00:10:0:1::2',
    client: 'fd00:10:0:1::3',
    remotePod: 'fd00:10:0:2::2',
    uplink: 'fd00:192::1',
    router: 'fd00:192::2',
    other: 'fd00:2::15',
    outside: '2001:db8::10',
    loopback: '::1',
  },
] as const
type Family = (typeof families)[number]
type Place = 'router' | 'web' | 'client' | 'gateway' | 'remotePod' | 'uplink' | 'other' | 'outside' | 'loopback'

const REFERENCE = '/usr/lib/cni/portmap'
const LOCALNET = '/proc/sys/net/ipv4/conf/cni0/route_localnet'
sweepTempNetns()
const spaces = { web: tempNetns(), client: tempNetns(), rest: tempNetns() }
const probes = new Map<string, Probe>()
const nft = openNft(NetlinkSocket.open({ protocol: NETLINK_NETFILTER }))
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
const within = (name: keyof typeof spaces, ...argv: string[]): string => run('nsenter', `--net=${spaces[name].path}`, ...argv)

before(async () => {
  const address = (cidr: string, dev: string): string[] => [
    'ip',
    'address',
    'add',
    cidr,
    'dev',
    dev,
    ...(cidr.includes(':') ? ['nodad'] : []),
  ]
  run('ip', 'link', 'set', 'lo', 'up')
  run('ip', 'link', 'add', 'cni0', 'type', 'bridge')
  run('ip', 'link', 'set', 'cni0', 'up')
  for (const [name, dev] of [
    ['web', 'veth0'],
    ['client', 'veth1'],
    ['rest', 'up0'],
  ] as const) {
    run('ip', 'link', 'add', dev, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', spaces[name].path.slice('/run/netns/'.length))
    run('ip', 'link', 'set', dev, 'up', ...(name === 'rest' ? [] : ['master', 'cni0']))
    if (name !== 'rest') run('ip', 'link', 'set', dev, 'type', 'bridge_slave', 'hairpin', 'on')
    within(name, 'ip', 'link', 'set', 'eth0', 'up')
    within(name, 'ip', 'link', 'set', 'lo', 'up')
  }
  for (const f of families) {
    for (const each of [
      address(`${f.gateway}/${f.link}`, 'cni0'),
      address(`${f.uplink}/${f.link}`, 'up0'),
      address(`${f.other}/${f.host}`, 'lo'),
    ])
      run(...each)
    for (const to of [f.network, `${f.outside}/${f.host}`]) run('ip', f.ip, 'route', 'add', to, 'via', f.router)
    for (const pod of ['web', 'client'] as const) {
      within(pod, ...address(`${f[pod]}/${f.link}`, 'eth0'))
      within(pod, 'ip', f.ip, 'route', 'add', 'default', 'via', f.gateway)
    }
    within('rest', ...address(`${f.router}/${f.link}`, 'eth0'))
    for (const each of [f.remotePod, f.outside]) within('rest', ...address(`${each}/${f.host}`, 'lo'))
    for (const to of [f.subnet, `${f.other}/${f.host}`]) within('rest', 'ip', f.ip, 'route', 'add', to, 'via', f.uplink)
  }
  run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  for (const [name, path] of [...Object.entries(spaces).map(([key, { path: at }]) => [key, at] as const), ['node', undefined] as const]) {
    probes.set(name, new Probe(path))
  }
  await Promise.all([80, 81].map((port) => probes.get('web')!.listen('web', port)))
  // As on a node: pods leave masqueraded.
  await put(masqItems({ networks: families, ipMasq: true, forwardRules: true, randomFully: false, mode: 'iptables' }))
})
after(() => {
  for (const probe of probes.values()) probe.close()
  for (const space of Object.values(spaces)) space.remove()
  setImmediate(() => process.exit())
})

async function apply(ops: readonly Op[]): Promise<void> {
  for (const { error } of await nft.apply(ops.filter(({ item }) => item.kind.startsWith('nft-')))) assert.ifError(error)
}
const put = (items: readonly Item[]): Promise<void> => apply(items.map((item) => ({ verb: 'put', item })))
const del = (items: readonly Item[]): Promise<void> => apply(items.map((item) => ({ verb: 'del', item })))

const podPorts = (mappings: readonly PortMapping[], more: Partial<PodPorts> = {}): PodPorts => ({
  network: 'cbr0',
  containerId: 'c'.repeat(64),
  ifname: 'eth0',
  addresses: families.map((f) => `${f.web}/${f.link}`),
  dev: 'cni0',
  mappings,
  masquerade: 'near',
  ...more,
})

/** Who asks from where, and for which address of the node. */
const ways: readonly { at: 'rest' | 'node' | 'web' | 'client'; from?: Place; to: Place }[] = [
  { at: 'rest', from: 'outside', to: 'uplink' },
  { at: 'rest', from: 'outside', to: 'other' },
  { at: 'rest', from: 'remotePod', to: 'uplink' },
  { at: 'node', to: 'uplink' },
  { at: 'node', from: 'other', to: 'uplink' },
  { at: 'node', to: 'gateway' },
  { at: 'node', to: 'loopback' },
  { at: 'client', to: 'uplink' },
  { at: 'client', to: 'other' },
  { at: 'client', to: 'gateway' },
  // Not the node's: the ports are none of ours.
  { at: 'client', to: 'router' },
  { at: 'client', to: 'remotePod' },
  { at: 'node', to: 'router' },
  { at: 'web', to: 'uplink' },
  { at: 'web', to: 'gateway' },
]
const ports = (uplink: string): PortMapping[] => [
  { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 8080, containerPort: 80, protocol: 'udp' },
  { hostPort: 8081, containerPort: 81, protocol: 'tcp', hostIp: uplink },
  { hostPort: 8082, containerPort: 81, protocol: 'udp', hostIp: '0.0.0.0' },
]
const questions = families.flatMap((f) =>
  ways.flatMap(({ at, from, to }) =>
    (
      [
        [8080, 'tcp'],
        [8080, 'udp'],
        [8081, 'tcp'],
        [8082, 'udp'],
        [9999, 'tcp'],
      ] as const
    ).map(([port, protocol]) => ({ f, at, from, to, port, protocol })),
  ),
)

/** One line a question: who answered, and whose address it saw, by name. */
async function matrix(): Promise<string[]> {
  const name = (f: Family, text: string): string =>
    text
      .split(' ')
      .map((word) => Object.entries(f).find(([, value]) => value === word)?.[0] ?? word)
      .join(' sees ')
  return Promise.all(
    questions.map(async ({ f, at, from, to, port, protocol }) => {
      const said = await probes.get(at)!.ask({ protocol, to: f[to], port, ...(from && { from: f[from] }) })
      // How often the kernel says "port unreachable" is limited.
      const answer = protocol === 'udp' && (said === 'ECONNREFUSED' || said === 'silence') ? 'nobody' : said
      return `${f.ip} ${at}${from ? ` (${from})` : ''} → ${to} ${protocol} ${port}: ${name(f, answer)}`
    }),
  )
}

/** Runs the reference portmap for the web pod. */
function reference(command: 'ADD' | 'DEL', mappings: readonly PortMapping[], conf: object): void {
  const result = spawnSync(REFERENCE, {
    encoding: 'utf8',
    env: {
      PATH: process.env.PATH,
      CNI_COMMAND: command,
      CNI_CONTAINERID: 'c'.repeat(64),
      CNI_NETNS: spaces.web.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/usr/lib/cni',
    },
    input: JSON.stringify({
      cniVersion: '1.0.0',
      name: 'cbr0',
      type: 'portmap',
      ...conf,
      runtimeConfig: { portMappings: mappings.map(({ hostIp, ...rest }) => ({ ...rest, hostIP: hostIp })) },
      prevResult: {
        cniVersion: '1.0.0',
        interfaces: [{ name: 'eth0', sandbox: spaces.web.path }],
        ips: families.map((f) => ({ interface: 0, address: `${f.web}/${f.link}`, gateway: f.gateway })),
      },
    }),
  })
  assert.equal(result.status, 0, result.stdout + result.stderr)
}

const withReference = { skip: existsSync(REFERENCE) ? false : `no ${REFERENCE} here` }
for (const [name, conf, masquerade] of [
  ['as it is by default', {}, 'near'],
  ['snat: false', { snat: false }, 'none'],
] as const) {
  test(`packets go as by the reference portmap: ${name}`, withReference, async () => {
    const mappings = ports(families[0].uplink)
    run('sysctl', '-qw', 'net.ipv4.conf.cni0.route_localnet=0')
    reference('ADD', mappings, conf)
    const localnet = run('cat', LOCALNET)
    const theirs = await matrix()
    reference('DEL', mappings, conf)
    run('nft', 'flush', 'table', 'ip', 'nat')
    run('nft', 'flush', 'table', 'ip6', 'nat')
    const pod = podPorts(mappings, { masquerade })
    const items = [...hostPortBase([pod]), ...[...hostPortItems([pod]).values()].flat()]
    await put(items)
    assert.equal(
      items.some((item) => item.kind === 'sysctl' && item.value === '1'),
      localnet === '1\n',
    )
    const ours = await matrix()
    assert.deepEqual(ours, theirs)
    assert.ok(ours.some((line) => line.includes('web sees outside')))
    await del(items.filter((item) => item.kind !== 'nft-table'))
  })
}

test('masqAll: everyone is seen as the node; without mappings nobody is led anywhere', async () => {
  const pod = podPorts(ports(families[0].uplink), { masquerade: 'all' })
  await put([...hostPortBase([pod]), ...[...hostPortItems([pod]).values()].flat()])
  const lines = await matrix()
  const answered = lines.filter((line) => line.includes(' web sees '))
  assert.ok(answered.length > 40)
  for (const line of answered) assert.match(line, /web sees gateway$/)
  await del([...hostPortItems([pod]).values()].flat())
  for (const line of await matrix()) assert.match(line, /ECONNREFUSED|silence|nobody/)
})

test("localhost reaches the hostPort, but no pod reaches the node's loopback through the door that this opens", async () => {
  const [f] = families
  run('sysctl', '-qw', 'net.ipv4.conf.cni0.route_localnet=1')
  const pod = podPorts(ports(f.uplink))
  const [guard] = hostPortBase([pod]).filter((item) => item.kind === 'nft-chain' && item.name === 'hostports-input')
  await put([...hostPortBase([pod]), ...[...hostPortItems([pod]).values()].flat()])
  // A pod that sends to 127.0.0.1 by way of the bridge, as one with NET_RAW can; what gets past our input chain is counted.
  for (const local of ['127.0.0.0/8', '127.0.0.1']) within('client', 'ip', 'route', 'del', 'table', 'local', 'local', local, 'dev', 'lo')
  within('client', 'ip', 'route', 'add', '127.0.0.0/8', 'via', f.gateway, 'src', f.client)
  const count = `type filter hook input priority 10; ip saddr ${f.client} ip daddr 127.0.0.1 counter`
  run('nft', `add table ip watch { chain c { ${count}; }; }`)
  const arrived = async (): Promise<boolean> => {
    await probes.get('client')!.ask({ protocol: 'tcp', to: '127.0.0.1', port: 9000, from: f.client })
    return !run('nft', 'list', 'table', 'ip', 'watch').includes('counter packets 0 ')
  }
  assert.equal(await probes.get('node')!.ask({ protocol: 'tcp', to: '127.0.0.1', port: 8080 }), `web ${f.gateway}`)
  assert.equal(await arrived(), false)
  await del([guard!])
  assert.equal(await arrived(), true)
  run('nft', 'delete', 'table', 'ip', 'watch')
  await del([...hostPortItems([pod]).values()].flat())
})

test('nft lists it in our words, and the rules are as many for 1 mapping as for 1000', async () => {
  const many = podPorts(Array.from({ length: 1000 }, (_, i) => ({ hostPort: 10_000 + i, containerPort: 80, protocol: 'sctp' as const })))
  const rules = (pod: PodPorts) => hostPortBase([pod]).flatMap((item) => (item.kind === 'nft-chain' ? item.rules : []))
  assert.deepEqual(rules(many), rules(podPorts(ports(families[0].uplink))))
  await put([...hostPortBase([many]), ...[...hostPortItems([many]).values()].flat()])
  const listed = run('nft', '-nn', 'list', 'table', twillTable.family, twillTable.table)
  assert.match(listed, /132 \. 10999 : 10\.244\.1\.2 \. 80/)
  assert.match(listed, /meta mark set (meta mark|mark) \| 0x00002000/)
  const dumped = await nft.dump([twillTable])
  assert.equal(dumped.filter((item) => item.kind === 'nft-element' && item.map === 'hostport-any-to-ipv4').length, 1000)
})
