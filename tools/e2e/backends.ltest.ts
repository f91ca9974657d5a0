/** Backends in the lab, with real packets: two labs at once, and nodes with a router between them. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { eventually, type Ran, type TestLab, testLab } from './lab.ts'

const [a, b, routed] = [`a${process.pid}`, `b${process.pid}`, `r${process.pid}`] as const
const env = { ...process.env, NO_COLOR: '1' }
const labs = new Map<string, TestLab>([a, b, routed].map((name) => [name, testLab(name)]))
const lab = (name: string, ...args: string[]): Ran => labs.get(name)!.lab(...args)
const on = (name: string, node: string, line: string): Ran => labs.get(name)!.on(node, line)
const ctr = (name: string, line: string): string => on(name, 'k8s-ctr', line).output

/** A lab whose story is told beside others. */
async function up(name: string, ...args: string[]): Promise<Ran> {
  const child = spawn('bin/twill', ['lab', 'up', ...args], { env: { ...env, TWILL_LAB: name }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, output: stripVTControlCharacters(output) })))
}

const refused = [
  { option: '--nodes=0', why: /--nodes "0": allowed is an integer from 1 to 9/ },
  { option: '--nodes=10', why: /--nodes "10"/ },
  { option: '--segments=3', why: /--segments "3": allowed is an integer from 1 to 2/ },
  { option: '--backend=vxlan; reboot', why: /--backend "vxlan; reboot": allowed is a type, then KEY=VALUE/ },
  { option: '--iface=$(reboot)', why: /--iface/ },
]
for (const { option, why } of refused) {
  test(`lab up ${option} is refused before anything is built`, () => {
    const { status, output } = lab(a, 'up', option)
    assert.equal(status, 2)
    assert.match(output, why)
  })
}

test('two labs at once: host-gw beside vxlan with keys of its own; each tells its story truly', async () => {
  const [hostGw, vxlan] = await Promise.all([
    up(a, '--backend=host-gw', '--nodes=5'),
    up(b, '--backend=vxlan VNI=7 Port=4789 MTU=1400', '--nodes=2'),
  ])
  assert.equal(hostGw.status, 0, hostGw.output)
  assert.match(hostGw.output, /^Five machines/m)
  assert.match(hostGw.output, /FLANNEL_MTU=1500/)
  for (const i of [100, 102, 103, 104]) assert.match(hostGw.output, new RegExp(`via 192\\.168\\.10\\.${i} dev eth1 proto 84`))
  assert.match(hostGw.output, /eth1: routed to the other node as it is[^\n]*\n +10\.244\.0\.\d+\.\d+ → 10\.244\.\d+\.\d+\.80 Flags \[S\]/)
  assert.doesNotMatch(hostGw.output, /flannel\.1|VNI/)

  assert.equal(vxlan.status, 0, vxlan.output)
  assert.match(vxlan.output, /^Two machines/m)
  assert.match(vxlan.output, /FLANNEL_MTU=1350/)
  assert.match(vxlan.output, /flannel\.7: .* mtu 1350 [\s\S]*vxlan id 7 .* dstport 4789 /)
  assert.match(vxlan.output, /wrapped: node to node, UDP 4789, VNI 7\n +outer 192\.168\.10\.100\.\d+ → 192\.168\.10\.101\.4789 UDP/)
})

test('labs share nothing: what is done to one is not seen in the other, and one goes down alone', () => {
  assert.match(ctr(a, 'kubectl create ns only-here'), /created/)
  assert.match(ctr(b, 'kubectl get ns only-here'), /not found/)
  assert.equal(on(a, 'k8s-w1', 'ip addr add 203.0.113.9/32 dev lo').status, 0)
  assert.doesNotMatch(on(b, 'k8s-w1', 'ip addr').output, /203\.0\.113\.9/)
  assert.equal(lab(a, 'down').status, 0)
  assert.equal(lab(a, 'status').status, 2)
  assert.equal(lab(b, 'status').status, 0)
  assert.match(ctr(b, 'kubectl exec curl-pod -- curl -s webpod'), /Hostname: webpod/)
  assert.equal(lab(b, 'down').status, 0)
})

/** The web pod's address on a node. */
function webPodOn(node: string): string {
  const line = `kubectl get pod -l app=webpod --field-selector spec.nodeName=${node} -o jsonpath='{.items[0].status.podIP}'`
  return ctr(routed, line).trim()
}
const curl = (ip: string): Ran => on(routed, 'k8s-ctr', `kubectl exec curl-pod -- curl -s -m 2 ${ip}`)
const routes = (node = 'k8s-ctr'): string => on(routed, node, 'ip route show proto 84').output

test('a router between: host-gw refuses the node behind it by name, and routes nothing to it', async () => {
  const { status, output } = await up(routed, '--backend=host-gw', '--segments=2')
  assert.equal(status, 0, output)
  assert.match(output, /peer-not-on-link[\s\S]*k8s-w2 \(192\.168\.20\.102\) is not on link of eth1/)
  assert.match(output, /DirectRouting/)
  assert.equal(
    ctr(routed, 'kubectl apply -f /root/webpod.yml && kubectl wait --for=condition=Ready pod --all --timeout=30s').includes('rror'),
    false,
  )
  await eventually('both web pods run', () => webPodOn('k8s-w1') !== '' && webPodOn('k8s-w2') !== '')
  assert.match(curl(webPodOn('k8s-w1')).output, /Hostname: webpod/)
  assert.notEqual(curl(webPodOn('k8s-w2')).status, 0)
  assert.match(routes(), /^10\.244\.1\.0\/24 via 192\.168\.10\.101 dev eth1 *\n?$/)
  // The refusal is said, not tried: nothing is refused by the kernel, and nothing is sent to it again.
  const said = JSON.parse(on(routed, 'k8s-w2', 'twill status -o json').output) as {
    findings: { id: string; subject: string }[]
    kernel: { refused: unknown[] }
  }
  assert.deepEqual(said.findings.map(({ id, subject }) => `${id} ${subject}`).toSorted(), [
    'peer-not-on-link node k8s-ctr',
    'peer-not-on-link node k8s-w1',
  ])
  assert.deepEqual(said.kernel.refused, [])
})

test('DirectRouting in the same place: one peer routed, one tunnelled; running pods stay', async () => {
  const manifest = 'twill manifest --iface=eth1 --backend=vxlan-direct --services --kube-api-url=https://192.168.10.100:6443'
  assert.match(ctr(routed, `${manifest} | kubectl apply -f -`), /configmap\/kube-flannel-cfg configured/)
  ctr(routed, 'kubectl delete pod -n kube-flannel --all')
  const [near, far] = [webPodOn('k8s-w1'), webPodOn('k8s-w2')]
  await eventually(
    'every agent is another',
    () => /via 10\.244\.2\.0 dev flannel\.1 onlink/.test(routes()) && /192\.168\.10\.101 dev eth1/.test(routes()),
  )
  await eventually('the far pod answers', () => /Hostname: webpod/.test(curl(far).output))
  assert.match(curl(near).output, /Hostname: webpod/)
  assert.match(ctr(routed, 'twill status'), /^k8s-w1 .* by eth1\nk8s-w2 .* by flannel\.1$/m)
  assert.match(routes('k8s-w2'), /10\.244\.0\.0\/24 via 10\.244\.0\.0 dev flannel\.1 onlink/)
  await eventually('nothing is wrong', () => on(routed, 'k8s-ctr', 'twill status').status === 0)
})

test('a router is put between two nodes and taken away: the way changes, and of 300 pings none is lost', async () => {
  const near = webPodOn('k8s-w1')
  const pings = spawn('bin/twill', ['lab', 'exec', 'k8s-ctr', '--', 'ping', '-q', '-i', '0.01', '-c', '300', near], {
    env: { ...env, TWILL_LAB: routed },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  pings.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise((resolve) => pings.once('close', resolve))
  assert.equal(on(routed, 'k8s-ctr', 'ip route add 192.168.10.101 via 192.168.10.1').status, 0)
  await eventually('the tunnel', () => /10\.244\.1\.0\/24 via 10\.244\.1\.0 dev flannel\.1 onlink/.test(routes()))
  assert.match(ctr(routed, 'bridge fdb show dev flannel.1'), /dst 192\.168\.10\.101 self permanent/)
  assert.equal(on(routed, 'k8s-ctr', 'ip route del 192.168.10.101').status, 0)
  await eventually('the route', () => /10\.244\.1\.0\/24 via 192\.168\.10\.101 dev eth1/.test(routes()))
  assert.doesNotMatch(ctr(routed, 'bridge fdb show dev flannel.1'), /dst 192\.168\.10\.101/)
  await ended
  assert.match(said, /300 packets transmitted, 300 received, 0% packet loss/)
})
