import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { Probe, type Question } from '#kernel/probe.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { EndpointSlice, Service } from '#model/cluster.ts'
import { type Item, keyOf, type Op, type Scope, show } from '#model/kernel.ts'
import { bridgeFilter } from '#plan/bridge-filter.ts'
import { inOrder } from '#plan/diff.ts'
import { masqItems } from '#plan/masq.ts'
import { serviceItems } from '#plan/service.ts'
import { endpointChains, serviceBase } from '#plan/services.ts'
import { twillTable } from '#plan/table.ts'

sys.unshare(CLONE_NEWNET)

/** This namespace is a node with a bridge and pods a and b; pod c is on another node, reached through the uplink. */
const families = [
  {
    number: 4,
    ip: '-4',
    network: '10.244.0.0/16',
    subnet: '10.244.1.0/24',
    link: 24,
    all: 32,
    gateway: '10.244.1.1',
    a: '10.244.1.2',
    b: '10.244.1.3',
    c: '10.244.2.2',
    uplink: '192.168.10.1',
    router: '192.168.10.2',
    other: '10.0.2.15',
    services: '10.96.0.0/12',
    clusterIp: '10.96.0.10',
  },
  {
    number: 6,
    ip: '-6',
    network: 'fd00:10::/56',
    subnet: 'fd00:10:0:1::/64',
    link: 64,
    all: 128,
    gateway: 'fd00:10:0:1::1',
    a: 'fd00:10:0:1::2',
    b: 'fd00:10:0:1::3',
    c: 'fd00:10:0:2::2',
    uplink: 'fd00:192::1',
    router: 'fd00:192::2',
    other: 'fd00:2::15',
    services: 'fd00:96::/112',
    clusterIp: 'fd00:96::10',
  },
] as const
type Net = (typeof families)[number]
type Pod = 'a' | 'b' | 'c'
const PORT = 7000

sweepTempNetns()
const pods = { a: tempNetns(), b: tempNetns(), c: tempNetns() }
const probes = new Map<string, Probe>()
const kernel = await openLinux()
const scope: Scope = { links: [], bridges: [], routeProtocol: 84, routeLinks: [], nftTables: [twillTable], sysctls: [], files: [] }
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })

before(async () => {
  run(
    'sysctl',
    '-qw',
    'net.ipv4.ip_forward=1',
    'net.ipv6.conf.all.forwarding=1',
    'net.bridge.bridge-nf-call-iptables=1',
    'net.bridge.bridge-nf-call-ip6tables=1',
  )
  run('ip', 'link', 'set', 'lo', 'up')
  run('ip', 'link', 'add', 'cni0', 'type', 'bridge')
  run('ip', 'link', 'set', 'cni0', 'up')
  const inPod = (pod: Pod, ...argv: string[]): string => run('nsenter', `--net=${pods[pod].path}`, ...argv)
  const address = (cidr: string, dev: string): string[] => ['address', 'add', cidr, 'dev', dev, ...(cidr.includes(':') ? ['nodad'] : [])]
  for (const pod of ['a', 'b', 'c'] as const) {
    const [dev, peer] = [pod === 'c' ? 'up0' : `veth-${pod}`, `t${process.pid}`]
    run('ip', 'link', 'add', dev, 'type', 'veth', 'peer', 'name', peer)
    run('ip', 'link', 'set', peer, 'netns', pods[pod].path.slice('/run/netns/'.length))
    if (pod !== 'c') run('ip', 'link', 'set', dev, 'master', 'cni0')
    if (pod !== 'c') run('bridge', 'link', 'set', 'dev', dev, 'hairpin', 'on')
    run('ip', 'link', 'set', dev, 'up')
    inPod(pod, 'ip', 'link', 'set', peer, 'name', 'eth0')
    inPod(pod, 'ip', 'link', 'set', 'eth0', 'up')
    inPod(pod, 'ip', 'link', 'set', 'lo', 'up')
  }
  for (const f of families) {
    run('ip', ...address(`${f.gateway}/${f.link}`, 'cni0'))
    run('ip', ...address(`${f.uplink}/${f.link}`, 'up0'))
    run('ip', ...address(`${f.other}/${f.all}`, 'lo'))
    run('ip', f.ip, 'route', 'add', f.network, 'via', f.router)
    // As on a node whose default route leaves by another device: what it says to a service gets an address nobody can answer.
    run('ip', f.ip, 'route', 'add', 'default', 'via', f.router, 'src', f.other)
    for (const pod of ['a', 'b'] as const) {
      inPod(pod, 'ip', ...address(`${f[pod]}/${f.link}`, 'eth0'))
      inPod(pod, 'ip', f.ip, 'route', 'add', 'default', 'via', f.gateway)
    }
    inPod('c', 'ip', ...address(`${f.router}/${f.link}`, 'eth0'))
    inPod('c', 'ip', ...address(`${f.c}/${f.all}`, 'lo'))
    inPod('c', 'ip', f.ip, 'route', 'add', f.subnet, 'via', f.uplink)
  }
  for (const name of ['a', 'b', 'c', 'node'] as const) {
    const probe = new Probe(name === 'node' ? undefined : pods[name].path)
    probes.set(name, probe)
    const options = name === 'c' ? { udp: families.map(({ c }) => c) } : {}
    assert.equal(await probe.listen(name, PORT, options), 'listening')
  }
  // Until duplicate address detection of link-local addresses is over, IPv6 neighbors do not answer.
  const deadline = Date.now() + 10_000
  const reachable = async (f: Net): Promise<boolean> =>
    (await probes.get('a')!.ask({ protocol: 'tcp', to: f.c, port: PORT })).startsWith('c ')
  for (const f of families) while (!(await reachable(f))) assert.ok(Date.now() < deadline, `pod c is not reached over ${f.ip}`)
  await apply(inOrder(masqItems({ networks: families, ipMasq: true, forwardRules: true, randomFully: true, mode: 'iptables' }), []))
})
after(async () => {
  await kernel.close()
  for (const probe of probes.values()) probe.close()
  for (const pod of Object.values(pods)) pod.remove()
  setImmediate(() => process.exit())
})

async function apply(ops: readonly Op[]): Promise<void> {
  for (const { error } of await kernel.apply(ops)) assert.ifError(error)
}

/** What the agent's loop does: the difference, and nothing else. Returns how many objects it touched. */
let present = new Map<string, Item>()
async function want(items: readonly Item[]): Promise<number> {
  const wanted = new Map(items.map((item) => [keyOf(item), item]))
  const put = [...wanted].filter(([key, item]) => !present.has(key) || show(present.get(key)!) !== show(item)).map(([, item]) => item)
  const del = [...present].filter(([key]) => !wanted.has(key)).map(([, item]) => item)
  await apply(inOrder(put, del))
  present = wanted
  return put.length + del.length
}

const service: Service = {
  namespace: 'default',
  name: 'web',
  type: 'ClusterIP',
  clusterIPs: families.map(({ clusterIp }) => clusterIp),
  ports: [
    { name: 'http', protocol: 'TCP', port: 80 },
    { name: 'dns', protocol: 'UDP', port: 53 },
  ],
}
const slices = (...addresses: ((f: Net) => string)[]): EndpointSlice[] =>
  families.map((f) => ({
    namespace: 'default',
    name: `web-${f.number}`,
    service: 'web',
    family: f.number,
    ports: [
      { name: 'http', protocol: 'TCP', port: PORT },
      { name: 'dns', protocol: 'UDP', port: PORT },
    ],
    endpoints: addresses.map((address) => ({ addresses: [address(f)], ready: true, serving: true, terminating: false })),
  }))
const at =
  (pod: Pod) =>
  (f: Net): string =>
    f[pod]
const base = (count: number): Item[] => [...serviceBase(), ...endpointChains(count)]

const both: readonly { readonly protocol: 'tcp' | 'udp'; readonly port: number }[] = [
  { protocol: 'tcp', port: 80 },
  { protocol: 'udp', port: 53 },
]
async function each(check: (f: Net, ask: (who: string) => Promise<string>, label: string) => Promise<void>): Promise<void> {
  for (const f of families) {
    for (const way of both) {
      const question: Question = { ...way, to: f.clusterIp }
      await check(f, (who) => probes.get(who)!.ask(question), `${way.protocol} ${f.clusterIp}`)
    }
  }
}

test('a pod reaches both endpoints, on its own node and elsewhere, under its own address', async () => {
  await want([...base(2), ...serviceItems(service, slices(at('b'), at('c')))])
  await each(async (f, ask, label) => {
    const seen = new Set<string>()
    for (let i = 0; i < 40 && seen.size < 2; i++) seen.add(await ask('a'))
    assert.deepEqual([...seen].toSorted(), [`b ${f.a}`, `c ${f.a}`], label)
  })
})

test('the node reaches both, under an address that pods can answer', async () => {
  await each(async (f, ask, label) => {
    const seen = new Set<string>()
    for (let i = 0; i < 40 && seen.size < 2; i++) seen.add(await ask('node'))
    assert.deepEqual([...seen].toSorted(), [`b ${f.gateway}`, `c ${f.uplink}`], label)
  })
})

test('a pod reaches itself through its service', async () => {
  await want([...base(2), ...serviceItems(service, slices(at('a')))])
  await each(async (f, ask, label) => assert.equal(await ask('a'), `a ${f.gateway}`, label))
  await each(async (f, ask, label) => assert.equal(await ask('b'), `a ${f.b}`, label))
})

test('an endpoint on the node itself, as that of the API server', async () => {
  await want([
    ...base(2),
    ...serviceItems(
      service,
      slices((f) => f.uplink),
    ),
  ])
  for (const f of families) {
    const question = { protocol: 'tcp', to: f.clusterIp, port: 80 } as const
    assert.equal(await probes.get('a')!.ask(question), `node ${f.a}`)
    assert.match(await probes.get('node')!.ask(question), /^node /)
  }
})

test('a UDP client that keeps its port follows the endpoints', async () => {
  const ports = { 4: 40004, 6: 40006 } as const
  const ask = (f: Net): Promise<string> => probes.get('a')!.ask({ protocol: 'udp', to: f.clusterIp, port: 53, fromPort: ports[f.number] })
  await want([...base(2)])
  for (const f of families) assert.doesNotMatch(await ask(f), /^[abc] /, 'no service, but a flow')
  await want([...base(2), ...serviceItems(service, slices(at('b')))])
  for (const f of families) assert.equal(await ask(f), `b ${f.a}`, 'the first endpoint')
  await want([...base(2), ...serviceItems(service, slices(at('b'), at('c')))])
  for (const f of families) for (let i = 0; i < 8; i++) assert.equal(await ask(f), `b ${f.a}`, 'one more endpoint')
  await want([...base(2), ...serviceItems(service, slices(at('c')))])
  for (const f of families) assert.equal(await ask(f), `c ${f.a}`, 'its endpoint went')
  await want([...base(2), ...serviceItems(service, slices())])
  for (const f of families) assert.equal(await ask(f), 'ECONNREFUSED', 'the last endpoint went')
})

const NODE_PORT = 30080
const exposed: Service = {
  ...service,
  type: 'NodePort',
  ports: [
    { name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORT },
    { name: 'dns', protocol: 'UDP', port: 53, nodePort: NODE_PORT },
  ],
}
/** Asks `to` for its node port over TCP and UDP. */
const knock = async (who: string, to: string, fromPort?: number): Promise<string[]> => [
  await probes.get(who)!.ask({ protocol: 'tcp', to, port: NODE_PORT }),
  await probes.get(who)!.ask({ protocol: 'udp', to, port: NODE_PORT, ...(fromPort && { fromPort }) }),
]

test('a node port answers on each address of the node, to all, under an address that endpoints can answer', async () => {
  await want([...base(2), ...serviceItems(exposed, slices(at('b')))])
  for (const f of families) {
    const seen = [`b ${f.gateway}`, `b ${f.gateway}`]
    for (const to of [f.uplink, f.gateway, f.other]) {
      assert.deepEqual(await knock('a', to), seen, `a ${to}`)
      assert.deepEqual(await knock('node', to), seen, `node ${to}`)
    }
    assert.deepEqual(await knock('c', f.uplink), seen)
  }
  await want([...base(2), ...serviceItems(exposed, slices(at('c')))])
  for (const f of families) {
    const seen = [`c ${f.uplink}`, `c ${f.uplink}`]
    for (const who of ['a', 'node', 'c']) assert.deepEqual(await knock(who, f.uplink), seen, who)
  }
  await want([...base(2), ...serviceItems(exposed, slices(at('a')))])
  for (const f of families) assert.deepEqual(await knock('a', f.uplink), [`a ${f.gateway}`, `a ${f.gateway}`], 'itself')
})

test('a node port is of the node: not of pods, not of the loopback', async () => {
  // TCP alone: the kernel limits how often it says ICMP port unreachable to one host.
  const refused = async (who: string, to: string): Promise<void> =>
    assert.equal(await probes.get(who)!.ask({ protocol: 'tcp', to, port: NODE_PORT }), 'ECONNREFUSED', `${who} ${to}`)
  await want([...base(2), ...serviceItems(exposed, slices(at('b')))])
  for (const f of families) await refused('a', f.b)
  for (const to of ['127.0.0.1', '::1']) await refused('node', to)
  await want([...base(2), ...serviceItems(exposed, slices())])
  for (const f of families) await refused('c', f.uplink)
})

test('a UDP client of a node port that keeps its port follows the endpoints', async () => {
  const ask = async (f: Net): Promise<string> => (await knock('c', f.uplink, 41000 + f.number))[1]!
  for (const [pod, seen] of [
    ['b', 'b'],
    ['a', 'a'],
  ] as const) {
    await want([...base(2), ...serviceItems(exposed, slices(at(pod)))])
    for (const f of families) assert.equal(await ask(f), `${seen} ${f.gateway}`)
  }
})

/** The endpoints' nodes: c is elsewhere. */
const placed = (...those: Pod[]): EndpointSlice[] =>
  slices(...those.map(at)).map((slice) => ({
    ...slice,
    endpoints: slice.endpoints.map((endpoint, i) => ({ ...endpoint, nodeName: those[i] === 'c' ? 'there' : 'here' })),
  }))

test('externalTrafficPolicy Local: endpoints here alone, and they see the client; none here: no answer', async () => {
  const local = { ...exposed, externalLocal: true }
  await want([...base(2), ...serviceItems(local, placed('b', 'c'), 'here')])
  for (const f of families) for (let i = 0; i < 6; i++) assert.deepEqual(await knock('c', f.uplink), [`b ${f.router}`, `b ${f.router}`])
  await want([...base(2), ...serviceItems(local, placed('a'), 'here')])
  for (const f of families) assert.deepEqual(await knock('a', f.uplink), [`a ${f.gateway}`, `a ${f.gateway}`], 'itself')
  await want([...base(2), ...serviceItems(local, placed('c'), 'here')])
  const answers = families.map((f) => probes.get('c')!.ask({ protocol: 'tcp', to: f.uplink, port: NODE_PORT }))
  assert.deepEqual(await Promise.all(answers), ['silence', 'silence'])
  for (const f of families)
    assert.match(await probes.get('a')!.ask({ protocol: 'tcp', to: f.clusterIp, port: 80 }), /^c /, 'its address serves on')
})

test('internalTrafficPolicy Local: a service address by endpoints here alone', async () => {
  await want([...base(2), ...serviceItems({ ...exposed, internalLocal: true }, placed('b', 'c'), 'here')])
  await each(async (f, ask, label) => {
    for (let i = 0; i < 6; i++) assert.equal(await ask('a'), `b ${f.a}`, label)
  })
  for (const f of families) {
    const seen = new Set<string>()
    for (let i = 0; i < 40 && seen.size < 2; i++) seen.add((await knock('c', f.uplink))[0]!)
    assert.deepEqual([...seen].toSorted(), [`b ${f.gateway}`, `c ${f.uplink}`], 'node ports by all')
  }
})

const sticky: Service = { ...exposed, affinitySeconds: 60 }
const stickyBase = (seconds = 60): Item[] => [
  ...serviceBase(families.map(({ number: family }) => ({ family, seconds }))),
  ...endpointChains(2),
]
/** What session affinity remembers of TCP: client, address and port asked, endpoint, seconds left. */
function remembered(f: Net): { client: string; asked: string; endpoint: string; left: number }[] {
  const listed = run('nft', '-j', 'list', 'map', 'inet', 'twill', `affinity-ipv${f.number}`)
  const [, { map }] = (
    JSON.parse(listed) as { nftables: [unknown, { map: { elem?: [{ elem: { val: Concat; expires: number } }, Concat][] } }] }
  ).nftables
  return (map.elem ?? []).flatMap(([{ elem }, to]) => {
    const [client = '', ip, protocol, port] = elem.val.concat
    return protocol === 'tcp'
      ? [{ client: String(client), asked: `${ip} ${port}`, endpoint: String(to.concat[0]), left: elem.expires }]
      : []
  })
}
interface Concat {
  readonly concat: readonly (string | number)[]
}

test('session affinity: a client keeps its endpoint, by address and by node port, until that goes', async () => {
  await want([...stickyBase(), ...serviceItems(sticky, slices(at('b'), at('c')))])
  for (const f of families) {
    for (const way of [
      ...both.map((each) => ({ ...each, to: f.clusterIp })),
      { protocol: 'tcp', to: f.uplink, port: NODE_PORT },
    ] as const) {
      for (const who of ['a', 'node', 'c']) {
        if (who === 'c' && way.to === f.clusterIp) continue // it has no route there
        const ask = (): Promise<string> => probes.get(who)!.ask(way)
        const first = await ask()
        for (let i = 0; i < 10; i++) assert.equal(await ask(), first, `${who} ${way.protocol} ${way.to}`)
      }
    }
  }
  const before = families.map((f) => remembered(f).map(({ client, asked, endpoint }) => `${client} ${asked} ${endpoint}`))
  for (const clients of before) assert.equal(clients.length, 5, clients.join(', '))
  // An agent that starts anew finds everything as it wants it, and leaves the memory alone.
  const again = await openLinux()
  const flows = [...present.values()].filter((item) => item.kind === 'flows')
  const found = new Set((await again.dump({ ...scope, flows })).map(show))
  for (const item of present.values()) assert.ok(found.has(show(item)), show(item))
  await again.close()
  assert.deepEqual(
    families.map((f) => remembered(f).map(({ client, asked, endpoint }) => `${client} ${asked} ${endpoint}`)),
    before,
  )
  // One endpoint goes: who was there finds the other, and stays when it comes back.
  await want([...stickyBase(), ...serviceItems(sticky, slices(at('c')))])
  for (const f of families) assert.ok(remembered(f).every(({ endpoint }) => endpoint === f.c))
  for (const f of families) assert.match(await probes.get('a')!.ask({ protocol: 'tcp', to: f.clusterIp, port: 80 }), /^c /)
  await want([...stickyBase(), ...serviceItems(sticky, slices(at('b'), at('c')))])
  for (const f of families) {
    for (let i = 0; i < 10; i++) assert.match(await probes.get('a')!.ask({ protocol: 'tcp', to: f.clusterIp, port: 80 }), /^c /)
  }
  await want([...stickyBase(), ...serviceItems(exposed, slices(at('b'), at('c')))])
  for (const f of families) assert.deepEqual(remembered(f), [], 'no affinity any more')
})

test('session affinity: what is remembered of a service that went while no agent ran leads nobody anywhere', async () => {
  const ways = (f: Net) =>
    [
      { protocol: 'tcp', to: f.clusterIp, port: 80 },
      { protocol: 'tcp', to: f.uplink, port: NODE_PORT },
    ] as const
  await want([...stickyBase(), ...serviceItems(sticky, slices(at('b')))])
  for (const f of families) for (const way of ways(f)) assert.match(await probes.get('a')!.ask(way), /^b /)
  // The next agent finds another service in its place: what it forgets, it never knew.
  const next = [...stickyBase(), ...serviceItems(exposed, slices(at('c')))]
  for (const [key, item] of present) if (item.kind === 'flows' && item.memory !== 'conntrack') present.delete(key)
  await want(next)
  for (const f of families) assert.equal(remembered(f).length, 2)
  for (const f of families) for (const way of ways(f)) assert.match(await probes.get('a')!.ask(way), /^c /)
  for (const f of families) run('nft', 'flush', 'map', 'inet', 'twill', `affinity-ipv${f.number}`)
})

test('session affinity: an endpoint on the node itself; a new connection starts the time anew; it ends', async () => {
  const onNode = slices((f) => f.uplink, at('b'))
  await want([...stickyBase(2), ...serviceItems({ ...sticky, affinitySeconds: 2 }, onNode)])
  const [f] = families
  const ask = (): Promise<string> => probes.get('a')!.ask({ protocol: 'tcp', to: f.clusterIp, port: 80 })
  const who = await ask()
  for (let i = 0; i < 10; i++) assert.equal(await ask(), who)
  const deadline = Date.now() + 10_000
  const until = async (done: () => boolean): Promise<void> => {
    while (!done()) {
      assert.ok(Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  await until(() => remembered(f).every(({ left }) => left < 1))
  await ask()
  assert.ok(remembered(f).some(({ left }) => left >= 1))
  await until(() => remembered(f).length === 0)
})

test('a pod reaches an endpoint on its own node only if the bridge shows its packets to the firewall', async () => {
  await want([...base(2), ...serviceItems(service, slices(at('b')))])
  const answers = (): Promise<string[]> =>
    Promise.all(families.map((f) => probes.get('a')!.ask({ protocol: 'tcp', to: f.clusterIp, port: 80 })))
  const { items } = bridgeFilter('here', true)
  for (const item of items) run('sysctl', '-qw', `${(item as { path: string }).path}=0`)
  for (const answer of await answers()) assert.doesNotMatch(answer, /^b /)
  await apply(items.map((item) => ({ verb: 'put', item })))
  assert.deepEqual(
    await answers(),
    families.map((f) => `b ${f.a}`),
  )
})

test('a service without ready endpoints refuses at once', async () => {
  await want([...base(2), ...serviceItems(service, slices())])
  for (const who of ['a', 'node']) {
    await each(async (_f, ask, label) => {
      const answer = await ask(who)
      // A datagram of the node's own is stopped in send(), which says so.
      assert.ok(
        answer === 'ECONNREFUSED' || (who === 'node' && label.startsWith('udp') && answer === 'EPERM'),
        `${who}: ${label}: ${answer}`,
      )
    })
  }
})

test('other ports and ICMP of a service address are left alone', async () => {
  await want([...base(2), ...serviceItems(service, slices(at('b')))])
  const wrong = [
    { protocol: 'tcp', port: 81 },
    { protocol: 'udp', port: 80 },
  ] as const
  const questions = families.flatMap((f) => wrong.map((way) => ({ ...way, to: f.clusterIp })))
  for (const answer of await Promise.all(questions.map((question) => probes.get('a')!.ask(question))))
    assert.doesNotMatch(answer, /^[abc] /)
  const ping = (f: Net): void => void run('nsenter', `--net=${pods.a.path}`, 'ping', '-c', '1', '-W', '1', f.clusterIp)
  for (const f of families) assert.throws(() => ping(f), 'nobody has this address')
})

test('a change touches the elements of its service only, and a deleted service is gone', async () => {
  const others = Array.from({ length: 50 }, (_, i) =>
    serviceItems({ ...service, name: `o${i}`, clusterIPs: [`10.97.0.${i}`] }, slices(at('b'), at('c'))),
  ).flat()
  await want([...base(2), ...others, ...serviceItems(service, slices(at('b')))])
  // Two protocols in two families: the count of the service, one more endpoint, and that endpoint's way to itself; UDP flows.
  assert.equal(await want([...base(2), ...others, ...serviceItems(service, slices(at('b'), at('c')))]), 4 * 3 + 2)
  assert.equal(await want([...base(2), ...others, ...serviceItems(service, slices(at('b'), at('c')))]), 0)
  await want([...base(2), ...others])
  const questions = families.flatMap((f) => both.map((way) => ({ ...way, to: f.clusterIp })))
  for (const answer of await Promise.all(questions.map((question) => probes.get('a')!.ask(question))))
    assert.doesNotMatch(answer, /^[abc] /)
  assert.equal((await kernel.dump(scope)).filter((item) => show(item).includes(` ${families[0].clusterIp} `)).length, 0)
})

test('all of it goes, and nothing else', async () => {
  const [table, ...rest] = [...present.values()]
  await apply(inOrder([], rest))
  const kept = (await kernel.dump(scope)).map((item) => ('name' in item ? item.name : item.kind)).toSorted()
  assert.deepEqual(kept, ['forward', 'masq', 'nft-table'])
  assert.equal(table?.kind, 'nft-table')
})
