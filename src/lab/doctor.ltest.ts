/**
 * `twill doctor` against real faults: each is made in a lab, doctor must name it and exit with 1, what it prints is run word for word,
 * doctor must then exit with 0, and pods must reach each other. One lab for all; it begins as a newcomer's does, with both traps.
 * @module
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { faults, noRules } from '#lab/doctor-faults.ts'
import { nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import { type Ran, run, tryRun } from '#lab/nodes/run.ts'
import { netns } from '#lab/nodes/topology.ts'
import { until } from '#lab/nodes/until.ts'
import { labEntry, nodeBinary, repo } from '#lab/repo.ts'
import { type LabState, readState } from '#lab/state.ts'

const lab = `doc${process.pid % 100000}`
let state: LabState
const twillLab = (...words: string[]): Promise<string> => run([nodeBinary, '--disable-warning=ExperimentalWarning', labEntry, ...words])

/** A shell line on a node, as its root types it. */
function on(node: string, line: string): Promise<Ran> {
  const machine = state.nodes.find(({ name }) => name === node)!
  return tryRun(onNode(lab, machine, ['sh', '-c', line]), { env: nodeEnvironment(node), cwd: '/' })
}
async function must(node: string, line: string): Promise<string> {
  const { status, stdout, stderr } = await on(node, line)
  assert.equal(status, 0, `${node}# ${line}\n${stdout}${stderr}`)
  return stdout
}

interface Report {
  readonly version: number
  readonly findings: readonly { readonly id: string; readonly subject: string; readonly text: string; readonly fix: readonly string[] }[]
}
/** Runs doctor; its exit status must go with what it found. */
async function doctor(node: string): Promise<Report> {
  const { status, stdout, stderr } = await on(node, 'twill doctor -o json')
  assert.ok(status < 2, `twill doctor on ${node}: status ${status}\n${stderr}`)
  const report = JSON.parse(stdout) as Report
  assert.equal(status, report.findings.length > 0 ? 1 : 0)
  assert.equal(report.version, 1)
  return report
}

/** Until a condition holds, or fails with what was seen last. */
async function eventually<T>(look: () => Promise<T>, fits: (seen: T) => boolean, what: string, deadlineMs = 30_000): Promise<T> {
  let seen: T | undefined
  const held = await until(
    async () => {
      seen = await look()
      return fits(seen)
    },
    { everyMs: 200, deadlineMs },
  )
  assert.ok(held, `${what}; last seen: ${JSON.stringify(seen, null, 1)}`)
  return seen!
}
const ids = ({ findings }: Report): string[] => findings.map(({ id }) => id)
const healthy = (node: string): Promise<Report> =>
  eventually(
    () => doctor(node),
    ({ findings }) => findings.length === 0,
    `doctor is not content with ${node}`,
  )

/** Doctor on `node` finds `id`; what it prints for it is run as it is printed, each line of it must succeed. */
async function cure(node: string, id: string): Promise<void> {
  const found = await eventually(
    () => doctor(node),
    (report) => ids(report).includes(id),
    `doctor does not find ${id} on ${node}`,
    20_000,
  )
  const commands = found.findings.filter((finding) => finding.id === id).flatMap(({ fix }) => fix)
  assert.ok(commands.length > 0, `${id} has no command: ${JSON.stringify(found.findings)}`)
  for (const command of commands) await must(node, command)
}

let curls = ''
/** curl-pod (k8s-ctr) asks the web pods of both workers, from its own network namespace. */
async function podsReachEachOther(): Promise<void> {
  if (curls === '') {
    const ips = await must('k8s-ctr', `kubectl get pod -l app=webpod -o jsonpath='{.items[*].status.podIP}'`)
    const netns = await must('k8s-ctr', `grep -ho '"netns":"[^"]*"' $(grep -l default/curl-pod /run/twill/attachments/*) | cut -d'"' -f4`)
    curls = ips
      .split(' ')
      .map((ip) => `nsenter --net=${netns.trim()} curl -sf -m 2 http://${ip}/`)
      .join(' && ')
  }
  await eventually(
    () => on('k8s-ctr', curls),
    ({ status, stdout }) => status === 0 && stdout.split('Hostname: ').length === 3,
    'curl from pod to pods',
  )
}

before(async () => {
  await twillLab('up', '--no-story', '--name', lab)
  state = readState(lab)!
})
after(async () => {
  await twillLab('down', '--name', lab)
})

/** Spares the test the pauses of a careful roll-out. */
const atOnce = String.raw`sed -e 's/initialDelaySeconds: 5/initialDelaySeconds: 0/; s/periodSeconds: 10/periodSeconds: 1/' \
  -e '/^  template:/i\  updateStrategy:\n    rollingUpdate: { maxUnavailable: 100% }'`
const nodes = ['k8s-ctr', 'k8s-w1', 'k8s-w2']

test('a new cluster with both traps: the address of the NAT card, and kubelets that announce it', async () => {
  await must('k8s-ctr', `twill manifest --services --kube-api-url=https://192.168.10.100:6443 | ${atOnce} | kubectl apply -f -`)
  await eventually(
    () => on('k8s-ctr', 'kubectl get node'),
    ({ stdout }) => stdout.match(/ Ready/g)?.length === 3,
    'nodes are not Ready',
  )
  const trapped = await eventually(
    () => doctor('k8s-ctr'),
    (report) => ids(report).includes('wrong-interface'),
    'the trap is not seen',
  )
  const fixOf = (id: string) => trapped.findings.find((finding) => finding.id === id)?.fix
  assert.deepEqual(fixOf('duplicate-public-ip'), fixOf('wrong-interface'))
  await cure('k8s-ctr', 'wrong-interface')
  assert.ok(!ids(await doctor('k8s-ctr')).includes('duplicate-public-ip'))
  await cure('k8s-w1', 'wrong-node-ip')
  await cure('k8s-w2', 'wrong-node-ip')
  for (const node of nodes) await healthy(node)
  await must(
    'k8s-ctr',
    'kubectl apply -f /root/webpod.yml && kubectl rollout status deploy webpod && kubectl wait --for=condition=Ready pod/curl-pod',
  )
  await podsReachEachOther()
})

/** On the switch between the nodes, which no node's root can reach. */
const onSwitch = (line: string): Promise<string> => run(['nsenter', `--net=/run/netns/${netns.switch(lab, 0)}`, 'sh', '-c', line])

describe('found, mended word for word, and well again', () => {
  for (const { name, ids, node, broken, after = [] } of faults) {
    test(`${ids[0]}: ${name}`, async () => {
      for (const line of broken) await must(node, line)
      for (const id of ids) await cure(node, id)
      await healthy(node)
      await podsReachEachOther()
      for (const line of after) await must(node, line)
    })
  }
})

test('vxlan-blocked-in: on the way between the nodes, where no command of this node helps', async () => {
  await onSwitch(
    `nft 'table bridge site { chain way { type filter hook forward priority 0; ip saddr 192.168.10.102 ip daddr 192.168.10.101 udp dport 8472 drop; }; }'`,
  )
  const { findings } = await doctor('k8s-w1')
  await onSwitch('nft delete table bridge site')
  assert.deepEqual(
    findings.map(({ id, subject, fix }) => ({ id, subject, fix })),
    [{ id: 'vxlan-blocked-in', subject: 'peer k8s-w2', fix: [] }],
  )
  await healthy('k8s-w1')
})

test('mtu-black-hole: a switch that drops large frames without a word', async () => {
  const netConf = await must('k8s-ctr', `kubectl -n kube-flannel get cm kube-flannel-cfg -o jsonpath='{.data.net-conf\\.json}'`)
  await onSwitch(`nft 'table bridge site { chain way { type filter hook forward priority 0; udp dport 8472 meta length > 1400 drop; }; }'`)
  await cure('k8s-ctr', 'mtu-black-hole')
  for (const node of nodes) await healthy(node)
  await podsReachEachOther()
  await onSwitch('nft delete table bridge site')
  assert.ok(!netConf.includes('MTU'))
})

test('inner-checksum: a network card that forgets the checksums of what is in a tunnel', async () => {
  const inSwitch = ['nsenter', `--net=/run/netns/${netns.switch(lab, 0)}`]
  await onSwitch(
    'ip link set port1 nomaster && ip link add cardA type veth peer name cardB && ip link set cardA up && ip link set cardB master br1 up',
  )
  const card = spawn(inSwitch[0]!, [inSwitch[1]!, nodeBinary, `${repo}/src/kernel/broken-card.ts`, 'port1', 'cardA'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(card.stdout, 'data', { signal: AbortSignal.timeout(10_000) })
    await cure('k8s-w1', 'inner-checksum')
    await healthy('k8s-w1')
    await podsReachEachOther()
  } finally {
    card.kill('SIGKILL')
    await onSwitch('ip link del cardA; ip link set port1 master br1')
  }
  await must('k8s-w1', 'twill offload flannel.1 on')
})

test('doctor --fix --yes mends all that it can, and says what is left', async () => {
  await must('k8s-w1', 'sysctl -w net.ipv4.conf.cni0.forwarding=0; iptables -P FORWARD DROP; rm /opt/cni/bin/portmap')
  const { status, stdout, stderr } = await on('k8s-w1', 'twill doctor --fix --yes')
  await must('k8s-w1', noRules)
  assert.equal(status, 0, stdout + stderr)
  assert.match(stdout, /^k8s-w1: nothing is wrong\n/)
  assert.match(stderr, /forward-drop \(node k8s-w1\)\n {2}iptables/)
})

test('doctor --fix asks, and does nothing without a yes', async () => {
  await must('k8s-w1', 'sysctl -w net.ipv4.conf.cni0.forwarding=0')
  const no = await on('k8s-w1', 'echo n | twill doctor --fix')
  assert.equal(no.status, 1)
  assert.match(no.stderr, /Run this\? \[y\/N\]/)
  const yes = await on('k8s-w1', 'echo y | twill doctor --fix')
  assert.equal(yes.status, 0, yes.stdout)
})

test('doctor without the right to look, or with nonsense for an option: status 2', async () => {
  assert.equal((await on('k8s-w1', 'setpriv --reuid 65534 --clear-groups --bounding-set -all --inh-caps -all twill doctor')).status, 2)
  assert.equal((await on('k8s-w1', 'twill doctor --colour')).status, 2)
})

test('all nodes are well in the end', async () => {
  for (const node of nodes) await healthy(node)
})
