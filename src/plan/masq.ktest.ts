import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openNft } from '#kernel/nft.ts'
import { Probe } from '#kernel/probe.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '#kernel/socket.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { Item } from '#model/kernel.ts'
import { masqItems } from '#plan/masq.ts'
import { twillTable } from '#plan/table.ts'

sys.unshare(CLONE_NEWNET)

/** One node (this namespace), a pod on it, and all the rest behind its uplink: another node's pod and a host outside. */
const families = [
  {
    ip: '-4',
    network: '10.244.0.0/16',
    subnet: '10.244.1.0/24',
    host: 32,
    link: 24,
    gateway: '10.244.1.1',
    pod: '10.244.1.2',
    remotePod: '10.244.2.2',
    uplink: '192.168.10.1',
    router: '192.168.10.2',
    other: '10.0.2.15',
    outside: '198.51.100.10',
    group: '224.0.0.251',
    via: ['192.168.10.2', '192.168.10.1'],
  },
  {
    ip: '-6',
    network: 'fd00:10::/56',
    subnet: 'fd00:10:0:1::/64',
    host: 128,
    link: 64,
    gateway: 'fd00:10:0:1::1',
    pod: 'fd00:10:0:1::2',
    remotePod: 'fd00:10:0:2::2',
    uplink: 'fd00:192::1',
    router: 'fd00:192::2',
    other: 'fd00:2::15',
    outside: '2001:db8::10',
    group: 'ff05::1234',
    via: ['::%eth0', '::%up0'],
  },
] as const
const PORT = 7000
/** Packets to these ports get a mark on the way in: as kube-proxy sets it, and with another bit beside. */
const marks = { 7001: 0x4000, 7002: 0x4001 } as const

sweepTempNetns()
const pod = tempNetns()
const rest = tempNetns()
const probes = new Map<string, Probe>()
const nft = openNft(NetlinkSocket.open({ protocol: NETLINK_NETFILTER }))
const run = (input: string | undefined, ...argv: string[]): string =>
  execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8', ...(input !== undefined && { input }) })
const within = (path: string, ...argv: string[]): string => run(undefined, 'nsenter', `--net=${path}`, ...argv)

before(async () => {
  const pid = String(process.pid)
  run(undefined, 'ip', 'link', 'set', 'lo', 'up')
  for (const [name, peer, { path }] of [
    ['cni0', 'eth0', pod],
    ['up0', 'eth0', rest],
  ] as const) {
    run(undefined, 'ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', `t${pid}`)
    run(undefined, 'ip', 'link', 'set', `t${pid}`, 'netns', path.slice('/run/netns/'.length))
    within(path, 'ip', 'link', 'set', `t${pid}`, 'name', peer)
    within(path, 'ip', 'link', 'set', peer, 'up')
    within(path, 'ip', 'link', 'set', 'lo', 'up')
    run(undefined, 'ip', 'link', 'set', name, 'up')
  }
  const address = (cidr: string, dev: string): string[] => ['address', 'add', cidr, 'dev', dev, ...(cidr.includes(':') ? ['nodad'] : [])]
  for (const f of families) {
    run(undefined, 'ip', ...address(`${f.gateway}/${f.link}`, 'cni0'))
    run(undefined, 'ip', ...address(`${f.uplink}/${f.link}`, 'up0'))
    run(undefined, 'ip', ...address(`${f.other}/${f.host}`, 'lo'))
    for (const to of [f.network, `${f.outside}/${f.host}`]) run(undefined, 'ip', f.ip, 'route', 'add', to, 'via', f.router)
    within(pod.path, 'ip', ...address(`${f.pod}/${f.link}`, 'eth0'))
    within(pod.path, 'ip', f.ip, 'route', 'add', 'default', 'via', f.gateway)
    within(rest.path, 'ip', ...address(`${f.router}/${f.link}`, 'eth0'))
    for (const each of [f.remotePod, f.outside]) within(rest.path, 'ip', ...address(`${each}/${f.host}`, 'lo'))
    for (const to of [f.subnet, `${f.other}/${f.host}`]) within(rest.path, 'ip', f.ip, 'route', 'add', to, 'via', f.uplink)
  }
  run(undefined, 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  run(
    undefined,
    'nft',
    `add table inet marker { chain c { type filter hook prerouting priority -150;
    ${Object.entries(marks)
      .map(([port, mark]) => `tcp dport ${port} meta mark set ${mark};`)
      .join(' ')} }; }`,
  )
  for (const [name, path] of [
    ['node', undefined],
    ['pod', pod.path],
    ['rest', rest.path],
  ] as const) {
    const probe = new Probe(path)
    probes.set(name, probe)
    for (const port of [PORT, 7001, 7002]) {
      const groups = port === PORT && name === 'rest' ? families.map((f) => [f.group, f.via[0]] as const) : []
      assert.equal(await probe.listen(name, port, { groups }), 'listening')
    }
  }
})
after(() => {
  for (const probe of probes.values()) probe.close()
  pod.remove()
  rest.remove()
  setImmediate(() => process.exit())
})

type Place = 'pod' | 'gateway' | 'remotePod' | 'uplink' | 'other' | 'outside' | 'group'
/** Whose address the receiver sees, in each mode. */
interface Case {
  readonly rule: string
  readonly at: 'pod' | 'node' | 'rest'
  readonly from: Place
  readonly to: Place
  readonly port?: 7001 | 7002
  readonly iptables: Place
  readonly nftables: Place
}
const cases: readonly Case[] = [
  { rule: '1: marked by kube-proxy', at: 'pod', from: 'pod', to: 'outside', port: 7001, iptables: 'pod', nftables: 'pod' },
  { rule: '1: marked by kube-proxy and others', at: 'pod', from: 'pod', to: 'outside', port: 7002, iptables: 'pod', nftables: 'uplink' },
  { rule: '2: pod to a pod elsewhere', at: 'pod', from: 'pod', to: 'remotePod', iptables: 'pod', nftables: 'pod' },
  { rule: '2: the bridge to a pod elsewhere', at: 'node', from: 'gateway', to: 'remotePod', iptables: 'gateway', nftables: 'gateway' },
  { rule: '3: a pod elsewhere to our pod', at: 'rest', from: 'remotePod', to: 'pod', iptables: 'remotePod', nftables: 'remotePod' },
  { rule: '4: the world to our pod', at: 'rest', from: 'outside', to: 'pod', iptables: 'outside', nftables: 'outside' },
  { rule: '4: the node to our pod', at: 'node', from: 'other', to: 'pod', iptables: 'other', nftables: 'other' },
  { rule: '5: pod to the world', at: 'pod', from: 'pod', to: 'outside', iptables: 'uplink', nftables: 'uplink' },
  { rule: '5: the bridge to the world', at: 'node', from: 'gateway', to: 'outside', iptables: 'uplink', nftables: 'uplink' },
  { rule: '5: multicast', at: 'node', from: 'gateway', to: 'group', iptables: 'gateway', nftables: 'gateway' },
  { rule: '6: the node to a pod elsewhere', at: 'node', from: 'other', to: 'remotePod', iptables: 'uplink', nftables: 'other' },
]

async function seen(f: (typeof families)[number], { at, from, to, port }: Case): Promise<string> {
  const question = { from: f[from], to: f[to], port: port ?? PORT }
  return probes.get(at)!.ask(to === 'group' ? { ...question, protocol: 'udp', multicast: f.via[1] } : { ...question, protocol: 'tcp' })
}

async function packets(mode: 'iptables' | 'nftables', randomFully: boolean): Promise<void> {
  for (const f of families) {
    for (const each of cases) {
      const answer = await seen(f, each)
      assert.equal(answer.split(' ')[1], f[each[mode]], `${each.rule} (${f.ip}, ${mode}${randomFully ? ', fully random' : ''}): ${answer}`)
    }
  }
}

const planned = (mode: 'iptables' | 'nftables', randomFully: boolean): Item[] =>
  masqItems({ networks: families, ipMasq: true, forwardRules: true, randomFully, mode })

test('without rules nothing is masqueraded', async () => {
  const toTheWorld = cases.find(({ rule }) => rule === '5: pod to the world')!
  for (const f of families) {
    // The first packet may find the link-local addresses still under duplicate address detection.
    const deadline = Date.now() + 10_000
    let answer = await seen(f, toTheWorld)
    while (answer === 'silence' && Date.now() < deadline) answer = await seen(f, toTheWorld)
    assert.equal(answer, `rest ${f.pod}`)
  }
})

for (const mode of ['iptables', 'nftables'] as const) {
  for (const randomFully of [true, false]) {
    test(`our rules, ${mode} mode${randomFully ? ', fully random' : ''}`, async () => {
      const items = planned(mode, randomFully)
      for (const { error } of await nft.apply(items.map((item) => ({ verb: 'put', item })))) assert.ifError(error)
      await packets(mode, randomFully)
      await nft.apply([{ verb: 'del', item: items[0]! }])
      assert.deepEqual(await nft.dump([twillTable]), [])
    })
  }
}

test("Flannel's own iptables rules treat these packets alike", async () => {
  const multicast = { '-4': '224.0.0.0/4', '-6': 'ff00::/8' }
  const tool = { '-4': 'iptables-restore', '-6': 'ip6tables-restore' }
  for (const { ip, network, subnet } of families) {
    const comment = '-m comment --comment "flanneld masq"'
    const rules = `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING ${comment} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${comment} -j RETURN
-A FLANNEL-POSTRTG -s ${subnet} -d ${network} ${comment} -j RETURN
-A FLANNEL-POSTRTG -s ${network} -d ${subnet} ${comment} -j RETURN
-A FLANNEL-POSTRTG ! -s ${network} -d ${subnet} ${comment} -j RETURN
-A FLANNEL-POSTRTG -s ${network} ! -d ${multicast[ip]} ${comment} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s ${network} -d ${network} ${comment} -j MASQUERADE --random-fully
COMMIT
`
    run(rules, tool[ip], '--noflush')
  }
  await packets('iptables', true)
  for (const family of ['ip', 'ip6']) run(undefined, 'nft', 'delete', 'table', family, 'nat')
})

test("Flannel's own nftables rules treat these packets alike", async () => {
  const tables = { '-4': ['ip', 'flannel-ipv4', '224.0.0.0/4'], '-6': ['ip6', 'flannel-ipv6', 'ff00::/8'] } as const
  for (const f of families) {
    const [ip, table, multicast] = tables[f.ip]
    run(
      `table ${ip} ${table} { chain postrtg { type nat hook postrouting priority srcnat; policy accept;
  meta mark 0x4000 return
  ${ip} saddr ${f.subnet} ${ip} daddr ${f.network} return
  ${ip} saddr ${f.network} ${ip} daddr ${f.subnet} return
  ${ip} saddr != ${f.subnet} ${ip} daddr ${f.network} return
  ${ip} saddr ${f.network} ${ip} daddr != ${multicast} masquerade fully-random
  ${ip} saddr != ${f.network} ${ip} daddr ${f.network} masquerade fully-random
}
}
`,
      'nft',
      '-f',
      '-',
    )
  }
  await packets('nftables', true)
})
