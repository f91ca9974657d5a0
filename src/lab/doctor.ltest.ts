/**
 * `twill doctor` against real faults: each is made in a lab, doctor must name it and exit with 1, what it prints is run word for word,
 * doctor must then exit with 0, and pods must reach each other. One lab for all; it begins as a newcomer's does, with both traps.
 * @module
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
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

const ghost = (spec: object, metadata: object = {}): string =>
  `echo '${JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'ghost', ...metadata }, spec })}' | kubectl create -f -`
const managed = {
  annotations: {
    'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
    'flannel.alpha.coreos.com/backend-type': 'vxlan',
    'flannel.alpha.coreos.com/backend-data': '{"VNI":1,"VtepMAC":"9e:45:de:3a:28:99"}',
    'flannel.alpha.coreos.com/public-ip': '192.168.10.109',
  },
}
/** On the switch between the nodes, which no node's root can reach. */
const onSwitch = (line: string): Promise<string> => run(['nsenter', `--net=/run/netns/${netns.switch(lab, 0)}`, 'sh', '-c', line])
const noRules = 'iptables -P FORWARD ACCEPT; iptables -F; iptables -X'
const stopAgent = `kill -STOP $(pgrep -f '/agent[.]mjs')`

interface Case {
  readonly name: string
  /** What doctor must find, in the order to mend it. */
  readonly ids: readonly string[]
  readonly node: string
  /** Shell lines that make the fault. */
  readonly broken: readonly string[]
  /** What is left to tidy up after the cure. */
  readonly after?: readonly string[]
}
const cases: readonly Case[] = [
  {
    name: 'an address annotated twice',
    ids: ['duplicate-public-ip'],
    node: 'k8s-ctr',
    broken: ['kubectl annotate node k8s-w1 flannel.alpha.coreos.com/public-ip-overwrite=192.168.10.102'],
  },
  {
    name: 'a node without a pod CIDR',
    ids: ['missing-podcidr'],
    node: 'k8s-ctr',
    broken: [ghost({}, { annotations: { 'lab.twill.dev/no-pod-cidr': 'true' } })],
    after: ['kubectl delete node ghost'],
  },
  {
    name: 'one pod CIDR on two nodes',
    ids: ['duplicate-podcidr'],
    node: 'k8s-ctr',
    broken: [ghost({ podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] }, managed)],
  },
  {
    name: 'a pod CIDR outside of Network',
    ids: ['podcidr-outside-network'],
    node: 'k8s-ctr',
    broken: [ghost({ podCIDR: '10.99.0.0/24', podCIDRs: ['10.99.0.0/24'] }, managed)],
  },
  {
    name: 'br_netfilter is there and off (agent stopped: it would set it itself)',
    ids: ['bridge-nf-off', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'sysctl -w net.bridge.bridge-nf-call-iptables=0'],
  },
  {
    name: 'forwarding off for the node (agent stopped: it would set it itself)',
    ids: ['ip-forward-off', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'sysctl -w net.ipv4.ip_forward=0'],
  },
  {
    name: 'forwarding off for one interface',
    ids: ['ip-forward-off'],
    node: 'k8s-w1',
    broken: ['sysctl -w net.ipv4.conf.eth1.forwarding=0'],
  },
  {
    name: 'strict reverse path, and another way back',
    ids: ['rp-filter-strict'],
    node: 'k8s-w1',
    broken: [
      // Without ARP: whoever asks for 192.168.10.101 must not learn a MAC that is soon gone.
      'ip link add eth2 link eth1 type macvlan && ip link set eth2 arp off up',
      'ip neigh add 192.168.10.102 lladdr 08:00:27:00:01:66 dev eth2 && ip route add 192.168.10.102/32 dev eth2',
      'sysctl -w net.ipv4.conf.eth1.rp_filter=1',
    ],
    after: ['ip link del eth2', 'sysctl -w net.ipv4.conf.eth1.rp_filter=0'],
  },
  {
    name: 'the tunnel is larger than its uplink (agent stopped: it would repair it)',
    ids: ['mtu-mismatch', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'ip link set dev flannel.1 mtu 1500; sed -i s/1450/1500/ /run/flannel/subnet.env'],
  },
  {
    name: 'neighbor and FDB entry of a peer that moved (agent stopped: it would repair them)',
    ids: ['stale-vtep', 'agent-stopped'],
    node: 'k8s-ctr',
    broken: [
      stopAgent,
      'ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent',
      `mac=$(bridge fdb show dev flannel.1 | grep 'dst 192.168.10.102' | cut -d' ' -f1); bridge fdb replace $mac dev flannel.1 dst 192.168.10.77 self permanent`,
    ],
  },
  {
    name: 'a route deleted (agent stopped: it would repair it)',
    ids: ['missing-route', 'agent-stopped'],
    node: 'k8s-ctr',
    broken: [stopAgent, 'ip route del 10.244.1.0/24'],
  },
  {
    name: 'Docker drops by the policy of FORWARD',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER
       iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
       iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
       iptables -P FORWARD DROP`,
    ],
    after: [noRules],
  },
  {
    name: 'ufw rejects in a chain of its own',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `iptables -N ufw-before-forward; iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
       iptables -N ufw-reject-forward; iptables -A ufw-reject-forward -j REJECT --reject-with icmp-port-unreachable
       iptables -A FORWARD -j ufw-before-forward; iptables -A FORWARD -j ufw-reject-forward`,
    ],
    after: [noRules],
  },
  {
    name: 'firewalld rejects in nftables',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `nft -f - << 'EOF'
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    jump filter_FORWARD_POLICIES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_POLICIES { iifname "virbr0" accept; }
}
EOF`,
    ],
    after: ['nft delete table inet firewalld'],
  },
  {
    name: 'the old iptables drops, which no trace shows',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: ['iptables-legacy -P FORWARD DROP'],
    after: ['iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F'],
  },
  {
    name: 'iptables drops what comes in',
    ids: ['vxlan-blocked-in'],
    node: 'k8s-w1',
    broken: ['iptables -A INPUT -p udp --dport 8472 -j DROP'],
    after: [noRules],
  },
  {
    name: 'nftables drops what goes out',
    ids: ['vxlan-blocked-out'],
    node: 'k8s-w1',
    broken: [`nft 'table inet site { chain out { type filter hook output priority 0; udp dport 8472 counter drop; }; }'`],
    after: ['nft delete table inet site'],
  },
  {
    name: 'both',
    ids: ['vxlan-blocked'],
    node: 'k8s-w1',
    broken: ['iptables -A INPUT -p udp --dport 8472 -j DROP; iptables -A OUTPUT -p udp --dport 8472 -j DROP'],
    after: [noRules],
  },
  { name: 'eth1', ids: ['interface-down'], node: 'k8s-w1', broken: ['ip link set eth1 down'] },
  {
    name: 'an agent whose socket was deleted',
    ids: ['agent-stopped'],
    node: 'k8s-w2',
    broken: ['rm /run/twill/agent.sock'],
  },
  {
    name: 'the conflist of another pod network sorts first',
    ids: ['stale-conflist'],
    node: 'k8s-w1',
    broken: [`echo '{"name":"old","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}' > /etc/cni/net.d/05-calico.conflist`],
    after: ['rm /etc/cni/net.d/05-calico.conflist.saved-by-twill'],
  },
  { name: 'plugins deleted', ids: ['missing-plugin'], node: 'k8s-w1', broken: ['rm /opt/cni/bin/portmap /opt/cni/bin/bridge'] },
  {
    name: 'addresses of containers that are gone',
    ids: ['leaked-address'],
    node: 'k8s-w1',
    broken: [`for i in 77 78; do printf 'deadbeef%s\\r\\neth0' $i > /var/lib/cni/networks/cbr0/10.244.1.$i; done`],
  },
  {
    name: 'a roll-out that stopped half way',
    ids: ['agent-version-skew'],
    node: 'k8s-ctr',
    broken: [
      `kubectl -n kube-flannel patch ds kube-flannel-ds -p '${JSON.stringify({
        spec: {
          updateStrategy: { type: 'OnDelete', rollingUpdate: null },
          template: { spec: { containers: [{ name: 'kube-flannel', image: 'ghcr.io/twill-net/twill:9.9.9' }] } },
        },
      })}'`,
    ],
    after: [`kubectl -n kube-flannel patch ds kube-flannel-ds -p '{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}'`],
  },
  {
    name: 'a second pod network',
    ids: ['two-cnis'],
    node: 'k8s-ctr',
    broken: [
      `echo '${JSON.stringify({
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        metadata: { name: 'calico-node', namespace: 'kube-system' },
        spec: {
          selector: { matchLabels: { app: 'calico' } },
          template: {
            metadata: { labels: { app: 'calico' } },
            spec: { hostNetwork: true, containers: [{ name: 'pause', image: 'registry.k8s.io/pause:3.10' }] },
          },
        },
      })}' | kubectl apply -f -`,
    ],
  },
  {
    name: 'a NetworkPolicy',
    ids: ['networkpolicy-unenforced'],
    node: 'k8s-ctr',
    broken: [
      `echo '${JSON.stringify({
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'deny-all', namespace: 'default' },
        spec: { podSelector: {}, policyTypes: ['Ingress'] },
      })}' | kubectl apply -f -`,
    ],
    after: ['kubectl delete networkpolicy deny-all'],
  },
  {
    name: 'a kubeconfig with the CA of another cluster',
    ids: ['api-certificate'],
    node: 'k8s-ctr',
    broken: [
      'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -out /tmp/other.crt -subj /CN=other -days 1',
      'kubectl config set-cluster $(kubectl config get-clusters | tail -1) --certificate-authority=/tmp/other.crt --embed-certs=true',
    ],
  },
]
describe('found, mended word for word, and well again', () => {
  for (const { name, ids, node, broken, after = [] } of cases) {
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
