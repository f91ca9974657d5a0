/** The agent on the real kernel, in a network namespace of its own, beside what real Flannel leaves (golden/vxlan-iptables, k8s-w1). */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Agent } from '#daemon/agent.ts'
import { statusOf } from '#daemon/status.ts'
import { agentParts, FakeCluster, nodeRecord, peerRecord, until } from '#daemon/testing.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'

sys.unshare(CLONE_NEWNET)
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
const ip = (...args: string[]): Record<string, unknown>[] => JSON.parse(run('ip', '-j', '-d', ...args) || '[]')

let dir = ''
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'twill-agent-'))
  run('ip', 'link', 'set', 'lo', 'up')
  // The uplink: one end of a veth pair stands for the node's eth1.
  run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'switch')
  run('ip', 'link', 'set', 'switch', 'up')
  run('ip', 'link', 'set', 'eth1', 'up')
  run('ip', 'addr', 'add', '192.168.10.101/24', 'dev', 'eth1')
})
after(() => rmSync(dir, { recursive: true, force: true }))

const ctr = peerRecord('k8s-ctr', '10.244.0.0/24', '192.168.10.100', 'd2:34:23:a5:fd:9d')
const w2 = peerRecord('k8s-w2', '10.244.1.0/24', '192.168.10.102', '16:e4:eb:80:b9:7e')
const w1 = nodeRecord('k8s-w1', { podCIDRs: ['10.244.2.0/24'] })
const cluster = new FakeCluster([ctr, w1, w2])

/** An agent that lives until `stop`. */
async function start() {
  const stop = new AbortController()
  const kernel = await openLinux()
  const agent = new Agent(agentParts({ cluster, kernel, node: 'k8s-w1', argv: ['--iface=eth1'], dir }))
  const ended = agent.run(stop.signal)
  await Promise.race([until('serving', () => agent.ready), ended])
  return {
    agent,
    kernel,
    async stop() {
      stop.abort()
      await ended
    },
  }
}
const routes = (): string[] =>
  run('ip', 'route')
    .split('\n')
    .filter((line) => line.includes('10.244'))
    .map((line) => line.trim())
    .toSorted()
const wantedRoutes = [
  '10.244.0.0/24 via 10.244.0.0 dev flannel.1 proto 84 onlink',
  '10.244.1.0/24 via 10.244.1.0 dev flannel.1 proto 84 onlink',
]

test('a fresh node becomes what real Flannel leaves', async () => {
  const { agent, stop } = await start()
  try {
    const [link] = ip('link', 'show', 'flannel.1') as [
      { mtu: number; address: string; flags: string[]; linkinfo: { info_data: Record<string, unknown> }; addr_info: unknown },
    ]
    assert.equal(link.mtu, 1450)
    assert.deepEqual(link.flags, ['BROADCAST', 'MULTICAST', 'UP', 'LOWER_UP'])
    const { id, local, link: uplink, port, learning, ttl, ageing, udp_csum: csum } = link.linkinfo.info_data
    assert.deepEqual(
      { id, local, uplink, port, learning, ttl, ageing, csum },
      { id: 1, local: '192.168.10.101', uplink: 'eth1', port: 8472, learning: false, ttl: 0, ageing: 300, csum: true },
    )
    const [address] = ip('-4', 'addr', 'show', 'flannel.1') as [{ addr_info: { local: string; prefixlen: number; scope: string }[] }]
    assert.deepEqual(
      address.addr_info.map(({ local, prefixlen, scope }) => `${local}/${prefixlen} ${scope}`),
      ['10.244.2.0/32 global'],
    )
    assert.deepEqual(routes(), wantedRoutes)
    assert.deepEqual(
      ip('neigh', 'show', 'dev', 'flannel.1')
        .map(({ dst, lladdr, state }) => [dst, lladdr, state])
        .toSorted(),
      [
        ['10.244.0.0', 'd2:34:23:a5:fd:9d', ['PERMANENT']],
        ['10.244.1.0', '16:e4:eb:80:b9:7e', ['PERMANENT']],
      ],
    )
    const fdb = JSON.parse(run('bridge', '-j', 'fdb', 'show', 'dev', 'flannel.1')) as Record<string, unknown>[]
    assert.deepEqual(fdb.map(({ mac, dst, flags, state }) => [mac, dst, flags, state]).toSorted(), [
      ['16:e4:eb:80:b9:7e', '192.168.10.102', ['self'], 'permanent'],
      ['d2:34:23:a5:fd:9d', '192.168.10.100', ['self'], 'permanent'],
    ])
    assert.equal(readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'), '1\n')
    assert.equal(readFileSync('/proc/sys/net/ipv6/conf/flannel.1/accept_ra', 'utf8'), '0\n')
    const golden = 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
    assert.equal(readFileSync(`${dir}/subnet.env`, 'utf8'), golden)
    assert.equal(statSync(`${dir}/subnet.env`).mode & 0o777, 0o644)
    assert.equal(cluster.nodes.get('k8s-w1')!.annotations['backend-data'], `{"VNI":1,"VtepMAC":"${link.address}"}`)
    assert.match(run('nft', 'list', 'table', 'inet', 'twill'), /ip saddr 10.244.0.0\/16 ip daddr != 224.0.0.0\/4 masquerade fully-random/)
    assert.deepEqual(await agent.steward!.plan(), [])
    assert.deepEqual(statusOf(agent).findings, [])
  } finally {
    await stop()
  }
})

test('a restart with nothing to change sends no mutating message and no patch', async () => {
  const patches = cluster.patches.length
  const { kernel, stop } = await start()
  await stop()
  assert.equal(kernel.mutations, 0)
  assert.equal(cluster.patches.length, patches)
})

test('what others change is put right, and the journal says who', async () => {
  const { agent, stop } = await start()
  try {
    run('ip', 'route', 'del', '10.244.0.0/24')
    await until('the route is back', () => agent.steward!.journal.total > 0 && routes().length === 2)
    const [repair] = statusOf(agent).repairs.recent
    assert.equal(repair!.found, 'deleted')
    assert.equal(repair!.op, `put route ${wantedRoutes[0]}`)
    assert.equal(repair!.owner, 'peer k8s-ctr')

    run('nft', 'delete', 'table', 'inet', 'twill')
    await until(
      'masquerade is back',
      async () => run('nft', 'list', 'tables').includes('inet twill') && (await agent.steward!.plan()).length === 0,
    )

    run('ip', 'link', 'del', 'flannel.1')
    await until('the device and all on it are back', async () => routes().length === 2 && (await agent.steward!.plan()).length === 0)
    assert.deepEqual(routes(), wantedRoutes)
    run('ip', 'link', 'set', 'flannel.1', 'down')
    await until('up again, with its routes', async () => routes().length === 2 && (await agent.steward!.plan()).length === 0)
  } finally {
    await stop()
  }
})

test('a peer that leaves is swept; one that left while no agent ran is swept by the next', async () => {
  const { stop } = await start()
  cluster.remove('k8s-w2')
  await until('its route is gone', () => routes().length === 1)
  await stop()
  cluster.nodes.delete('k8s-ctr')
  const next = await start()
  await until('none is left', () => routes().length === 0)
  await next.stop()
  assert.deepEqual(ip('neigh', 'show', 'dev', 'flannel.1', 'nud', 'permanent'), [])
})
