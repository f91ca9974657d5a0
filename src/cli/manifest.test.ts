import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { type ManifestOptions, renderManifest } from '#cli/manifest.ts'

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
const stock: ManifestOptions = { podCidr: '10.244.0.0/16', backend: 'vxlan', image: `ghcr.io/twill-net/twill:${version}`, services: false }

interface Doc {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels: Record<string, string> }
  readonly data: Record<string, string>
  readonly rules: readonly { readonly resources: readonly string[]; readonly verbs: readonly string[] }[]
  readonly spec: {
    readonly template: { readonly spec: { readonly containers: readonly { readonly command: string[]; readonly args: string[] }[] } }
  }
}
const render = (o: Partial<ManifestOptions> = {}): Map<string, Doc> => {
  const docs = parseAllDocuments(renderManifest({ ...stock, ...o })).map((doc) => doc.toJS() as Doc)
  return new Map(docs.map((doc) => [doc.kind, doc]))
}

test('deploy/kube-flannel.yml is what the renderer prints by default', () => {
  assert.equal(readFileSync('deploy/kube-flannel.yml', 'utf8'), renderManifest(stock))
})

test('objects and names are Flannel’s, in an order that can be applied', () => {
  assert.deepEqual(
    [...render().values()].map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`),
    [
      'Namespace /kube-flannel',
      'ServiceAccount kube-flannel/flannel',
      'ClusterRole /flannel',
      'ClusterRoleBinding /flannel',
      'ConfigMap kube-flannel/kube-flannel-cfg',
      'DaemonSet kube-flannel/kube-flannel-ds',
    ],
  )
})

test('net-conf.json and cni-conf.json are JSON with Flannel’s keys', () => {
  const { data } = render({ podCidr: '10.42.0.0/16' }).get('ConfigMap')!
  assert.deepEqual(JSON.parse(data['net-conf.json']!), { Network: '10.42.0.0/16', EnableNFTables: false, Backend: { Type: 'vxlan' } })
  assert.deepEqual(JSON.parse(data['cni-conf.json']!), {
    name: 'cbr0',
    cniVersion: '0.3.1',
    plugins: [
      { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  })
})

const backendCases = [
  { words: 'host-gw', want: { Type: 'host-gw' } },
  { words: 'vxlan-direct', want: { Type: 'vxlan', DirectRouting: true } },
  {
    words: ' vxlan  VNI=7 Port=4789 MTU=1400 DirectRouting=true',
    want: { Type: 'vxlan', VNI: 7, Port: 4789, MTU: 1400, DirectRouting: true },
  },
]
for (const { words, want } of backendCases) {
  test(`--backend "${words}"`, () => {
    const { data } = render({ backend: words }).get('ConfigMap')!
    assert.deepEqual((JSON.parse(data['net-conf.json']!) as { Backend: object }).Backend, want)
  })
}

test('a backend that the agent would refuse is refused here', () => {
  assert.throws(() => render({ backend: 'vxlan VNI=x' }), { code: 'ERR_NET_CONF', message: /Backend.VNI: found "x"/ })
  assert.throws(() => render({ backend: 'geneve' }), { code: 'ERR_NET_CONF' })
  assert.throws(() => render({ backend: 'wireguard' }), { code: 'ERR_BACKEND_TO_COME' })
  assert.throws(() => render({ podCidr: '10.244.0.0' }), { code: 'ERR_NET_CONF' })
})

const argCases = [
  { name: 'stock', o: {}, want: ['--ip-masq', '--kube-subnet-mgr', '--healthz-port=8081'] },
  {
    name: 'everything',
    o: { iface: 'eth1', services: true, kubeApiUrl: 'https://192.168.10.100:6443' },
    want: [
      '--ip-masq',
      '--kube-subnet-mgr',
      '--healthz-port=8081',
      '--iface=eth1',
      '--services',
      '--kube-api-url=https://192.168.10.100:6443',
    ],
  },
]
for (const { name, o, want } of argCases) {
  test(`arguments: ${name}`, () => {
    const container = render(o).get('DaemonSet')!.spec.template.spec.containers[0]!
    assert.deepEqual(container.command, ['twill', 'agent'])
    assert.deepEqual(container.args, want)
  })
}

test('services take two more read rules, and none without them', () => {
  const grants = (services: boolean): string[] =>
    render({ services })
      .get('ClusterRole')!
      .rules.map((rule) => `${rule.resources} ${rule.verbs}`)
  const base = ['pods get', 'nodes get,list,watch', 'nodes/status patch', 'events create,patch']
  assert.deepEqual(grants(false), base)
  assert.deepEqual(grants(true), [...base, 'services list,watch', 'endpointslices list,watch'])
})

test('a value that is no plain scalar is quoted, so it cannot become YAML of its own', () => {
  const iface = 'eth1\n        - --evil: {a}'
  assert.equal(render({ iface }).get('DaemonSet')!.spec.template.spec.containers[0]!.args.at(-1), `--iface=${iface}`)
  assert.equal(
    parse(
      renderManifest({ ...stock, image: 'a: b' })
        .split('---\n')
        .at(-1)!,
    ).spec.template.spec.containers[0].image,
    'a: b',
  )
})
