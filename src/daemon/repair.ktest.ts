/** What others break is put right: each kind of object the agent keeps, on the real kernel; who did it; nothing of anyone else's touched. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Agent } from '#daemon/agent.ts'
import { breakagesOf } from '#daemon/breakages.ts'
import { statusOf } from '#daemon/status.ts'
import { agentParts, FakeCluster, nodeRecord, peerRecord, until } from '#daemon/testing.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import { type Item, type Kernel, show } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { attachOps, bridgeItems, bridgeOwner, podItems, podOwner } from '#plan/pod.ts'
import { scopeOf } from '#plan/sweep.ts'
import { twillTable } from '#plan/table.ts'

sys.unshare(CLONE_NEWNET)
sweepTempNetns()
const ROUNDS = 2
const DEADLINE_MS = 3000
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
const sh = (line: string): string => run(...line.split(' '))

const dir = mkdtempSync(join(tmpdir(), 'twill-repair-'))
const pod = tempNetns()
const attachment: Attachment = {
  ...{ network: 'cbr0', containerId: 'repair', ifname: 'eth0', netns: pod.path, bridge: 'cni0', hairpin: true, mtu: 1450 },
  host: { name: 'vethrepair', mac: '02:00:00:00:01:01' },
  pod: { mac: '0a:58:0a:f4:02:05', addresses: ['10.244.2.5/24'] },
  gateways: ['10.244.2.1/24'],
  routes: [{ dst: '0.0.0.0/0' }],
}
const cluster = new FakeCluster([
  peerRecord('k8s-ctr', '10.244.0.0/24', '192.168.10.100', 'd2:34:23:a5:fd:9d'),
  nodeRecord('k8s-w1', { podCIDRs: ['10.244.2.0/24'] }),
])
cluster.services.set('default/webpod', {
  ...{ namespace: 'default', name: 'webpod', type: 'ClusterIP', clusterIPs: ['10.96.0.99'] },
  ports: [{ name: '', protocol: 'TCP', port: 80 }],
})

const stop = new AbortController()
let agent: Agent
let kernel: Kernel
let ended: Promise<void>
before(async () => {
  for (const line of [
    'ip link set lo up',
    'ip link add eth1 type veth peer name switch',
    'ip link set switch up',
    'ip link set eth1 up',
    'ip address add 192.168.10.101/24 dev eth1',
  ])
    sh(line)
  kernel = await openLinux()
  const argv = ['--iface=eth1', '--services', '--ip-blackhole-route']
  agent = new Agent(agentParts({ cluster, kernel, node: 'k8s-w1', argv, dir }))
  ended = agent.run(stop.signal)
  await Promise.race([until('serving', () => agent.ready), ended])
  const items = bridgeItems({ name: 'cni0', mac: '0a:58:0a:f4:02:01', mtu: 1450, gateways: ['10.244.2.1/24'] })
  await agent.steward!.commit(
    bridgeOwner('cni0'),
    items,
    items.map((item) => ({ verb: 'put', item })),
  )
  await agent.steward!.commit(podOwner(attachment), podItems(attachment), attachOps(attachment))
})
after(async () => {
  stop.abort()
  await ended
  pod.remove()
  rmSync(dir, { recursive: true, force: true })
})

/** Everything of the agent's, read by another's eyes. */
async function ours(): Promise<Item[]> {
  const files = [`${dir}/subnet.env`, `${dir}/10-flannel.conflist`]
  const sysctls = ['net/ipv4/ip_forward', 'net/ipv6/conf/flannel.1/accept_ra']
  return kernel.dump(scopeOf({ device: 'flannel.1', host: await kernel.host(), files, sysctls, tables: [twillTable] }))
}
const lines = (items: readonly Item[]): string[] => items.map(show).toSorted()

/** Objects of others, of every kind. */
function foreign(): string {
  return [
    'ip -j -d link show dev others0',
    'ip -j address show dev others0',
    'ip -j route show table all proto 99',
    'ip -j rule',
    'ip -j neigh show dev others0',
    'bridge -j fdb show dev others0',
    'nft -j list table inet others',
    'sysctl net.ipv4.conf.others0.forwarding net.ipv4.conf.eth1.rp_filter net.core.somaxconn',
  ]
    .map(sh)
    .concat(readFileSync(`${dir}/others.conf`, 'utf8'))
    .join('\n')
    .replace(/"gc_timer":[\d.]+,?/g, '')
}

test('each kind of object, broken and put right; what is another’s stays byte for byte', async (t) => {
  for (const line of [
    'ip link add others0 type bridge',
    'ip link set others0 addrgenmode none',
    'ip link set others0 up', // an address of its own choice would change by itself
    'ip address add 172.30.0.1/24 dev others0',
    'ip neigh add 172.30.0.9 lladdr 02:00:00:00:09:09 nud permanent dev others0',
    'ip route add 172.31.0.0/16 via 172.30.0.9 dev others0 proto 99',
    'ip route add 10.244.77.0/24 via 172.30.0.9 dev others0 proto 99',
    'ip rule add from 172.30.0.0/24 lookup 77',
    'bridge fdb add 02:00:00:00:09:0a dev others0 self permanent',
    'nft add table inet others',
    'nft add chain inet others theirs { type filter hook forward priority 5; policy accept; }',
    'nft add rule inet others theirs ip saddr 10.244.0.0/16 counter accept',
  ])
    run(...(line.startsWith('nft ') ? ['nft', line.slice(4)] : line.split(' ')))
  writeFileSync(`${dir}/others.conf`, 'theirs')
  const theirs = foreign()
  const wanted = await ours()
  const breakages = breakagesOf(wanted)
  assert.ok(breakages.length >= 26, breakages.map(({ kind }) => kind).join())
  const took = new Map<string, number[]>(breakages.map(({ kind }) => [kind, []]))
  // In rounds: who breaks one object ten times in ten seconds is waited out.
  for (let round = 0; round < ROUNDS; round++) {
    for (const { kind, object, argv, found, teller } of breakages) {
      await t.test(kind, async () => {
        const before = agent.steward!.journal.total
        const start = performance.now()
        run(...argv)
        const isBack = async (): Promise<boolean> =>
          agent.steward!.journal.total > before && lines(await ours()).join('\n') === lines(wanted).join('\n')
        await until(`${object} is back`, isBack, DEADLINE_MS)
        took.get(kind)!.push(performance.now() - start)
        const repair = agent.steward!.journal.recent.findLast(({ op }) => op === `put ${object}`)
        // A device goes down before it goes: a repair that came in between saw it change.
        const words = found === 'deleted' && object.startsWith('link ') ? ['deleted', 'changed'] : [found]
        assert.ok(words.includes(repair?.found ?? 'never'), JSON.stringify(repair))
        const by = { nf_tables: /^nft pid \d+$/, rtnetlink: /^(ip |bridge )?pid \d+$/, nobody: /^unknown$/ }[teller]
        assert.match(repair?.by ?? 'unknown', by)
      })
    }
  }
  for (const [kind, ms] of took) console.log(`${kind.padEnd(30)} ${ms.map((one) => one.toFixed(0)).join(' ')} ms`)
  assert.equal(foreign(), theirs)
  const messages = cluster.events.filter(({ reason }) => reason === 'ObjectRepaired').map(({ message }) => message)
  assert.ok(
    messages.some((text) => /^table inet twill was deleted by nft pid \d+: put right, and \d+ more$/.test(text)),
    messages.join('\n'),
  )
})

test('who keeps deleting a route is named and waited out; when he stops, it comes back and stays', async () => {
  const route = '10.244.0.0/24'
  const there = (): boolean => sh('ip route').includes(`${route} via`)
  const fighter = spawn('sh', ['-c', `while :; do ip route del ${route} 2>/dev/null; done`], { stdio: 'ignore' })
  try {
    const named = (): boolean =>
      statusOf(agent).findings.some(
        ({ id, text }) => id === 'object-contested' && text.startsWith(`Others change route ${route} again and again (`),
      )
    await until('the finding', named, 10_000)
    await until('backed off', () =>
      statusOf(agent).repairs.contested.some(({ object, delaySeconds }) => object === `route ${route}` && delaySeconds >= 1),
    )
    assert.ok(cluster.events.some(({ reason }) => reason === 'ObjectContested'))
    const { total } = agent.steward!.journal
    await new Promise((resolve) => setTimeout(resolve, 500))
    assert.ok(agent.steward!.journal.total <= total + 1, 'repaired while it was waited')
  } finally {
    fighter.kill()
    await new Promise((resolve) => fighter.once('exit', resolve))
  }
  await until('the route is back', there, 10_000)
  assert.deepEqual(await agent.steward!.plan(), [])
})
