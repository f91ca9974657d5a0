import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EndpointSlice, Service, ServicePort } from '#model/cluster.ts'
import { fit } from '#plan/service-fit.ts'

const place = { network: '10.244.0.0/16', addresses: new Set(['192.168.10.101']) }
const http: ServicePort = { name: 'http', protocol: 'TCP', port: 80 }
const service = (o: Partial<Service> = {}): Service => ({
  ...{ namespace: 'default', name: 'web', type: 'ClusterIP', clusterIPs: ['10.96.0.10'], ports: [http] },
  ...o,
})
const slice = (ips: readonly string[]): EndpointSlice => ({
  ...{ namespace: 'default', name: 'web-1', service: 'web', family: 4, ports: [{ name: 'http', protocol: 'TCP', port: 8080 }] },
  endpoints: ips.map((ip) => ({ addresses: [ip], ready: true, serving: true, terminating: false })),
})

const cases: readonly { name: string; service?: Partial<Service>; ips?: readonly string[]; want: string; left: string }[] = [
  { name: 'nothing wrong', want: '', left: '10.96.0.10 80 → 10.244.1.2' },
  { name: 'loopback', service: { clusterIPs: ['127.0.0.1'] }, want: 'spec.clusterIPs "127.0.0.1" is loopback', left: ' 80 → 10.244.1.2' },
  {
    name: 'the node’s own address beside a sound one',
    service: { clusterIPs: ['192.168.10.101', '10.96.0.10'] },
    want: 'spec.clusterIPs "192.168.10.101" is an address of this node',
    left: '10.96.0.10 80 → 10.244.1.2',
  },
  {
    name: 'an address of the pods',
    service: { clusterIPs: ['10.244.1.2'] },
    want: 'spec.clusterIPs "10.244.1.2" lies in the pod network 10.244.0.0/16',
    left: ' 80 → 10.244.1.2',
  },
  {
    name: 'a port twice',
    service: { ports: [http, { ...http, name: 'again' }, { ...http, protocol: 'UDP' }] },
    want: 'spec.ports "again": port 80/TCP is there already',
    left: '10.96.0.10 80 80 → 10.244.1.2',
  },
  {
    name: 'a node port twice',
    service: {
      ports: [
        { ...http, nodePort: 30_000 },
        { ...http, name: 'b', port: 81, nodePort: 30_000 },
      ],
    },
    want: 'spec.ports "b": nodePort 30000/TCP is there already',
    left: '10.96.0.10 80 → 10.244.1.2',
  },
  {
    name: 'endpoints of no host, or of another family',
    ips: ['127.0.0.1', '10.244.1.2', 'fd00::1'],
    want: 'in endpointslice "web-1" the address "127.0.0.1" is loopback; in endpointslice "web-1" the address "fd00::1" is no IPv4 address',
    left: '10.96.0.10 80 → 10.244.1.2',
  },
]
for (const { name, service: of, ips = ['10.244.1.2'], want, left } of cases) {
  test(`of a service: ${name}`, () => {
    const got = fit(service(of), [slice(ips)], place)
    assert.deepEqual(
      got.findings.map(({ text }) => text),
      want === '' ? [] : [`Of service default/web this is refused: ${want}`],
    )
    const addresses = got.slices.flatMap(({ endpoints }) => endpoints.flatMap((endpoint) => endpoint.addresses))
    const ports = got.service.ports.map(({ port }) => port)
    assert.equal(`${got.service.clusterIPs.join()} ${ports.join(' ')} → ${addresses.join()}`, left)
  })
}

test('a service cannot be so large that others wait for it', () => {
  const ports = Array.from({ length: 1000 }, (_, i): ServicePort => ({ ...http, port: i + 1 }))
  const ips = Array.from({ length: 1500 }, (_, i) => `10.250.${i >> 8}.${i & 255}`)
  const got = fit(service({ ports }), [slice(ips)], place)
  assert.equal(got.service.ports.length, 20)
  assert.match(
    got.findings[0]!.text,
    /500 of 1500 endpoints: a port has 1000 at most; 980 of 1000 ports: ports times endpoints is 20000 at most$/,
  )
})
