/**
 * The story that `make lab` tells: eight steps from bare nodes to a curl between pods, each shown by real commands and real output.
 * docs/tutorial.md walks the same way for a person.
 * @module
 */
import { labError } from '#lab/errors.ts'
import { kubectlAdvice } from '#lab/mini-kubectl.ts'
import { run } from '#lab/nodes/run.ts'
import { netns } from '#lab/nodes/topology.ts'
import type { LabState } from '#lab/state.ts'
import { packetsWay } from '#lab/story/packet.ts'
import { Shell } from '#lab/story/shell.ts'

export interface StoryOptions {
  /** --iface of the agents; empty leaves it out. */
  readonly iface: string
  /** Why the nodes have only the lab's little kubectl, if they do. */
  readonly noKubectl?: string
}

/** Tells the story in a lab that is up. @throws {TwillError} ERR_LAB_STORY at the first step that does not show what it should. */
export async function tellStory(state: LabState, { iface, noKubectl }: StoryOptions): Promise<void> {
  const shell = new Shell(state)
  const ctr = (line: string, o: object = {}): Promise<string> => shell.type({ on: 'k8s-ctr', line, ...o })
  const w1 = (line: string, o: object = {}): Promise<string> => shell.type({ on: 'k8s-w1', line, ...o })
  const apiserver = `https://${state.nodes[0]!.ip}:6443`

  shell.step(
    1,
    'Nodes',
    'Three machines in namespaces. eth0 is the NAT card and has the same address on all; by eth1 they reach each other.',
  )
  for (const { name } of state.nodes) await shell.type({ on: name, line: 'ip -br -4 addr', pick: matching(/eth/) })
  await ctr('ping -c 1 k8s-w1', { pick: matching(/bytes from/) })
  if (noKubectl !== undefined)
    shell.say(`\n${noKubectl} The lab’s nodes get a little one that does what this story types.\n${kubectlAdvice}`)

  shell.step(2, 'No CNI', 'Without a pod network nodes are NotReady, and only pods that use their node’s own network run.')
  await ctr('kubectl get node -owide', { expect: /k8s-w2 +NotReady/ })
  await ctr('kubectl get pod -A -owide', { expect: /coredns\S+ +0\/1 +Pending/ })
  await ctr('kubectl get event -n kube-system --field-selector reason=FailedScheduling', { expect: /not-ready/, pick: first(2) })

  shell.step(
    3,
    'The wrong address',
    'The workers announce 10.0.2.15: asked from the control plane, that address is the control plane itself, so exec and logs miss.',
  )
  await ctr('ip route get 10.0.2.15')
  await w1('cp /root/host-pod.yml /etc/kubernetes/manifests/')
  await ctr('kubectl get pod host-pod-k8s-w1 -owide', { expect: /1\/1 +Running .* 10\.0\.2\.15 / })
  await ctr('kubectl exec host-pod-k8s-w1 -- hostname', { expect: /could not find the requested resource/ })
  shell.say('  (asked by that address, the kubelet of k8s-ctr answered: it has no such pod)')
  for (const { name, ip } of state.nodes.filter((n) => n.name !== 'k8s-ctr')) {
    const sed = `sed -i 's/^KUBELET_KUBEADM_ARGS="/&--node-ip=${ip} /' /var/lib/kubelet/kubeadm-flags.env`
    await shell.type({ on: name, line: `${sed} && systemctl daemon-reexec && systemctl restart kubelet` })
  }
  await ctr('kubectl get node -owide', { expect: /k8s-w1 .*192\.168\.10\.101[\s\S]*k8s-w2 .*192\.168\.10\.102/ })
  await ctr('kubectl get pod host-pod-k8s-w1 -owide', { expect: /1\/1 +Running .* 192\.168\.10\.101 / })
  await ctr('kubectl exec host-pod-k8s-w1 -- hostname', { expect: /^k8s-w1$/m })
  await w1('rm /etc/kubernetes/manifests/host-pod.yml')

  shell.step(
    4,
    'Install',
    'One agent a node takes the node’s /24, announces it, and writes the CNI configuration last: then nodes turn Ready.',
  )
  await ctr('kubectl create ns kube-flannel')
  await ctr('kubectl label ns kube-flannel pod-security.kubernetes.io/enforce=privileged')
  const chosen = iface === '' ? '' : ` --iface=${iface}`
  await ctr(`twill manifest${chosen} --services --kube-api-url=${apiserver} > /root/kube-flannel.yml`)
  await ctr('kubectl apply -f /root/kube-flannel.yml', { pick: matching(/created|configured/) })
  await ctr('kubectl get node', { expect: /k8s-ctr +Ready[\s\S]*k8s-w1 +Ready[\s\S]*k8s-w2 +Ready/ })
  await ctr('kubectl get node -o custom-columns=NAME:.metadata.name,PODCIDR:.spec.podCIDR')
  if (iface === '') return trap(shell)
  await ctr('kubectl get pod -n kube-system -l k8s-app=kube-dns -owide', { expect: /1\/1 +Running[\s\S]*1\/1 +Running/ })

  shell.step(5, 'Look', 'What an agent leaves on its node, read back from the kernel.')
  await w1('ls /opt/cni/bin')
  await w1('cat /etc/cni/net.d/10-flannel.conflist /run/flannel/subnet.env')
  await w1('ip -d link show flannel.1', { pick: first(3) })
  await w1('ip -c route | grep 10.244')
  await w1('ip neigh show dev flannel.1')
  await w1('bridge fdb show dev flannel.1')
  await ctr(`kubectl get node k8s-w1 -o jsonpath='{.metadata.annotations}' | tr ',' '\\n' | grep flannel`)
  for (const i of [1, 2]) await ctr(`ping -c 1 -W 1 10.244.${i}.0`, { pick: matching(/bytes from/) })

  shell.step(
    6,
    'Sample application',
    'Two web pods on two nodes behind a service. Pods see each other’s own address; the internet sees the node’s.',
  )
  await ctr('kubectl apply -f /root/webpod.yml')
  await ctr('kubectl get pod -owide', { expect: /curl-pod +1\/1[\s\S]*webpod\S+ +1\/1[\s\S]*webpod\S+ +1\/1/ })
  await ctr('kubectl get deploy,svc,ep webpod -owide', {
    expect: /\d:80,/,
    pick: withoutWarnings,
  })
  const ofWebPod = (path: string): string => `kubectl get pod -l app=webpod --field-selector spec.nodeName=k8s-w1 -o jsonpath='${path}'`
  const podIp = (await shell.quietly('k8s-ctr', ofWebPod('{.items[0].status.podIP}'))).stdout
  const own = (await shell.quietly('k8s-ctr', `kubectl get pod curl-pod -o jsonpath='{.status.podIP}'`)).stdout.trim()
  await ctr(`kubectl exec -it curl-pod -- curl -s ${podIp}`, {
    tty: true,
    expect: new RegExp(`RemoteAddr: ${own}:`),
    pick: matching(/Hostname|RemoteAddr/),
  })
  await ctr(
    'kubectl exec curl-pod -- sh -c "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do curl -s webpod | grep Hostname; done" | sort | uniq -c',
    {
      expect: /webpod[\s\S]*webpod/,
    },
  )
  await ctr('kubectl exec curl-pod -- curl -s http://198.51.100.10/', { expect: /Hello 198\.51\.100\.100/ })
  shell.say(`  packets that left k8s-ctr with another source than the node's, counted at its NAT box: ${await leaked(state.lab)}`)

  shell.step(7, 'The packet’s way', 'The first packet of one curl, captured at six interfaces.')
  const curl = `kubectl exec curl-pod -- curl -s -o /dev/null ${podIp}`
  const way = await packetsWay(state, 'k8s-ctr', 'k8s-w1', podIp, () => shell.quietly('k8s-ctr', curl))
  shell.say([`  curl-pod ${own} on k8s-ctr asks ${podIp} on k8s-w1`, ...way].join('\n'))

  shell.step(8, 'Delete', 'With the pod go its veth, its address file and its rules; the Deployment’s next pod comes with its own.')
  const pod = (await shell.quietly('k8s-ctr', ofWebPod('{.items[0].metadata.name}'))).stdout
  const record = `grep -h default/${pod} /run/twill/attachments/* | grep -o -m 1 'veth[0-9a-f]*'`
  const veth = (await shell.quietly('k8s-w1', record)).stdout.split('\n')[0]!
  const rules = `nft list table inet twill | grep -wF ${podIp}`
  const has = (word: string) => (output: string) => output.split(/\s+/).includes(word)
  await w1('ls /var/lib/cni/networks/cbr0', { expect: has(podIp) })
  await w1(`ip -br link show ${veth}`)
  await w1(rules)
  await ctr(rules)
  await ctr(`kubectl delete pod ${pod}`, { expect: /deleted/ })
  await w1('ls /var/lib/cni/networks/cbr0', { expect: (output: string) => !has(podIp)(output) })
  await w1(`ip -br link show ${veth}`, { expect: /does not exist/ })
  await w1(rules, { expect: /^$/ })
  await ctr(rules, { expect: /^$/ })
  await ctr('kubectl get ep webpod', { expect: /\d:80,/, pick: withoutWarnings })
}

/** With --iface left out every node announces 10.0.2.15. */
async function trap(shell: Shell): Promise<void> {
  shell.step(5, 'The NAT trap', 'Without --iface the agents take the interface of the default route: eth0, whose address all nodes share.')
  await shell.type({
    on: 'k8s-ctr',
    line: `kubectl get node -o custom-columns='NAME:.metadata.name,PUBLIC-IP:.metadata.annotations.flannel\\.alpha\\.coreos\\.com/public-ip'`,
    expect: /10\.0\.2\.15[\s\S]*10\.0\.2\.15[\s\S]*10\.0\.2\.15/,
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

const matching =
  (pattern: RegExp) =>
  (lines: readonly string[]): readonly string[] =>
    lines.filter((line) => pattern.test(line))
const first =
  (n: number) =>
  (lines: readonly string[]): readonly string[] =>
    lines.slice(0, n)
const withoutWarnings = (lines: readonly string[]): readonly string[] => lines.filter((line) => !line.startsWith('Warning'))
