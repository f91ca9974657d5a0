import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pick, showTable } from '#lab/mini-kubectl.ts'

const node = {
  metadata: { name: 'k8s-w1', annotations: { 'flannel.alpha.coreos.com/public-ip': '10.0.2.15' } },
  spec: { podCIDR: '10.244.1.0/24' },
}

const picks = [
  { output: 'jsonpath={.spec.podCIDR}', want: '10.244.1.0/24' },
  { output: 'jsonpath={.items[0].spec.podCIDR}', body: { items: [node] }, want: '10.244.1.0/24' },
  { output: 'jsonpath={.metadata.annotations}', want: '{"flannel.alpha.coreos.com/public-ip":"10.0.2.15"}' },
  { output: 'jsonpath={.spec.nothing.below}', want: '' },
  {
    output: 'custom-columns=NAME:.metadata.name,IP:.metadata.annotations.flannel\\.alpha\\.coreos\\.com/public-ip,NO:.spec.no',
    body: { items: [node] },
    want: 'NAME     IP          NO\nk8s-w1   10.0.2.15   <none>\n',
  },
]
for (const { output, body = node, want } of picks) test(`-o ${output}`, () => assert.equal(pick(body, output), want))

test('another output is refused by name', () => assert.throws(() => pick(node, 'go-template=x'), /-o go-template=x/))

test('a table has kubectl’s columns; wide adds those of lower priority, -A the namespace', () => {
  const body = {
    columnDefinitions: [
      { name: 'Name', priority: 0 },
      { name: 'Age', priority: 0 },
      { name: 'IP', priority: 1 },
    ],
    rows: [{ cells: ['a', '3s', '10.244.0.2'], object: { metadata: { namespace: 'kube-system' } } }],
  }
  assert.equal(showTable(body, { wide: false, all: false, prefix: '' }), 'NAME   AGE\na      3s\n')
  assert.equal(
    showTable(body, { wide: true, all: true, prefix: 'pod/' }),
    'NAMESPACE     NAME    AGE   IP\nkube-system   pod/a   3s    10.244.0.2\n',
  )
  assert.equal(showTable({ ...body, rows: [] }, { wide: false, all: false, prefix: '' }), 'No resources found\n')
})
