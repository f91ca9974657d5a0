import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Endpoint, EndpointSlice, Service } from '#model/cluster.ts'
import { keyOf, show } from '#model/kernel.ts'
import { affinitiesOf, endpointCount, serviceFindings, serviceItems } from '#plan/service.ts'
import { endpointChains, serviceBase } from '#plan/services.ts'

const service: Service = {
  namespace: 'default',
  name: 'web',
  type: 'ClusterIP',
  clusterIPs: ['10.96.0.10'],
  ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
}
const endpoint = (ip: string, o: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [ip],
  ready: true,
  serving: true,
  terminating: false,
  ...o,
})
const slice = (endpoints: readonly Endpoint[], o: Partial<EndpointSlice> = {}): EndpointSlice => ({
  namespace: 'default',
  name: 'web-1',
  service: 'web',
  family: 4,
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints,
  ...o,
})
const ending = { ready: false, serving: true, terminating: true }
const down = { ready: false, serving: false, terminating: true }

const here = (ip: string): Endpoint => endpoint(ip, { nodeName: 'here' })
const there = (ip: string): Endpoint => endpoint(ip, { nodeName: 'there' })
const nodePort = (o: Partial<Service> = {}): Service => ({
  ...service,
  type: 'NodePort',
  ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 30080 }],
  ...o,
})

const E = (text: string): string => `element inet twill ${text}`
const to = (count: number): string => E(`service-ipv4 { 10.96.0.10 . tcp . 80 : goto endpoints-${count} }`)
const at = (i: number, ip: string, port = 8080): string => E(`endpoint-${i}-ipv4 { 10.96.0.10 . tcp . 80 : ${ip} . ${port} }`)
const self = (ip: string, port = 8080, protocol = 'tcp'): string => E(`hairpin-ipv4 { ${ip} . ${ip} . 10.96.0.10 . ${protocol} . ${port} }`)

const cases: readonly { name: string; service?: Service; slices: readonly EndpointSlice[]; node?: string; want: readonly string[] }[] = [
  { name: 'no slices: refused', slices: [], want: [to(0)] },
  { name: 'one endpoint', slices: [slice([endpoint('10.244.1.2')])], want: [to(1), at(0, '10.244.1.2'), self('10.244.1.2')] },
  {
    name: 'in order of address, not of text or slice',
    slices: [slice([endpoint('10.244.1.10')]), slice([endpoint('10.244.1.9')], { name: 'web-2' })],
    want: [to(2), at(0, '10.244.1.9'), at(1, '10.244.1.10'), self('10.244.1.9'), self('10.244.1.10')],
  },
  {
    name: 'the same endpoint in two slices counts once',
    slices: [slice([endpoint('10.244.1.2')]), slice([endpoint('10.244.1.2')], { name: 'web-2' })],
    want: [to(1), at(0, '10.244.1.2'), self('10.244.1.2')],
  },
  {
    name: 'ready ones only, while there are any',
    slices: [slice([endpoint('10.244.1.2', ending), endpoint('10.244.1.3'), endpoint('10.244.1.4', down)])],
    want: [to(1), at(0, '10.244.1.3'), self('10.244.1.3')],
  },
  {
    name: 'none ready: those that end but still serve',
    slices: [slice([endpoint('10.244.1.2', ending), endpoint('10.244.1.4', down)])],
    want: [to(1), at(0, '10.244.1.2'), self('10.244.1.2')],
  },
  { name: 'none ready, none serving: refused', slices: [slice([endpoint('10.244.1.4', down)])], want: [to(0)] },
  {
    name: 'ports go by name and protocol, each slice to its own number',
    slices: [
      slice([endpoint('10.244.1.2')]),
      slice([endpoint('10.244.1.3')], { ports: [{ name: 'http', protocol: 'TCP', port: 9090 }] }),
      slice([endpoint('10.244.1.4')], { ports: [{ name: 'http', protocol: 'UDP', port: 8080 }] }),
      slice([endpoint('10.244.1.5')], { ports: [{ name: 'admin', protocol: 'TCP', port: 8080 }] }),
    ],
    want: [to(2), at(0, '10.244.1.2'), at(1, '10.244.1.3', 9090), self('10.244.1.2'), self('10.244.1.3', 9090)],
  },
  {
    name: 'only an endpoint on this node can be its own client',
    slices: [slice([endpoint('10.244.1.2', { nodeName: 'here' }), endpoint('10.244.2.2', { nodeName: 'there' })])],
    node: 'here',
    want: [to(2), at(0, '10.244.1.2'), at(1, '10.244.2.2'), self('10.244.1.2')],
  },
  {
    name: 'a slice of the other family serves the other address',
    service: { ...service, clusterIPs: ['fd00:96::10'] },
    slices: [slice([endpoint('10.244.1.2')]), slice([endpoint('fd00:10::2')], { family: 6 })],
    want: [
      E('service-ipv6 { fd00:96::10 . tcp . 80 : goto endpoints-1 }'),
      E('endpoint-0-ipv6 { fd00:96::10 . tcp . 80 : fd00:10::2 . 8080 }'),
      E('hairpin-ipv6 { fd00:10::2 . fd00:10::2 . fd00:96::10 . tcp . 8080 }'),
    ],
  },
  {
    name: 'UDP flows may lead to all that serve, also to those that end',
    service: { ...service, ports: [{ name: 'dns', protocol: 'UDP', port: 53 }] },
    slices: [
      slice([endpoint('10.244.1.3'), endpoint('10.244.1.2', ending), endpoint('10.244.1.4', down), endpoint('10.244.1.10')], {
        ports: [{ name: 'dns', protocol: 'UDP', port: 5353 }],
      }),
    ],
    node: 'k8s-w1',
    want: [
      E('service-ipv4 { 10.96.0.10 . udp . 53 : goto endpoints-2 }'),
      E('endpoint-0-ipv4 { 10.96.0.10 . udp . 53 : 10.244.1.3 . 5353 }'),
      E('endpoint-1-ipv4 { 10.96.0.10 . udp . 53 : 10.244.1.10 . 5353 }'),
      self('10.244.1.3', 5353, 'udp'),
      self('10.244.1.10', 5353, 'udp'),
      'flows udp 10.96.0.10 . 53 lead to 10.244.1.10 . 5353, 10.244.1.2 . 5353, 10.244.1.3 . 5353',
    ],
  },
  {
    name: 'UDP without endpoints: no flow stays',
    service: { ...service, ports: [{ name: 'dns', protocol: 'UDP', port: 53 }] },
    slices: [],
    want: [E('service-ipv4 { 10.96.0.10 . udp . 53 : goto endpoints-0 }'), 'flows udp 10.96.0.10 . 53 lead to nobody'],
  },
  {
    name: 'a node port, of every address of the node; clients lose their address',
    service: nodePort(),
    slices: [slice([here('10.244.1.2'), there('10.244.2.2')])],
    node: 'here',
    want: [
      to(2),
      at(0, '10.244.1.2'),
      at(1, '10.244.2.2'),
      self('10.244.1.2'),
      E('nodeport-ipv4 { tcp . 30080 : goto endpoints-2 }'),
      E('nodeport-0-ipv4 { tcp . 30080 : 10.244.1.2 . 8080 }'),
      E('nodeport-1-ipv4 { tcp . 30080 : 10.244.2.2 . 8080 }'),
      E('nodeport-masquerade { tcp . 30080 }'),
    ],
  },
  {
    name: 'externalTrafficPolicy Local: node ports by endpoints here alone, who see the client',
    service: nodePort({ externalLocal: true }),
    slices: [slice([here('10.244.1.2'), there('10.244.2.2')])],
    node: 'here',
    want: [
      to(2),
      at(0, '10.244.1.2'),
      at(1, '10.244.2.2'),
      self('10.244.1.2'),
      E('nodeport-ipv4 { tcp . 30080 : goto endpoints-1 }'),
      E('nodeport-0-ipv4 { tcp . 30080 : 10.244.1.2 . 8080 }'),
      E('hairpin-nodeport-ipv4 { 10.244.1.2 . 10.244.1.2 . tcp . 8080 }'),
    ],
  },
  {
    name: 'externalTrafficPolicy Local: endpoints elsewhere only: no answer',
    service: nodePort({ externalLocal: true }),
    slices: [slice([there('10.244.2.2')])],
    node: 'here',
    want: [to(1), at(0, '10.244.2.2'), E('nodeport-ipv4 { tcp . 30080 : drop }')],
  },
  {
    name: 'externalTrafficPolicy Local: no endpoints at all: refused',
    service: nodePort({ externalLocal: true }),
    slices: [],
    node: 'here',
    want: [to(0), E('nodeport-ipv4 { tcp . 30080 : goto endpoints-0 }')],
  },
  {
    name: 'internalTrafficPolicy Local',
    service: { ...service, internalLocal: true },
    slices: [slice([here('10.244.1.2'), there('10.244.2.2')])],
    node: 'here',
    want: [to(1), at(0, '10.244.1.2'), self('10.244.1.2')],
  },
  {
    name: 'internalTrafficPolicy Local: endpoints elsewhere only: no answer',
    service: { ...service, internalLocal: true },
    slices: [slice([there('10.244.2.2')])],
    node: 'here',
    want: [E('service-ipv4 { 10.96.0.10 . tcp . 80 : drop }')],
  },
  {
    name: 'session affinity: both ways in are remembered, and held to the endpoints',
    service: nodePort({ affinitySeconds: 10_800 }),
    slices: [slice([there('10.244.2.2')])],
    node: 'here',
    want: [
      to(1),
      at(0, '10.244.2.2'),
      E('affinity-10800-ipv4 { 10.96.0.10 . tcp . 80 }'),
      'flows in inet twill affinity-ipv4 tcp 10.96.0.10 . 80 lead to 10.244.2.2 . 8080',
      E('nodeport-ipv4 { tcp . 30080 : goto endpoints-1 }'),
      E('nodeport-0-ipv4 { tcp . 30080 : 10.244.2.2 . 8080 }'),
      E('nodeport-masquerade { tcp . 30080 }'),
      E('affinity-nodeports { tcp . 30080 }'),
      E('affinity-nodeport-10800-ipv4 { 10.244.2.2 . 8080 . tcp . 30080 }'),
      'flows in inet twill affinity-ipv4 tcp 0.0.0.0 . 30080 lead to 10.244.2.2 . 8080',
    ],
  },
  {
    name: 'UDP, Local: flows to endpoints elsewhere end',
    service: { ...service, internalLocal: true, ports: [{ name: 'http', protocol: 'UDP', port: 80 }] },
    slices: [slice([here('10.244.1.2'), there('10.244.2.2')], { ports: [{ name: 'http', protocol: 'UDP', port: 8080 }] })],
    node: 'here',
    want: [
      E('service-ipv4 { 10.96.0.10 . udp . 80 : goto endpoints-1 }'),
      E('endpoint-0-ipv4 { 10.96.0.10 . udp . 80 : 10.244.1.2 . 8080 }'),
      self('10.244.1.2', 8080, 'udp'),
      'flows udp 10.96.0.10 . 80 lead to 10.244.1.2 . 8080',
    ],
  },
  { name: 'headless', service: { ...service, clusterIPs: [] }, slices: [slice([endpoint('10.244.1.2')])], want: [] },
  { name: 'ExternalName', service: { ...service, type: 'ExternalName' }, slices: [], want: [] },
]
for (const { name, service: of = service, slices, node, want } of cases) {
  test(`services: ${name}`, () => {
    assert.deepEqual(serviceItems(of, slices, node).map(show), want)
    const positions = want.filter((line) => line.includes(' endpoint-')).length
    assert.ok(endpointCount(of, slices) >= positions)
  })
}

test('services: chains grow with the number of endpoints, never with the number of services', () => {
  const keys = (count: number): string[] => [...serviceBase(), ...endpointChains(count)].map(keyOf)
  assert.equal(new Set(keys(5)).size, keys(5).length)
  assert.deepEqual(keys(5).slice(0, keys(4).length), keys(4))
  assert.equal(keys(5).length - keys(4).length, 7)
  assert.ok(serviceItems(service, [slice([endpoint('10.244.1.2')])]).every(({ kind }) => kind === 'nft-element'))
})

test('services: what is not served is said by name', () => {
  assert.deepEqual(serviceFindings(service), [])
  const [finding] = serviceFindings({ ...service, unserved: ['spec.externalIPs', 'spec.healthCheckNodePort'] })
  assert.match(finding!.text, /^spec.externalIPs and spec.healthCheckNodePort of service default\/web/)
})

test('services: what a service names is there', () => {
  const dual = nodePort({ clusterIPs: ['10.96.0.10', 'fd00:96::10'] })
  const there = new Set(
    [
      ...serviceBase([dual, { ...dual, affinitySeconds: 60 }, { ...dual, affinitySeconds: 10_800 }].flatMap(affinitiesOf)),
      ...endpointChains(2),
    ].map(keyOf),
  )
  const both: EndpointSlice[] = [slice([endpoint('10.244.1.2'), endpoint('10.244.1.3')]), slice([endpoint('fd00:10::2')], { family: 6 })]
  const items = [dual, { ...dual, affinitySeconds: 60 }, { ...dual, affinitySeconds: 10_800 }].flatMap((each) => serviceItems(each, both))
  for (const item of items) {
    if (item.kind === 'flows') {
      assert.ok(item.memory !== 'conntrack' && there.has(`map inet twill ${item.memory.map}`), show(item))
      continue
    }
    assert.ok(item.kind === 'nft-element' && there.has(`map inet twill ${item.map}`), show(item))
    const chain = item.value?.[0]?.split(' ')[1]
    if (chain) assert.ok(there.has(`chain inet twill ${chain}`), show(item))
  }
})
