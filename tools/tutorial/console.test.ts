import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fold, mismatch, parseConsole } from './console.ts'

const page = [
  'Text.',
  '```console wait',
  'root@k8s-ctr:~# kubectl get node',
  'NAME      STATUS   AGE',
  'k8s-ctr   Ready    52s',
  'host# echo \\',
  '> two',
  '```',
  '```sh',
  'root@k8s-ctr:~# not a step',
  '```',
].join('\n')

test('a page gives its commands, where they run and what to expect', () => {
  assert.deepEqual(parseConsole(page), [
    { line: 3, where: 'k8s-ctr', command: 'kubectl get node', expected: ['NAME      STATUS   AGE', 'k8s-ctr   Ready    52s'], wait: true },
    { line: 7, where: 'host', command: 'echo two', expected: [], wait: true },
  ])
})

const folded = [
  ['k8s-ctr   Ready   2m3s', 'k8s-ctr Ready <age>'],
  ['webpod-6d4cf56db6-x2x9z  1/1  Running  0  10.244.1.2', 'webpod-<hash> 1/1 Running 0 <pod-ip>'],
  ['10.244.1.0/24 via 10.244.1.0 dev flannel.1', '10.244.1.0/24 via 10.244.1.0 dev flannel.1'],
  ['RemoteAddr: 10.244.0.4:51234', 'RemoteAddr: <pod-ip>:<port>'],
  ['7: veth01ab23cd@if2: <UP>', '<n>: <veth>@if<n>: <UP>'],
  ['kube-flannel-ds-x2x9z 1/1', 'kube-flannel-ds-<hash> 1/1'],
  ['link/ether 8a:75:43:39:9c:7b', 'link/ether <mac>'],
]
for (const [from, to] of folded) test(`folds ${from}`, () => assert.equal(fold(from!), to))

test('output fits when only what varies differs; … stands for any lines', () => {
  assert.equal(mismatch(['A 1s', '…', 'C'], 'A 9m\nB\nB2\nC\n'), undefined)
  assert.match(mismatch(['A', 'B'], 'A\nC') ?? '', /expected the line\n {4}B/)
  assert.match(mismatch(['A'], 'A\nB') ?? '', /more, or in another order/)
})
