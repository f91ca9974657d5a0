/** The lab as a user and as scripts meet it: the story, the trap, kills, restarts of the agent, who may do what. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { eventually, type Ran, testLab } from './lab.ts'

process.env.TWILL_LAB = `e${process.pid}`
const { lab, on } = testLab(process.env.TWILL_LAB)

const json = (node: string, line: string): Record<string, never> => JSON.parse(on(node, line).output) as Record<string, never>

test('without a lab each command says so and ends with 2; an unknown one too', () => {
  for (const args of [['status'], ['exec', 'k8s-w1', '--', 'true'], ['kubeconfig']]) {
    const { status, output } = lab(...args)
    assert.equal(status, 2, output)
    assert.match(output, /is not running\nStart it: /)
  }
  assert.equal(lab('no-such').status, 2)
})

/** What the story printed below the prompts whose line matches, in order. */
function shownBelow(story: string, line: RegExp): string[] {
  const prompts = story.split(/^(?=root@[\w-]+:~# )/m)
  return prompts.filter((block) => line.test(block.split('\n')[0]!)).map((block) => block.split('\n').slice(1).join('\n').trim())
}

test('the story of make lab is told to its end', () => {
  const { status, output } = lab('up')
  assert.equal(status, 0, output)
  const [wrong, right] = shownBelow(output, /get pod host-pod-k8s-w1 -owide/)
  assert.match(wrong!, /Running .* 10\.0\.2\.15 +k8s-w1/)
  assert.match(right!, /Running .* 192\.168\.10\.101 +k8s-w1/, 'the address of a pod on the node’s network follows --node-ip')
  const [missed, reached] = shownBelow(output, /exec host-pod-k8s-w1 -- hostname/)
  assert.match(missed!, /could not find the requested resource/)
  assert.equal(reached!.split('\n')[0], 'k8s-w1')
  const own = /curl-pod .* (10\.244\.0\.\d+) +k8s-ctr/.exec(output)![1]!
  assert.match(shownBelow(output, /kubectl exec -it curl-pod -- curl/)[0]!, new RegExp(`^Hostname: webpod.*\nRemoteAddr: ${own}:\\d+`))
  for (const node of ['k8s-w1', 'k8s-ctr']) {
    const [before, after] = shownBelow(output, new RegExp(`^root@${node}:~# nft list table inet twill \\| grep -wF`))
    assert.match(before!, /10\.96\.\d+\.\d+ \. tcp \. 80 : 10\.244\.1\.\d+ \. 80/, `the pod's rules on ${node}`)
    assert.equal(after, '', `the pod's rules are gone from ${node}`)
  }
  for (const step of [
    '1. Nodes',
    '2. No CNI',
    '3. The wrong address',
    '4. Install',
    '5. Look',
    '6. Sample application',
    '7. The packet',
    '8. Delete',
  ])
    assert.ok(output.includes(step), step)
})

test('exec has the exit status of its command; a node that is none is named', () => {
  assert.equal(on('k8s-w1', 'exit 7').status, 7)
  assert.equal(on('k8s-w2', 'kill -9 $$').status, 137)
  const { status, output } = lab('exec', 'k8s-w9', '--', 'true')
  assert.equal(status, 2)
  assert.match(output, /k8s-ctr, k8s-w1, k8s-w2/)
})

test('exec and ssh give a terminal: kubectl exec -it has one in the pod, ssh one on the node, and both end with the status of what ran', () => {
  const typed = (command: string, input: string): Ran => {
    const argv = ['--quiet', '--return', '--echo', 'never', '--command', command, '/dev/null']
    const env = { ...process.env, SHELL: '/bin/bash', TERM: 'dumb' }
    const done = spawnSync('script', argv, { encoding: 'utf8', timeout: 60_000, input, env })
    return { status: done.status, output: (done.stdout + done.stderr).replaceAll('\r', '') }
  }
  const ssh = typed('bin/twill lab ssh k8s-w1', 'tty; hostname; pwd; stty -a | head -1\nexit 7\n')
  assert.equal(ssh.status, 7, ssh.output)
  assert.match(ssh.output, /\/dev\/pts\/\d+\nk8s-w1\n\/root\nspeed /)
  const pod = typed('bin/twill lab exec k8s-ctr -- kubectl exec -it curl-pod -- sh', 'tty; hostname\nexit 5\n')
  assert.match(pod.output, /\/dev\/pts\/\d+\ncurl-pod\n/)
  assert.equal(pod.status, 5, pod.output)
})

test('status tells programs that all is alive', () => {
  const { status, output } = lab('status', '-o', 'json')
  assert.equal(status, 0, output)
  const { nodes, parts } = JSON.parse(output) as { nodes: { alive: boolean }[]; parts: { alive: boolean }[] }
  assert.equal(nodes.length, 3)
  assert.ok([...nodes, ...parts].every((x) => x.alive))
})

test('the kubeconfig is good for this machine: its server is 127.0.0.1 with a certificate for it', () => {
  const path = lab('kubeconfig').output.trim()
  const done = spawnSync('kubectl', ['--kubeconfig', path, 'get', 'node', '-o', 'name'], { encoding: 'utf8' })
  assert.equal(done.stdout, 'node/k8s-ctr\nnode/k8s-w1\nnode/k8s-w2\n', done.stderr)
})

test('an agent that starts again changes nothing, and finds nothing wrong', async () => {
  const before = on('k8s-w1', 'cat /proc/$(pgrep -f dist/agent.mjs | head -1)/stat | cut -d" " -f22').output
  assert.equal(on('k8s-ctr', 'kubectl delete pod -n kube-flannel --field-selector spec.nodeName=k8s-w1').status, 0)
  await eventually('a new agent serves on k8s-w1', () => {
    const now = on('k8s-w1', 'cat /proc/$(pgrep -f dist/agent.mjs | head -1)/stat 2>/dev/null | cut -d" " -f22').output
    return now !== before && on('k8s-w1', 'twill status').status === 0
  })
  assert.match(on('k8s-w1', 'twill status').output, /\b0 changes sent/)
  const plan = on('k8s-w1', 'twill plan')
  assert.equal(plan.status, 0, plan.output)
})

test('what somebody deletes comes back, and the status names who', async () => {
  assert.equal(
    on(
      'k8s-w1',
      'nft delete table inet twill; ip route del 10.244.0.0/24; bridge fdb del $(bridge fdb show dev flannel.1 | head -1 | cut -d" " -f1) dev flannel.1',
    ).status,
    0,
  )
  await eventually('table, route and FDB entry are back', () => {
    const all = on(
      'k8s-w1',
      'nft list table inet twill | grep -c masquerade; ip route show 10.244.0.0/24; bridge fdb show dev flannel.1 | wc -l',
    ).output
    return /^[1-9]/.test(all) && all.includes('via 10.244.0.0 dev flannel.1') && all.trimEnd().endsWith('2')
  })
  await eventually('nft is named', () => /"nft pid \d+"/.test(on('k8s-w1', 'twill status -o json').output))
})

test("the agent's token may do what the manifest grants and no more", () => {
  const may = (verb: string): string =>
    on('k8s-ctr', `kubectl auth can-i ${verb} --as=system:serviceaccount:kube-flannel:flannel`).output.trim()
  assert.match(may('list nodes'), /^yes/)
  assert.match(may('patch nodes --subresource=status'), /^yes/)
  assert.match(may('delete pods'), /^no/)
  assert.match(may('get secrets'), /^no/)
})

test('kill -9 of the control plane, a kubelet and a whole node: status says so, and up works again', () => {
  const { nodes, parts } = JSON.parse(lab('status', '-o', 'json').output) as {
    nodes: { pid: number }[]
    parts: { name: string; pid: number }[]
  }
  process.kill(parts.find((p) => p.name === 'control-plane')!.pid, 'SIGKILL')
  process.kill(nodes[2]!.pid, 'SIGKILL')
  assert.equal(lab('status').status, 1)
  const { status, output } = lab('up', '--no-story')
  assert.equal(status, 0, output)
  assert.equal(lab('status').status, 0)
})

test('without --iface all nodes announce 10.0.2.15, traffic fails, and twill status says why', () => {
  const { status, output } = lab('up', '--iface=')
  assert.equal(status, 0, output)
  assert.match(output, /100% packet loss/)
  const said = on('k8s-w1', 'twill status')
  assert.equal(said.status, 1)
  assert.match(said.output, /duplicate-public-ip[\s\S]*--iface=eth1/)
  const document = json('k8s-w1', 'twill status -o json')
  assert.ok(document)
})

test('down leaves nothing: no namespace, cgroup, process or file of the lab', () => {
  assert.equal(lab('down').status, 0)
  const name = process.env.TWILL_LAB!
  const left = spawnSync(
    'sh',
    [
      '-c',
      `ip netns list | grep -c '^${name}-'; ls -d /run/twill-lab/${name} /sys/fs/cgroup/*/twill-lab-${name} /sys/fs/cgroup/twill-lab-${name} 2>/dev/null; grep -c twill-lab/${name} /proc/mounts`,
    ],
    { encoding: 'utf8' },
  )
  assert.equal(left.stdout, '0\n0\n')
})
