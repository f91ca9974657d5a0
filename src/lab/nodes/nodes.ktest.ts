/** The lab's machines on the real kernel: made, used, killed half way, removed without a trace. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { lockLab } from '#lab/lock.ts'
import { cgroupTrees } from '#lab/nodes/cgroups.ts'
import { sweep } from '#lab/nodes/down.ts'
import { nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import { readMounts } from '#lab/nodes/mounts.ts'
import { type Ran, run, tryRun } from '#lab/nodes/run.ts'
import { isNetnsOf, type Topology, topology } from '#lab/nodes/topology.ts'
import { until } from '#lab/nodes/until.ts'
import { makeNodes } from '#lab/nodes/up.ts'
import { labEntry, nodeBinary } from '#lab/repo.ts'
import { isAlive, type NodeState, stateDir } from '#lab/state.ts'

const lab = `t${process.pid}`
const lan: Topology = topology(lab)
let nodes: NodeState[] = []

const on = (name: string, ...command: string[]): Promise<Ran> =>
  tryRun(onNode(lab, nodes.find((n) => n.name === name)!, command), { env: nodeEnvironment(name), cwd: '/' })

/** What of this lab can be found on the machine, by any of its marks. */
async function traces(name: string): Promise<string[]> {
  const { v1, v2 } = cgroupTrees()
  const named = (await run(['ip', 'netns', 'list'])).split('\n').map((line) => line.split(' ')[0]!)
  const processes = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && cgroupsOf(pid).includes(`/twill-lab-${name}/`))
  return [
    ...named.filter((n) => isNetnsOf(name, n)),
    ...[v2, ...v1].map((tree) => `${tree}/twill-lab-${name}`).filter((dir) => existsSync(dir)),
    ...readMounts()
      .map((m) => m.target)
      .filter((target) => target.startsWith(stateDir(name))),
    ...(existsSync(stateDir(name)) ? [stateDir(name)] : []),
    ...processes.map((pid) => `process ${pid}`),
  ]
}

/** Fails unless nothing of the lab is left. A process that was killed may take a moment to be gone from /proc. */
async function assertGone(name: string): Promise<void> {
  let left: string[] = []
  const gone = async (): Promise<boolean> => {
    left = await traces(name)
    return left.every((trace) => !trace.startsWith('process'))
  }
  await until(gone, { everyMs: 20, deadlineMs: 3000 })
  assert.deepEqual(left, [])
}

function cgroupsOf(pid: string): string {
  try {
    const zombie = / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\)/, ''))
    return zombie ? '' : readFileSync(`/proc/${pid}/cgroup`, 'utf8')
  } catch {
    return ''
  }
}

before(async () => {
  nodes = await makeNodes(lan, cgroupTrees(), undefined)
})
after(() => sweep(lab))

test('every node has the same NAT card, an address of its own on the switch, and its name', async () => {
  for (const { name, ip } of lan.nodes) {
    let links = ''
    // The kernel tells a link's carrier up to a second late (net/core/link_watch.c).
    const up = async (): Promise<boolean> => {
      links = (await on(name, 'ip', '-br', '-4', 'addr')).stdout
      return !links.includes('DOWN')
    }
    assert.ok(await until(up, { everyMs: 50, deadlineMs: 5000 }), links)
    assert.match(links, /^eth0\S* +UP +10\.0\.2\.15\/24/m)
    assert.match(links, new RegExp(`^eth1\\S* +UP +${ip}/24`, 'm'))
    assert.equal((await on(name, 'hostname')).stdout, `${name}\n`)
    assert.match((await on(name, 'ip', 'link', 'show', 'eth0')).stdout, /08:00:27:aa:bb:cc/)
  }
})

test('nodes reach each other by name', async () => {
  for (const from of lan.nodes) {
    for (const to of lan.nodes) {
      const { status, stdout } = await on(from.name, 'ping', '-c', '1', '-W', '2', to.name)
      assert.equal(status, 0, stdout)
    }
  }
})

test('the NAT box lets the node out under its own outside address, and forwards to the web server', async () => {
  assert.equal((await on('k8s-w1', 'ping', '-c', '1', '-W', '2', '198.51.100.10')).status, 0)
  const rules = await run(['nsenter', `--net=/run/netns/${lab}-k8s-w1-nat`, 'nft', 'list', 'table', 'ip', 'nat-box'])
  assert.match(rules, /ip saddr 10\.0\.2\.15 snat to 198\.51\.100\.101/)
})

test('pid 1 is pause, and what a node writes stays in the node', async () => {
  assert.match((await on('k8s-w1', 'readlink', '/proc/1/exe')).stdout, /\/dist\/pause\n/)
  assert.equal((await on('k8s-w1', 'touch', '/etc/only-here')).status, 0)
  assert.equal(existsSync('/etc/only-here'), false)
  assert.equal((await on('k8s-w2', 'test', '-e', '/etc/only-here')).status, 1)
})

test('sysctls that a kubelet writes do not reach the machine; forwarding is on', async () => {
  const own = readFileSync('/proc/sys/kernel/panic', 'utf8')
  assert.equal((await on('k8s-w1', 'sh', '-c', 'echo 7 > /proc/sys/kernel/panic && cat /proc/sys/kernel/panic')).stdout, '7\n')
  assert.equal(readFileSync('/proc/sys/kernel/panic', 'utf8'), own)
  assert.equal((await on('k8s-w1', 'cat', '/proc/sys/net/ipv4/ip_forward')).stdout, '1\n')
})

test('a command is in its node’s cgroup and ends with its own status, or 128 + its signal', async () => {
  assert.match((await on('k8s-w2', 'cat', '/proc/self/cgroup')).stdout, new RegExp(`^0::/.*twill-lab-${lab}/k8s-w2/system$`, 'm'))
  assert.equal((await on('k8s-w2', 'sh', '-c', 'exit 41')).status, 41)
  assert.equal((await on('k8s-w2', 'sh', '-c', 'kill -KILL $$')).status, 137)
})

test('a second change to the lab is refused while one is under way, and says who is at it', async () => {
  {
    using _ = await lockLab(lab, 'a test')
    await assert.rejects(lockLab(lab, 'another'), { code: 'ERR_LAB_BUSY', message: /a test, pid \d+/ })
  }
  using _ = await lockLab(lab, 'again')
})

test('killing pid 1 ends all of a node’s processes', async () => {
  const node = nodes.find((n) => n.name === 'k8s-w2')!
  const [program, ...args] = onNode(lab, node, ['sleep', '60'])
  const child = spawn(program!, args, { stdio: 'ignore' })
  const children = (): string => readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
  assert.ok(await until(() => children() !== '', { everyMs: 5, deadlineMs: 5000 }))
  process.kill(node.init.pid, 'SIGKILL')
  await once(child, 'exit')
  assert.ok(await until(() => !isAlive(node.init), { everyMs: 5, deadlineMs: 5000 }))
})

test('down leaves nothing', async () => {
  assert.notDeepEqual(await traces(lab), [])
  await sweep(lab)
  await assertGone(lab)
})

/** Starts `twill lab up` and stops it with `signal` as soon as `reached` holds. */
async function upAndStop(name: string, signal: NodeJS.Signals, reached: () => boolean): Promise<number | null> {
  const child = spawn(nodeBinary, [labEntry, 'up', '--no-story', '--name', name], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  assert.ok(await until(() => reached() || child.exitCode !== null, { everyMs: 2, deadlineMs: 20_000 }))
  child.kill(signal)
  const [code] = (await ended) as [number | null]
  return code
}

const stages: [string, (name: string) => boolean][] = [
  ['its first namespace is there', (name) => existsSync(`/run/netns/${name}-switch`)],
  ['a node is being made', (name) => existsSync(`${stateDir(name)}/logs/init-k8s-w2.log`)],
  ['the control plane starts', (name) => existsSync(`${stateDir(name)}/logs/control-plane.log`)],
]
for (const [i, [when, reached]] of stages.entries()) {
  test(`kill -9 when ${when}: the next down clears it all`, async () => {
    const name = `${lab}k${i}`
    await upAndStop(name, 'SIGKILL', () => reached(name))
    assert.notDeepEqual(await traces(name), [])
    await sweep(name)
    await assertGone(name)
  })
  test(`Ctrl-C when ${when}: exit 130, and nothing is left`, async () => {
    const name = `${lab}c${i}`
    assert.equal(await upAndStop(name, 'SIGINT', () => reached(name)), 130)
    await assertGone(name)
  })
}
