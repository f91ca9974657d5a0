/**
 * The story that `make lab` tells: eight steps from bare nodes to a curl between pods, each shown by real commands and real output.
 * docs/tutorial.md walks the same way for a person.
 * @module
 */
import { labError } from '#lab/errors.ts'
import { kubectlAdvice } from '#lab/mini-kubectl.ts'
import { webReplicas } from '#lab/nodes/files.ts'
import { run } from '#lab/nodes/run.ts'
import { netns } from '#lab/nodes/topology.ts'
import type { LabState } from '#lab/state.ts'
import { type Hop, packetsWay } from '#lab/story/packet.ts'
import { Shell } from '#lab/story/shell.ts'
import type { StatusDocument } from '#model/status.ts'

export interface StoryOptions {
  /** --iface of the agents; empty leaves it out. */
  readonly iface: string
  /** --backend of the manifest. */
  readonly backend: string
  /** Why the nodes have only the lab's little kubectl, if they do. */
  readonly noKubectl?: string
}

/** Tells the story in a lab that is up. @throws {TwillError} ERR_LAB_STORY at the first step that does not show what it should. */
export async function tellStory(state: LabState, { iface, backend, noKubectl }: StoryOptions): Promise<void> {
  const shell = new Shell(state)
  const ctr = (line: string, o: object = {}): Promise<string> => shell.type({ on: 'k8s-ctr', line, ...o })
  const names = state.nodes.map(({ name }) => name)
  const workers = state.nodes.slice(1)
  const looked = (workers[0] ?? state.nodes[0]!).name
  const look = (line: string, o: object = {}): Promise<string> => shell.type({ on: looked, line, ...o })
  const apiserver = `https://${state.nodes[0]!.ip}:6443`

  shell.step(
    1,
    'Nodes',
    `${counted(names.length, 'machine')} in namespaces. eth0 is the NAT card and has the same address on all; by eth1 they reach each other.`,
  )
  for (const { name } of state.nodes) await shell.type({ on: name, line: 'ip -br -4 addr', pick: matching(/eth/) })
  await ctr(`ping -c 1 ${names.at(-1)}`, { pick: matching(/bytes from/) })
  if (noKubectl !== undefined)
    shell.say(`\n${noKubectl} The lab’s nodes get a little one that does what this story types.\n${kubectlAdvice}`)

  shell.step(2, 'No CNI', 'Without a pod network nodes are NotReady, and only pods that use their node’s own network run.')
  await ctr('kubectl get node -owide', { expect: all(names, 'NotReady') })
  await ctr('kubectl get pod -A -owide', { expect: /coredns\S+ +0\/1 +Pending/ })
  await ctr('kubectl get event -n kube-system --field-selector reason=FailedScheduling', { expect: /not-ready/, pick: first(2) })

  if (workers.length > 0) await wrongAddress(shell, workers)

  shell.step(
    4,
    'Install',
    'One agent a node takes the node’s /24, announces it, and writes the CNI configuration last: then nodes turn Ready.',
  )
  await ctr('kubectl create ns kube-flannel')
  await ctr('kubectl label ns kube-flannel pod-security.kubernetes.io/enforce=privileged')
  const chosen = iface === '' ? '' : ` --iface=${iface}`
  const spoken = backend === 'vxlan' ? '' : ` --backend="${backend}"`
  await ctr(`twill manifest${chosen}${spoken} --services --kube-api-url=${apiserver} > /root/kube-flannel.yml`)
  await ctr('kubectl apply -f /root/kube-flannel.yml', { pick: matching(/created|configured/) })
  await ctr('kubectl get node', { expect: all(names, 'Ready') })
  await ctr('kubectl get node -o custom-columns=NAME:.metadata.name,PODCIDR:.spec.podCIDR')
  if (iface === '' && workers.length > 0) return trap(shell, names)
  const agent = await statusOf(shell, looked)
  if (agent.findings.some(({ id }) => id === 'peer-not-on-link')) return refusal(shell, names.at(-1)!)
  await ctr('kubectl get pod -n kube-system -l k8s-app=kube-dns -owide', { expect: /1\/1 +Running[\s\S]*1\/1 +Running/ })

  shell.step(5, 'Look', 'What an agent leaves on its node, read back from the kernel.')
  await look('ls /opt/cni/bin')
  await look('cat /etc/cni/net.d/10-flannel.conflist /run/flannel/subnet.env')
  const device = agent.backend?.device
  if (device !== undefined) await look(`ip -d link show ${device}`, { pick: first(3) })
  await look('ip -c route | grep 10.244')
  if (device !== undefined) {
    await look(`ip neigh show dev ${device}`)
    await look(`bridge fdb show dev ${device}`)
  } else shell.say('  (no tunnel device: the routes lead to the other nodes themselves)')
  await ctr(`kubectl get node ${looked} -o jsonpath='{.metadata.annotations}' | tr ',' '\\n' | grep flannel`)
  // The .0 of a node's pod CIDR is the address of its tunnel device.
  for (const i of device === undefined ? [] : workers.keys())
    await ctr(`ping -c 1 -W 1 10.244.${i + 1}.0`, { pick: matching(/bytes from/) })

  const replicas = webReplicas(names.length)
  const endpoints = inTurn(...Array(replicas).fill('\\d:80'))
  shell.step(
    6,
    'Sample application',
    `${replicas > 1 ? 'Two web pods on two nodes' : 'A web pod'} behind a service. Pods see each other’s own address; the internet sees the node’s.`,
  )
  await ctr('kubectl apply -f /root/webpod.yml')
  await ctr('kubectl get pod -owide', { expect: inTurn('curl-pod +1/1', ...Array(replicas).fill('webpod\\S+ +1/1')) })
  await ctr('kubectl get deploy,svc,ep webpod -owide', {
    expect: endpoints,
    pick: withoutWarnings,
  })
  const webPods = await findWebPods(shell)
  const web = webPods[0]!
  const there = (line: string, o: object = {}): Promise<string> => shell.type({ on: web.node, line, ...o })
  const own = (await shell.quietly('k8s-ctr', `kubectl get pod curl-pod -o jsonpath='{.status.podIP}'`)).stdout.trim()
  await ctr(`kubectl exec -it curl-pod -- curl -s ${web.ip}`, {
    tty: true,
    expect: new RegExp(`RemoteAddr: ${own}:`),
    pick: matching(/Hostname|RemoteAddr/),
  })
  await ctr(
    'kubectl exec curl-pod -- sh -c "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do curl -s webpod | grep Hostname; done" | sort | uniq -c',
    {
      expect: inTurn(...Array(replicas).fill('Hostname: webpod')),
    },
  )
  await ctr('kubectl exec curl-pod -- curl -s http://198.51.100.10/', { expect: /Hello 198\.51\.100\.100/ })
  shell.say(`  packets that left k8s-ctr with another source than the node's, counted at its NAT box: ${await leaked(state.lab)}`)

  shell.step(7, 'The packet’s way', 'The first packet of one curl, captured at each interface that it passes.')
  const told = new Set<string>()
  for (const { node, ip } of webPods) {
    const hop = await hopTo(shell, ip)
    if (told.has(hop.dev)) continue
    told.add(hop.dev)
    const curl = `kubectl exec curl-pod -- curl -s -o /dev/null ${ip}`
    const way = await packetsWay(state, { from: 'k8s-ctr', to: node, ip, hop }, () => shell.quietly('k8s-ctr', curl))
    shell.say([`  curl-pod ${own} on k8s-ctr asks ${ip} on ${node}`, ...way].join('\n'))
  }

  shell.step(8, 'Delete', 'With the pod go its veth, its address file and its rules; the Deployment’s next pod comes with its own.')
  const record = `grep -h default/${web.name} /run/twill/attachments/* | grep -o -m 1 'veth[0-9a-f]*'`
  const veth = (await shell.quietly(web.node, record)).stdout.split('\n')[0]!
  const rules = `nft list table inet twill | grep -wF ${web.ip}`
  const has = (word: string) => (output: string) => output.split(/\s+/).includes(word)
  await there('ls /var/lib/cni/networks/cbr0', { expect: has(web.ip) })
  await there(`ip -br link show ${veth}`)
  await there(rules)
  await ctr(rules)
  await ctr(`kubectl delete pod ${web.name}`, { expect: /deleted/ })
  await there('ls /var/lib/cni/networks/cbr0', { expect: (output: string) => !has(web.ip)(output) })
  await there(`ip -br link show ${veth}`, { expect: /does not exist/ })
  await there(rules, { expect: /^$/ })
  await ctr(rules, { expect: /^$/ })
  await ctr('kubectl get ep webpod', { expect: endpoints, pick: withoutWarnings })
}

/** Step 3, on machines that have workers: they are the ones whose address is wrong. */
async function wrongAddress(shell: Shell, workers: LabState['nodes']): Promise<void> {
  const ctr = (line: string, o: object = {}): Promise<string> => shell.type({ on: 'k8s-ctr', line, ...o })
  const [{ ip: own }] = workers as [LabState['nodes'][number]]
  shell.step(
    3,
    'The wrong address',
    'The workers announce 10.0.2.15: asked from the control plane, that address is the control plane itself, so exec and logs miss.',
  )
  await ctr('ip route get 10.0.2.15')
  await shell.type({ on: 'k8s-w1', line: 'cp /root/host-pod.yml /etc/kubernetes/manifests/' })
  await ctr('kubectl get pod host-pod-k8s-w1 -owide', { expect: /1\/1 +Running .* 10\.0\.2\.15 / })
  await ctr('kubectl exec host-pod-k8s-w1 -- hostname', { expect: /could not find the requested resource/ })
  shell.say('  (asked by that address, the kubelet of k8s-ctr answered: it has no such pod)')
  for (const { name, ip } of workers) {
    const sed = `sed -i 's/^KUBELET_KUBEADM_ARGS="/&--node-ip=${ip} /' /var/lib/kubelet/kubeadm-flags.env`
    await shell.type({ on: name, line: `${sed} && systemctl daemon-reexec && systemctl restart kubelet` })
  }
  await ctr('kubectl get node -owide', { expect: inTurn(...workers.map(({ name, ip }) => `${name} .* ${ip} `)) })
  await ctr('kubectl get pod host-pod-k8s-w1 -owide', { expect: new RegExp(`1/1 +Running .* ${own} `) })
  await ctr('kubectl exec host-pod-k8s-w1 -- hostname', { expect: /^k8s-w1$/m })
  await shell.type({ on: 'k8s-w1', line: 'rm /etc/kubernetes/manifests/host-pod.yml' })
}

/** What the agent on a node says about itself. */
async function statusOf(shell: Shell, node: string): Promise<StatusDocument> {
  return JSON.parse((await shell.quietly(node, 'twill status -o json')).stdout) as StatusDocument
}

interface WebPod {
  readonly node: string
  readonly ip: string
  readonly name: string
}

/** The web pods, by the names of their nodes. */
async function findWebPods(shell: Shell): Promise<WebPod[]> {
  const columns = 'NODE:.spec.nodeName,IP:.status.podIP,NAME:.metadata.name'
  const { stdout } = await shell.quietly('k8s-ctr', `kubectl get pod -l app=webpod -o custom-columns=${columns}`)
  const [, ...rows] = stdout.trim().split('\n')
  return rows.toSorted().map((row) => {
    const [node, ip, name] = row.split(/ +/) as [string, string, string]
    return { node, ip, name }
  })
}

/** The device by which k8s-ctr sends to a pod, from the kernel. */
async function hopTo(shell: Shell, ip: string): Promise<Hop> {
  const [route] = JSON.parse((await shell.quietly('k8s-ctr', `ip -j route get ${ip}`)).stdout) as { dev: string }[]
  const { dev } = route!
  const [link] = JSON.parse((await shell.quietly('k8s-ctr', `ip -d -j link show ${dev}`)).stdout) as {
    linkinfo?: { info_kind?: string; info_data: { id: number; port: number } }
  }[]
  const { info_kind: kind, info_data: data } = link!.linkinfo ?? {}
  return { dev, ...(kind === 'vxlan' && { tunnel: { vni: data!.id, port: data!.port } }) }
}

/** host-gw across a router: the agents refuse the nodes on the other side, by name. */
async function refusal(shell: Shell, far: string): Promise<void> {
  shell.step(5, 'A router between', 'host-gw needs every node on one layer 2 network: a peer behind a router is refused, and named.')
  await shell.type({ on: 'k8s-ctr', line: `ip route get ${far}`, mayFail: true })
  await shell.type({ on: 'k8s-ctr', line: 'ip route | grep 10.244', mayFail: true })
  await shell.type({ on: 'k8s-ctr', line: 'twill status', expect: new RegExp(`peer-not-on-link[\\s\\S]*${far}`) })
  shell.say('\nThe cure is DirectRouting: it routes where it can and tunnels where it must. Run make lab SEGMENTS=2 BACKEND=vxlan-direct.')
}

/** With --iface left out every node announces 10.0.2.15. */
async function trap(shell: Shell, names: readonly string[]): Promise<void> {
  shell.step(5, 'The NAT trap', 'Without --iface the agents take the interface of the default route: eth0, whose address all nodes share.')
  await shell.type({
    on: 'k8s-ctr',
    line: `kubectl get node -o custom-columns='NAME:.metadata.name,PUBLIC-IP:.metadata.annotations.flannel\\.alpha\\.coreos\\.com/public-ip'`,
    expect: all(names, '10\\.0\\.2\\.15'),
  })
  await shell.type({ on: 'k8s-ctr', line: 'ping -c 1 -W 1 10.244.1.0', expect: /100% packet loss/, pick: matching(/loss/), mayFail: true })
  await shell.type({ on: 'k8s-ctr', line: 'twill status', expect: /duplicate-public-ip|10\.0\.2\.15/, mayFail: true })
  shell.say('\nThe cure is --iface=eth1: run make lab.')
}

/** Packets that reached k8s-ctr's NAT box with a source that is not the node's. @throws {TwillError} ERR_LAB_STORY if there are any. */
async function leaked(lab: string): Promise<number> {
  const box = netns.nat(lab, 'k8s-ctr')
  const line = 'nft list counter ip nat-box foreign-source'
  const packets = Number(/packets (\d+)/.exec(await run(['nsenter', `--net=/run/netns/${box}`, ...line.split(' ')]))?.[1])
  if (packets !== 0) throw labError.ERR_LAB_STORY({ node: box, line, expected: `0 packets, not ${packets}` })
  return packets
}

/** `Three machines`. */
function counted(n: number, noun: string): string {
  const words = ['One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight', 'Nine']
  return `${words[n - 1]} ${noun}${n === 1 ? '' : 's'}`
}

/** All patterns, one after another, whatever is between. */
const inTurn = (...patterns: readonly string[]): RegExp => new RegExp(patterns.join('[\\s\\S]*'))
/** Each name is followed by `word`, whatever the order. */
const all =
  (names: readonly string[], word: string) =>
  (output: string): boolean =>
    names.every((name) => new RegExp(`^${name} +${word}\\b`, 'm').test(output))

const matching =
  (pattern: RegExp) =>
  (lines: readonly string[]): readonly string[] =>
    lines.filter((line) => pattern.test(line))
const first =
  (n: number) =>
  (lines: readonly string[]): readonly string[] =>
    lines.slice(0, n)
const withoutWarnings = (lines: readonly string[]): readonly string[] => lines.filter((line) => !line.startsWith('Warning'))
