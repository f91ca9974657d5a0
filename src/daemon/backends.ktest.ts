/** Backends on the real kernel, and how they follow the node's own addresses and routes: one node, peers that only announce. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Agent } from '#daemon/agent.ts'
import { statusOf } from '#daemon/status.ts'
import { agentParts, FakeCluster, nodeRecord, peerRecord, until } from '#daemon/testing.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'

sys.unshare(CLONE_NEWNET)
const run = (line: string): string => execFileSync('ip', line.split(' '), { encoding: 'utf8' })

interface Node {
  readonly cluster: FakeCluster
  readonly dir: string
}

/** A node with eth1 192.168.10.101/24, a neighbor k8s-ctr there, and k8s-w2 behind the router 192.168.10.1. */
function freshNode(t: TestContext, type: string, found: readonly string[] = []): Node {
  sys.unshare(CLONE_NEWNET)
  const dir = mkdtempSync(join(tmpdir(), 'twill-backends-'))
  t.after(() => rmSync(dir, { recursive: true }))
  for (const line of [
    'link set lo up',
    'link add eth1 type veth peer name switch',
    'link set switch up',
    'link set eth1 up',
    'addr add 192.168.10.101/24 dev eth1',
    'route add default via 192.168.10.1',
    ...found,
  ])
    run(line)
  const peer = (...args: Parameters<typeof peerRecord>) => {
    const record = peerRecord(...args)
    return { ...record, annotations: { ...record.annotations, 'backend-type': type } }
  }
  const cluster = new FakeCluster([
    peer('k8s-ctr', '10.244.0.0/24', '192.168.10.100', 'd2:34:23:a5:fd:9d'),
    nodeRecord('k8s-w1', { podCIDRs: ['10.244.2.0/24'] }),
    peer('k8s-w2', '10.244.1.0/24', '192.168.20.102', '16:e4:eb:80:b9:7e'),
  ])
  return { cluster, dir }
}

/** An agent on `node`, that serves; it stops with the test if not before. */
async function serve(t: TestContext, { cluster, dir }: Node, backend: object) {
  const kernel = await openLinux()
  const netConf = { Network: '10.244.0.0/16', Backend: backend }
  const agent = new Agent(agentParts({ cluster, kernel, node: 'k8s-w1', argv: ['--iface=eth1'], dir, netConf }))
  const stop = new AbortController()
  const ended = agent.run(stop.signal)
  const end = async (): Promise<void> => {
    stop.abort()
    await ended
  }
  t.after(end)
  await Promise.race([until('serving', () => agent.ready), ended])
  return { agent, kernel, cluster, end, env: () => readFileSync(`${dir}/subnet.env`, 'utf8') }
}

const live = (t: TestContext, backend: { readonly Type: string; readonly DirectRouting?: boolean }, found: readonly string[] = []) =>
  serve(t, freshNode(t, backend.Type, found), backend)

const lines = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .toSorted()
/** What the kernel holds for peers: routes, neighbors, FDB entries. */
function held(device = 'flannel.1'): string[] {
  const routes = lines(run('route show proto 84')).map((line) => `route ${line}`)
  const tunnel = run('-br link').includes(device)
  const neighbors = tunnel ? lines(run(`neigh show dev ${device} nud permanent`)) : []
  const fdb = tunnel ? lines(execFileSync('bridge', ['fdb', 'show', 'dev', device], { encoding: 'utf8' })) : []
  return [...routes, ...neighbors.map((line) => `neigh ${line}`), ...fdb.map((line) => `fdb ${line}`)]
}
async function becomes(what: string, wanted: readonly string[], device?: string): Promise<void> {
  const are = (): boolean => JSON.stringify(held(device)) === JSON.stringify(wanted)
  await until(what, are).catch(() => assert.deepEqual(held(device), wanted, what))
}

const direct = (subnet: string, via: string): string => `route ${subnet} via ${via} dev eth1`
const ctrDirect = direct('10.244.0.0/24', '192.168.10.100')
const w2Direct = direct('10.244.1.0/24', '192.168.20.102')
const ctrTunnel = [
  'route 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink',
  'neigh 10.244.0.0 lladdr d2:34:23:a5:fd:9d PERMANENT',
  'fdb d2:34:23:a5:fd:9d dst 192.168.10.100 self permanent',
] as const
const w2Tunnel = [
  'route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink',
  'neigh 10.244.1.0 lladdr 16:e4:eb:80:b9:7e PERMANENT',
  'fdb 16:e4:eb:80:b9:7e dst 192.168.20.102 self permanent',
] as const
/** Both peers behind the tunnel. */
const tunnels = (device = 'flannel.1'): string[] =>
  [ctrTunnel[0], w2Tunnel[0], ctrTunnel[1], w2Tunnel[1], w2Tunnel[2], ctrTunnel[2]].map((line) => line.replace('flannel.1', device))

test('DirectRouting swaps route and tunnel as peers come on link and leave it', async (t) => {
  const { agent, cluster, env } = await live(t, { Type: 'vxlan', DirectRouting: true })
  const mixed = [ctrDirect, ...w2Tunnel]
  await becomes('one on link, one behind the router', mixed)
  run('addr add 192.168.20.101/24 dev eth1')
  await becomes('k8s-w2 comes on link', [ctrDirect, w2Direct])
  run('addr del 192.168.20.101/24 dev eth1')
  await becomes('k8s-w2 leaves', mixed)
  run('route add 192.168.10.100 via 192.168.10.1')
  await becomes('a router is put before k8s-ctr', tunnels())
  run('route del 192.168.10.100')
  await becomes('and taken away', mixed)
  run('addr add 192.168.10.101/32 dev eth1')
  run('addr del 192.168.10.101/24 dev eth1')
  await becomes('the prefix shrinks: nobody is on link', tunnels())
  run('addr add 192.168.10.101/24 dev eth1')
  await becomes('and grows', mixed)

  const mac = agent.plans!.self.mac
  run('addr flush dev eth1')
  run('addr add 192.168.10.111/24 dev eth1')
  run('route add default via 192.168.10.1')
  await until('the new address is announced', () => cluster.nodes.get('k8s-w1')!.annotations['public-ip'] === '192.168.10.111')
  await until('the device speaks from it', () => run('-d link').includes('local 192.168.10.111'))
  await becomes('with all that stood on the device', mixed)
  assert.equal(agent.plans!.self.mac, mac)

  run('link set eth1 mtu 1400')
  await until('pods get another MTU', () => env().includes('FLANNEL_MTU=1350') && /flannel\.1: .* mtu 1350/.test(run('link')))
  await until('nothing is left to do', async () => (await agent.steward!.plan()).length === 0)
  assert.deepEqual(statusOf(agent).findings, [])
})

test('host-gw refuses a peer behind a router by name and leaves it alone until it comes on link', async (t) => {
  const { agent, kernel, cluster, env } = await live(t, { Type: 'host-gw' })
  await becomes('one route', [ctrDirect])
  assert.match(env(), /FLANNEL_MTU=1500/)
  assert.equal(cluster.nodes.get('k8s-w1')!.annotations['backend-data'], 'null')
  const [finding, ...others] = statusOf(agent).findings
  assert.deepEqual(others, [])
  assert.deepEqual([finding!.id, finding!.subject], ['peer-not-on-link', 'node k8s-w2'])
  assert.match(
    finding!.text,
    /^k8s-w2 \(192\.168\.20\.102\) is not on link of eth1 \(192\.168\.10\.101\), the way is by 192\.168\.10\.1 on eth1/,
  )
  assert.match(finding!.remedy, /DirectRouting/)

  const before = kernel.mutations
  cluster.put({ ...cluster.nodes.get('k8s-ctr')!, name: 'k8s-w3', podCIDRs: ['10.244.3.0/24'] })
  await becomes('a pass over all', [ctrDirect, direct('10.244.3.0/24', '192.168.10.100')])
  assert.equal(kernel.mutations, before + 1, 'one route, and no try for k8s-w2')
  cluster.remove('k8s-w3')
  await becomes('gone again', [ctrDirect])

  run('addr add 192.168.20.101/24 dev eth1')
  await becomes('k8s-w2 comes on link', [ctrDirect, w2Direct])
  await until('nothing is wrong', () => statusOf(agent).findings.length === 0)

  run('addr flush dev eth1')
  await until('no interface', () => statusOf(agent).findings.some(({ id }) => id === 'no-interface'))
  assert.deepEqual(held(), [])
  run('addr add 192.168.10.101/24 dev eth1')
  await becomes('the address is back, and the route', [ctrDirect])
  run('link set eth1 down')
  await until('down', () => statusOf(agent).findings.some(({ id }) => id === 'interface-down'))
  run('link set eth1 up')
  await becomes('up again', [ctrDirect])
})

test('host-gw waits where NAT is between this node and its public IP', async (t) => {
  const { agent, cluster } = await live(t, { Type: 'host-gw' })
  cluster.put({ ...cluster.nodes.get('k8s-w1')!, annotations: { 'node-public-ip': '203.0.113.7' } })
  await until('the finding', () => statusOf(agent).findings.some(({ id }) => id === 'host-gw-behind-nat'))
  assert.deepEqual(held(), [ctrDirect], 'the last good plan stays')
})

test('routes that Flannel left (proto boot) become ours in place; the tunnel of a backend before goes', async (t) => {
  const { agent } = await live(t, { Type: 'host-gw' }, [
    'route add 10.244.0.0/24 via 192.168.10.100 dev eth1',
    'link add flannel.1 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning',
    'link set flannel.1 up',
    'route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink',
  ])
  await until('the device is gone', () => !run('-br link').includes('flannel.1'))
  assert.deepEqual(
    lines(run('route')).filter((line) => line.includes('10.244')),
    ['10.244.0.0/24 via 192.168.10.100 dev eth1 proto 84'],
  )
  assert.deepEqual(await agent.steward!.plan(), [])
})

interface Vxlan {
  readonly mtu: number
  readonly address: string
  readonly linkinfo: { readonly info_data: Readonly<Record<string, unknown>> }
}
const device = (name: string): Vxlan => (JSON.parse(run(`-d -j link show ${name}`)) as [Vxlan])[0]

test('each key of vxlan reaches the device; what is for life makes it anew with the same MAC, and says so', async (t) => {
  const node = freshNode(t, 'vxlan')
  const first = await serve(t, node, { Type: 'vxlan', VNI: 7, Port: 4789, MTU: 1400, GBP: true, Learning: true })
  const { mtu, address, linkinfo } = device('flannel.7')
  const { id, port, gbp, learning } = linkinfo.info_data
  assert.deepEqual({ mtu, id, port, gbp, learning }, { mtu: 1350, id: 7, port: 4789, gbp: true, learning: true })
  assert.equal(node.cluster.nodes.get('k8s-w1')!.annotations['backend-data'], `{"VNI":7,"VtepMAC":"${address}"}`)

  // Another port and MTU, and less of both than IPv6 wants: only the port needs a new device.
  await first.end()
  const second = await serve(t, node, { Type: 'vxlan', VNI: 7, MTU: 1300 })
  const other = device('flannel.7')
  assert.deepEqual([other.address, other.mtu, other.linkinfo.info_data.port], [address, 1250, 8472])
  await becomes('with its peers', tunnels('flannel.7'), 'flannel.7')
  await second.end()

  run('link del flannel.7')
  run(`link add flannel.7 address ${address} mtu 1250 type vxlan id 7 local 192.168.10.101 dev eth1 dstport 4790 nolearning`)
  const kernel = await openLinux()
  const scope = { links: ['flannel.7'], bridges: [], routeProtocol: 84, routeLinks: [], nftTables: [], sysctls: [], files: [] }
  const op = second.agent.steward!.desired.planAgainst(await kernel.dump(scope), () => false).find(({ item }) => item.kind === 'link')
  await kernel.close()
  assert.equal(op!.reason, 'made anew: dstport is 4790')

  await serve(t, node, { Type: 'vxlan' })
  assert.equal(device('flannel.1').address, address, 'the MAC that peers know stays')
  await until('the device of the other VNI goes', () => !run('-br link').includes('flannel.7'))
})

for (const backend of [{ Type: 'host-gw' }, { Type: 'vxlan', DirectRouting: true }]) {
  test(`a restart with nothing to change sends nothing: ${JSON.stringify(backend)}`, async (t) => {
    const node = freshNode(t, backend.Type)
    const first = await serve(t, node, backend)
    await first.end()
    const second = await serve(t, node, backend)
    assert.equal(second.kernel.mutations, 0)
    assert.ok(held().includes(ctrDirect))
  })
}
