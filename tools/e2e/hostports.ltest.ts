/** hostPorts in the lab: a pod of the API's own, kubelet and shim between, seen from its node, from another node and from pods. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { eventually, testLab } from './lab.ts'

const { lab, on } = testLab(`h${process.pid}`)

const NODE = '192.168.10.101'
const pod = `apiVersion: v1
kind: Pod
metadata: {name: hosted, labels: {app: hosted}}
spec:
  nodeName: k8s-w1
  containers: [{name: c, image: traefik/whoami, ports: [{containerPort: 80, hostPort: 8080}]}]
`
/** Who the pod says has called. */
const caller = (from: string, url: string): string => /RemoteAddr: ([\d.]+):/.exec(on(from, `curl -s -m 2 ${url}`).output)?.[1] ?? 'nobody'

test('a hostPort is there with the pod, whoever calls, over a restart of the agent, and gone with the pod', async () => {
  const { status, output } = lab('up', '--nodes=2')
  assert.equal(status, 0, output)
  const applied = on('k8s-ctr', `kubectl apply -f - <<'END'\n${pod}END\nkubectl wait --for=condition=Ready pod/hosted --timeout=30s`)
  assert.equal(applied.status, 0, applied.output)
  const everyone = (): void => {
    assert.equal(caller('k8s-ctr', `${NODE}:8080`), '192.168.10.100', 'from another node')
    assert.match(caller('k8s-w1', '127.0.0.1:8080'), /^10\.244\.1\.1$/, 'from its own node, by localhost')
    assert.match(
      on('k8s-ctr', `kubectl exec curl-pod -- curl -s -m 2 ${NODE}:8080`).output,
      /Hostname: hosted/,
      'from a pod of another node',
    )
    assert.match(on('k8s-ctr', `kubectl exec hosted -- curl -s -m 2 ${NODE}:8080`).output, /Hostname: hosted/, 'from the pod itself')
  }
  everyone()
  assert.equal(caller('k8s-ctr', '192.168.10.100:8080'), 'nobody', 'only the node that the pod is on')

  const restarted = on('k8s-ctr', 'kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName=k8s-w1')
  assert.equal(restarted.status, 0, restarted.output)
  await eventually('a new agent serves', () => on('k8s-w1', 'twill status').status !== 2)
  everyone()

  assert.equal(on('k8s-ctr', 'kubectl delete pod hosted').status, 0)
  await eventually('the port is closed', () => caller('k8s-ctr', `${NODE}:8080`) === 'nobody')
  assert.doesNotMatch(on('k8s-w1', 'nft list table inet twill').output, /tcp \. 8080/)
})
