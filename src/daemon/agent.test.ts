import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Agent } from '#daemon/agent.ts'
import { planOf, statusOf } from '#daemon/status.ts'
import { agentParts, FakeCluster, nodeRecord, peerRecord, TestKernel, until } from '#daemon/testing.ts'
import type { NodeRecord } from '#model/cluster.ts'
import { type HostView, type Item, keyOf, showOp } from '#model/kernel.ts'

const DIR = '/nowhere'
const address = { permanent: true, temporary: false, deprecated: false, scope: 'global' } as const
const host: HostView = {
  links: [
    { index: 2, name: 'eth0', mtu: 1500, mac: '08:00:27:aa:bb:cc', up: true },
    { index: 3, name: 'eth1', mtu: 1500, mac: '76:f8:c0:56:5d:ea', up: true },
  ],
  addresses: [
    { ...address, dev: 'eth0', cidr: '10.0.2.15/24' },
    { ...address, dev: 'eth1', cidr: '192.168.10.101/24' },
  ],
  routes: [{ dst: '0.0.0.0/0', hops: [{ dev: 'eth0', via: '10.0.2.2' }], metric: 0 }],
}
const ctr = peerRecord('k8s-ctr', '10.244.0.0/24', '192.168.10.100', 'd2:34:23:a5:fd:9d')
const w2 = peerRecord('k8s-w2', '10.244.1.0/24', '192.168.10.102', '16:e4:eb:80:b9:7e')
const w1 = nodeRecord('k8s-w1', { podCIDRs: ['10.244.2.0/24'] })

interface Life {
  readonly agent: Agent
  readonly kernel: TestKernel
  readonly cluster: FakeCluster
  /** What was done, in order, to kernel and API. */
  readonly steps: string[]
  /** What the service manager heard. */
  readonly notes: string[]
  stop(): Promise<void>
}

interface Setting {
  readonly nodes?: readonly NodeRecord[]
  /** What the kernel holds already. */
  readonly items?: readonly Item[]
  readonly host?: HostView
  readonly argv?: readonly string[]
  before?(kernel: TestKernel, cluster: FakeCluster): void
}

/** An agent that lives until the test ends. */
function live(t: TestContext, o: Setting = {}): Life {
  const steps: string[] = []
  const notes: string[] = []
  const kernel = new TestKernel({ host: o.host ?? host, items: o.items ?? [] })
  kernel.onOp = (op) => steps.push(showOp(op))
  const cluster = new FakeCluster(o.nodes ?? [ctr, w1, w2])
  o.before?.(kernel, cluster)
  const patch = cluster.patchNodeStatus.bind(cluster)
  cluster.patchNodeStatus = async (name, body) => {
    await patch(name, body)
    steps.push(body.metadata ? 'announce' : 'condition')
  }
  const agent = new Agent(
    agentParts({
      cluster,
      kernel,
      node: 'k8s-w1',
      argv: o.argv ?? ['--iface=eth1'],
      dir: DIR,
      onStep: (step) => steps.push(step),
      onNotify: (state) => notes.push(state),
    }),
  )
  const stop = new AbortController()
  const ended = agent.run(stop.signal)
  const life: Life = {
    agent,
    kernel,
    cluster,
    steps,
    notes,
    async stop() {
      stop.abort()
      await ended
    },
  }
  t.after(life.stop)
  return life
}
const has = (life: Life, text: string): boolean => life.kernel.observe().some((item) => keyOf(item).includes(text))
const settled = (life: Life): Promise<true> => until('serving', () => life.agent.ready)

test('the order of a start: masquerade before devices, all of it before the announcement, the door before the conflist', async (t) => {
  const life = live(t)
  await settled(life)
  const at = (pattern: RegExp): number => {
    const index = life.steps.findIndex((step) => pattern.test(step))
    assert.ok(index >= 0, `${pattern} in\n${life.steps.join('\n')}`)
    return index
  }
  const order = [
    /^put table inet twill/,
    /^put chain inet twill masq/,
    /^put link flannel.1/,
    /^put route 10.244.0/,
    /subnet.env/,
    /^announce/,
    /^door/,
    /conflist/,
  ]
  assert.deepEqual(
    order.map(at),
    order.map(at).toSorted((a, b) => a - b),
  )
  await until('the condition', () => life.cluster.nodes.get('k8s-w1')!.networkUnavailable === 'False')
  await life.stop()
  assert.ok(has(life, 'route 10.244.0.0/24'), 'the data plane stays')
})

test('an idle restart: no mutating message, no patch', async (t) => {
  const first = live(t)
  await settled(first)
  await until('the condition', () => first.cluster.nodes.get('k8s-w1')!.networkUnavailable === 'False')
  await first.stop()
  const again = live(t, {
    nodes: [...first.cluster.nodes.values()],
    items: first.kernel.observe(),
    host: { ...host, links: [...host.links, flannelOf(first)] },
  })
  await settled(again)
  await again.stop()
  assert.deepEqual(again.steps, ['door'])
  assert.equal(again.kernel.mutations, 0)
})

/** flannel.1 of an earlier life, as the host shows it. */
function flannelOf(life: Life): HostView['links'][number] {
  const link = life.kernel.observe().find((item) => keyOf(item) === 'link flannel.1')
  assert.ok(link?.kind === 'link')
  return { index: 9, name: 'flannel.1', mtu: 1450, mac: link.mac!, up: true, kind: 'vxlan' }
}

const waits = [
  { name: 'no pod CIDR', bad: nodeRecord('k8s-w1'), id: 'missing-podcidr' },
  { name: 'a pod CIDR outside of Network', bad: nodeRecord('k8s-w1', { podCIDRs: ['10.1.0.0/24'] }), id: 'podcidr-outside-network' },
]
for (const { name, bad, id } of waits) {
  test(`waits and says why: ${name}; announces nothing before; goes on by itself`, async (t) => {
    const life = live(t, { nodes: [ctr, bad, w2] })
    await until('waiting', () => life.agent.phase === 'waiting')
    assert.equal(statusOf(life.agent).findings[0]!.id, id)
    assert.ok(statusOf(life.agent).findings[0]!.remedy)
    assert.equal(life.cluster.events[0]!.node.name, 'k8s-w1')
    assert.deepEqual((await planOf(life.agent)).ops, [])
    assert.deepEqual(life.steps, [])
    life.cluster.put(w1)
    await settled(life)
    assert.deepEqual(statusOf(life.agent).findings, [])
  })
}

test('the service manager hears: waiting and why, ready, stopping', async (t) => {
  const life = live(t, { nodes: [ctr, nodeRecord('k8s-w1'), w2] })
  await until('waiting', () => life.notes.length > 0)
  assert.match(life.notes[0]!, /^STATUS=waiting: .*k8s-w1.*\nEXTEND_TIMEOUT_USEC=60000000$/)
  life.cluster.put(w1)
  await settled(life)
  await life.stop()
  assert.deepEqual(life.notes.slice(-2), ['READY=1\nSTATUS=serving', 'STOPPING=1'])
})

test('a kernel without IPv6: what concerns it is left out, all else is served', async (t) => {
  const life = live(t, {
    before: (kernel) => {
      kernel.features = [{ name: 'ipv6', what: 'IPv6', present: false, otherwise: 'settings of IPv6 are left out' }]
      kernel.refuses = ({ item }) => (item.kind === 'sysctl' && item.path.startsWith('net/ipv6/') ? 'ENOENT' : undefined)
    },
  })
  await settled(life)
  assert.deepEqual(statusOf(life.agent).findings, [])
  assert.ok(has(life, 'sysctl net/ipv4/ip_forward'))
})

test('the conflist is written last and kept: deleted or changed, it is back, and the agent that goes leaves it', async (t) => {
  const life = live(t)
  await settled(life)
  const conflist = life.kernel.observe().find((item) => item.kind === 'file' && item.path.endsWith('10-flannel.conflist'))!
  assert.ok(conflist.kind === 'file')
  life.kernel.meddle([{ verb: 'del', item: conflist }])
  await until('back', () => has(life, keyOf(conflist)))
  life.kernel.meddle([{ verb: 'put', item: { ...conflist, content: '{}' } }])
  await until('right', () => statusOf(life.agent).repairs.total === 2)
  const owners = statusOf(life.agent).repairs.recent.map(({ owner, found }) => `${owner} ${found}`)
  assert.deepEqual(owners, ['cni deleted', 'cni changed'])
  await life.stop()
  assert.ok(has(life, keyOf(conflist)))
})

test('a conflist that cannot be written keeps the node out of service, with the reason, until it can', async (t) => {
  const life = live(t, {
    before: (kernel) => {
      kernel.refuses = ({ item }) => (item.kind === 'file' && item.path.endsWith('.conflist') ? 'EROFS' : undefined)
    },
  })
  const finding = await until('the finding', () => statusOf(life.agent).findings.find(({ subject }) => subject === 'cni'))
  assert.match(finding.text, /10-flannel\.conflist.*EROFS/)
  assert.equal(life.agent.ready, false)
  life.kernel.refuses = () => undefined
  await settled(life)
})

test('waits for an interface that is not there yet', async (t) => {
  const life = live(t, { argv: ['--iface=eth7'] })
  await until('waiting', () => life.agent.phase === 'waiting')
  assert.match(statusOf(life.agent).findings[0]!.text, /no interface is named eth7/)
})

test('an interface that comes late is taken, one that changes is followed when it does', async (t) => {
  const life = live(t, { host: { ...host, addresses: host.addresses.slice(0, 1) } })
  await until('waiting', () => life.agent.phase === 'waiting')
  assert.equal(statusOf(life.agent).findings[0]!.id, 'no-interface')
  life.kernel.rehost(host)
  await settled(life)
  life.kernel.rehost({ ...host, links: host.links.map((link) => ({ ...link, mtu: 1400 })) })
  await until('another MTU', () => life.kernel.observe().some((item) => item.kind === 'file' && item.content.includes('FLANNEL_MTU=1350')))
  life.kernel.rehost({ ...host, links: host.links.map((link) => ({ ...link, up: false })) })
  await until('down', () => statusOf(life.agent).findings.some(({ id }) => id === 'interface-down'))
  assert.ok(has(life, 'route 10.244.0.0/24'), 'what is programmed stays')
})

const stale: Item[] = [
  {
    ...{ kind: 'link', name: 'flannel.1', type: 'vxlan', up: true, mac: '02:00:00:00:00:01', mtu: 1450 },
    vxlan: { vni: 1, port: 8472, local: '192.168.10.101', uplink: 'eth1', learning: false, gbp: false },
  },
  { kind: 'route', dst: '10.244.9.0/24', via: '10.244.9.0', dev: 'flannel.1', onlink: true, protocol: 3 },
  { kind: 'neighbor', dev: 'flannel.1', ip: '10.244.9.0', mac: '02:00:00:00:00:09' },
]
test('what a dead agent (or Flannel) left is swept, but not before the first full list', async (t) => {
  const life = live(t, {
    items: stale,
    host: {
      ...host,
      links: [...host.links, { index: 9, name: 'flannel.1', mtu: 1450, mac: '02:00:00:00:00:01', up: true, kind: 'vxlan' }],
    },
    before: (_, cluster) => {
      cluster.synced = false
    },
  })
  await until('a whole pass', () => has(life, 'subnet.env'))
  assert.ok(has(life, 'route 10.244.9.0/24'))
  assert.equal(life.agent.ready, false)
  life.cluster.sync()
  await settled(life)
  assert.ok(!has(life, '10.244.9.0'))
})

test('an empty list of nodes is not believed; a whole one is', async (t) => {
  const life = live(t)
  await settled(life)
  const nodes = [...life.cluster.nodes.values()]
  for (const { name } of nodes) life.cluster.remove(name)
  // An entry that comes back proves that a pass has seen the empty list.
  const entry = life.kernel.observe().find((item) => item.kind === 'fdb')!
  life.kernel.meddle([{ verb: 'del', item: entry }])
  await until('a pass', () => has(life, keyOf(entry)))
  assert.ok(has(life, 'route 10.244.0.0/24') && has(life, 'route 10.244.1.0/24'))
  for (const node of nodes) if (node.name !== 'k8s-w2') life.cluster.put(node)
  await until('k8s-w2 is swept', () => !has(life, 'route 10.244.1.0/24'))
  assert.ok(has(life, 'route 10.244.0.0/24'))
  assert.ok(!life.steps.some((step) => step.startsWith('del route 10.244.0.0')))
})

test('one poisoned node stops no other, and one refused peer does not keep the node from serving', async (t) => {
  const poisoned = { ...w2, name: 'k8s-w9', annotations: { ...w2.annotations, 'backend-data': '{{{' } }
  const refused = peerRecord('k8s-w3', '10.244.3.0/24', '192.168.10.103', '02:00:00:00:00:03')
  const life = live(t, {
    nodes: [poisoned, ctr, w1, w2, refused],
    before: (kernel) => {
      kernel.refuses = ({ item }) => (item.kind === 'route' && item.dst === '10.244.3.0/24' ? 'ENETUNREACH' : undefined)
    },
  })
  await settled(life)
  assert.ok(has(life, 'route 10.244.0.0/24') && has(life, 'route 10.244.1.0/24'))
  const ids = statusOf(life.agent).findings.map(({ id, subject }) => `${id} ${subject}`)
  assert.ok(ids.includes('bad-annotation node k8s-w9') && ids.includes('kernel-refused peer k8s-w3'), ids.join())
  life.kernel.refuses = () => undefined
  await until('tried again', () => has(life, 'route 10.244.3.0/24'))
})

test('a server that refuses patches: they are tried again, and no pod is let in before', async (t) => {
  const life = live(t, {
    before: (_, cluster) => {
      cluster.refusePatches = true
    },
  })
  await until('data plane', () => life.agent.startMs !== undefined)
  assert.equal(life.agent.ready, false)
  life.cluster.refusePatches = false
  await settled(life)
})

test('repairs what others delete, with who did it; annotations too', async (t) => {
  const life = live(t)
  await settled(life)
  const route = life.kernel.observe().find((item) => keyOf(item) === 'route 10.244.0.0/24')!
  life.kernel.meddle([{ verb: 'del', item: route }], { process: 'ip', pid: 4711 })
  await until('the route is back', () => has(life, 'route 10.244.0.0/24'))
  const [repair] = await until('journal', () => (statusOf(life.agent).repairs.total > 0 ? statusOf(life.agent).repairs.recent : undefined))
  assert.deepEqual([repair!.found, repair!.by, repair!.owner], ['deleted', 'ip pid 4711', 'peer k8s-ctr'])
  const own = life.cluster.nodes.get('k8s-w1')!
  life.cluster.put({ ...own, annotations: {} })
  await until('announced again', () => life.cluster.nodes.get('k8s-w1')!.annotations['public-ip'] === '192.168.10.101')
})

test('the NAT trap: without --iface the status says why, and what to do', async (t) => {
  const trapped = [ctr, w2].map((node) => ({ ...node, annotations: { ...node.annotations, 'public-ip': '10.0.2.15' } }))
  const life = live(t, { nodes: [...trapped, w1], argv: [] })
  await settled(life)
  const finding = await until('finding', () =>
    statusOf(life.agent).findings.find(({ text }) => text.startsWith('k8s-ctr, k8s-w1 and k8s-w2 all')),
  )
  assert.equal(finding.id, 'duplicate-public-ip')
  assert.match(finding.remedy, /--iface=eth1 \(here 192\.168\.10\.101\)/)
  assert.ok(await until('Event', () => life.cluster.events.find(({ reason }) => reason === 'DuplicatePublicIp')))
})

test('services: planned once services and slices are both whole; chains by endpoint count', async (t) => {
  const service = {
    namespace: 'default',
    name: 'webpod',
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.99'],
    ports: [{ name: '', protocol: 'TCP', port: 80 }],
  } as const
  const endpoint = { ready: true, serving: true, terminating: false }
  const slice = {
    namespace: 'default',
    name: 'webpod-x',
    service: 'webpod',
    family: 4,
    ports: [{ name: '', protocol: 'TCP', port: 80 }],
    endpoints: [
      { ...endpoint, addresses: ['10.244.0.2'] },
      { ...endpoint, addresses: ['10.244.1.2'] },
    ],
  } as const
  const life = live(t, {
    argv: ['--iface=eth1', '--services'],
    before: (_, cluster) => {
      cluster.services.set('default/webpod', service)
      cluster.endpointSlices.set('default/webpod-x', slice)
    },
  })
  await settled(life)
  const shown = [...life.kernel.observe()].map((item) => showOp({ verb: 'put', item }))
  assert.ok(shown.includes('put element inet twill service-ipv4 { 10.96.0.99 . tcp . 80 : goto endpoints-2 }'))
  assert.ok(has(life, 'chain inet twill endpoints-2'))
})

const dns = {
  namespace: 'kube-system',
  name: 'kube-dns',
  type: 'ClusterIP',
  clusterIPs: ['10.96.0.10'],
  ports: [{ name: 'dns', protocol: 'UDP', port: 53 }],
  unserved: ['spec.externalIPs'],
} as const
const serving = (_: TestKernel, cluster: FakeCluster): void => void cluster.services.set('kube-system/kube-dns', dns)

test('services: bridged packets are shown to the firewall; without br_netfilter a finding says what to do', async (t) => {
  const argv = ['--iface=eth1', '--services']
  const with_ = live(t, { argv, before: serving })
  await settled(with_)
  assert.ok(has(with_, 'sysctl net/bridge/bridge-nf-call-iptables'))
  assert.deepEqual(
    statusOf(with_.agent).findings.map(({ id, subject }) => `${id} ${subject}`),
    ['service-part-unserved service kube-system/kube-dns'],
  )
  const without = live(t, { argv, before: serving, host: { ...host, bridgeFilter: false } })
  await settled(without)
  assert.ok(!has(without, 'sysctl net/bridge'))
  const [finding] = statusOf(without.agent).findings
  assert.equal(finding!.id, 'br-netfilter-missing')
  assert.match(finding!.remedy, /modprobe br_netfilter/)
  const off = live(t, { host: { ...host, bridgeFilter: false } })
  await settled(off)
  assert.deepEqual(statusOf(off.agent).findings, [])
})

test('services: flows that outlived a dead agent end at the next start; where none did, nothing is done', async (t) => {
  const argv = ['--iface=eth1', '--services']
  const first = live(t, { argv, before: serving })
  await settled(first)
  await first.stop()
  const items = first.kernel.observe()
  const idle = live(t, { argv, items, nodes: [...first.cluster.nodes.values()], before: serving })
  await settled(idle)
  assert.equal(idle.kernel.mutations, 0)
  await idle.stop()
  const stale = live(t, {
    argv,
    items,
    nodes: [...first.cluster.nodes.values()],
    before: (kernel, cluster) => {
      serving(kernel, cluster)
      kernel.outlive({ kind: 'flows', memory: 'conntrack', protocol: 'udp', ip: '10.96.0.10', port: 53, targets: [] })
    },
  })
  await settled(stale)
  assert.deepEqual(
    stale.steps.filter((step) => step.startsWith('put')),
    ['put flows udp 10.96.0.10 . 53 lead to nobody'],
  )
})
