/** Services in the lab, as docs/services.md shows them: node ports, affinity across a restart of the agents, traffic policies. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually, testLab } from './lab.ts'

const { lab, on: ranOn } = testLab(`s${process.pid}`)
const on = (node: string, line: string): string => ranOn(node, line).output

const ctr = (line: string): string => on('k8s-ctr', line)

const addresses = { 'k8s-ctr': '192.168.10.100', 'k8s-w1': '192.168.10.101', 'k8s-w2': '192.168.10.102' }
const nodes = Object.keys(addresses) as (keyof typeof addresses)[]
const patch = (spec: object): string => ctr(`kubectl patch svc webpod -p '${JSON.stringify({ spec })}'`)
/** Hostname and RemoteAddr of who answered `curl url`, asked by `node`; '' if nobody did. */
function ask(node: string, url: string): { who: string; seen: string } {
  const text = on(node, `curl -s -m 2 ${url}`)
  return { who: /Hostname: (\S+)/.exec(text)?.[1] ?? '', seen: /RemoteAddr: (\S+):\d+/.exec(text)?.[1] ?? '' }
}
const fromPod = (): string => /Hostname: (\S+)/.exec(ctr('kubectl exec curl-pod -- curl -s -m 2 webpod'))?.[1] ?? ''

test('a node port answers on every node, for every node', async () => {
  assert.match(lab('up').output, /twill lab down/)
  assert.match(patch({ type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }), /patched/)
  assert.match(ctr('kubectl get svc webpod'), /webpod +NodePort +10\.96\.\S+ +<none> +80:30080\/TCP/)
  for (const node of nodes) {
    for (const ip of Object.values(addresses)) {
      await eventually(`${node} is answered by ${ip}`, () => ask(node, `http://${ip}:30080/`).who.startsWith('webpod'))
    }
  }
})

test('session affinity: a client keeps its endpoint, also while the agents are replaced, until the endpoint goes', async () => {
  patch({ sessionAffinity: 'ClientIP' })
  await eventually('the memory is there', () => ctr('nft list map inet twill affinity-ipv4').includes('flags dynamic,timeout'))
  const first = fromPod()
  for (let i = 0; i < 8; i++) assert.equal(fromPod(), first)
  const before = ctr('nft list map inet twill affinity-ipv4').match(/[\d.]+ \. 10\.96\.\S+ \. tcp \. 80/g)
  assert.equal(before?.length, 1)
  ctr('kubectl -n kube-flannel rollout restart ds kube-flannel-ds')
  assert.match(ctr('kubectl -n kube-flannel rollout status ds kube-flannel-ds --timeout=60s'), /successfully rolled out/)
  await eventually('the new agent serves, and had nothing to change', () => / 0 changes sent/.test(ctr('twill status')))
  for (let i = 0; i < 8; i++) assert.equal(fromPod(), first)
  ctr(`kubectl delete pod ${first}`)
  await eventually('another endpoint answers', () => !['', first].includes(fromPod()))
  const next = fromPod()
  for (let i = 0; i < 8; i++) assert.equal(fromPod(), next)
  patch({ sessionAffinity: 'None' })
})

test('externalTrafficPolicy Local: the endpoint sees the client; a node without an endpoint does not answer', async () => {
  patch({ externalTrafficPolicy: 'Local' })
  const placed = (): Set<string> => new Set(ctr("kubectl get pod -l app=webpod -ojsonpath='{.items[*].spec.nodeName}'").trim().split(' '))
  await eventually('two ready endpoints', () => ctr('kubectl get deploy webpod').includes('2/2'))
  const outside = (node: string): string => nodes.find((other) => other !== node)!
  for (const node of nodes) {
    const client = outside(node)
    const url = `http://${addresses[node]}:30080/`
    if (placed().has(node))
      await eventually(`${node} shows the client`, () => ask(client, url).seen === addresses[client as keyof typeof addresses])
    else await eventually(`${node} is silent`, () => ask(client, url).who === '')
  }
})

test('bridged packets are shown to the firewall', () => {
  for (const node of nodes) assert.match(on(node, 'sysctl net.bridge.bridge-nf-call-iptables'), /= 1/)
})
