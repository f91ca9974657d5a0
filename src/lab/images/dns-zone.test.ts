import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { test } from 'node:test'
import { type Answer, decode, encode, type Packet, streamDecode, streamEncode } from 'dns-packet'
import { answerQuestion, ClusterView, fit, serveDns } from '#lab/images/coredns.ts'
import { parseCorefile, stockCorefile } from '#lab/images/corefile.ts'
import { resolve, reverseAddress } from '#lab/images/dns-zone.ts'

const view = new ClusterView({ zone: 'cluster.local', ttl: 30 })
for (const name of ['default', 'kube-system']) view.putNamespace({ metadata: { name } }, false)
const service = (namespace: string, name: string, spec: object): void => view.putService({ metadata: { namespace, name }, spec }, false)
service('default', 'web', { clusterIP: '10.96.7.7', ports: [{ name: 'http', port: 80, protocol: 'TCP' }] })
service('default', 'pair', { clusterIP: 'None', ports: [{ name: 'sql', port: 5432 }] })
service('default', 'bare', { clusterIP: 'None' })
service('default', 'away', { type: 'ExternalName', externalName: 'example.org' })
service('kube-system', 'kube-dns', { clusterIP: '10.96.0.10', ports: [{ name: 'dns', port: 53, protocol: 'UDP' }] })
view.putSlice(
  {
    metadata: { namespace: 'default', name: 'pair-1', labels: { 'kubernetes.io/service-name': 'pair' } },
    ports: [{ name: 'sql', port: 5432 }],
    endpoints: [
      { addresses: ['10.244.1.5'], hostname: 'a', conditions: { ready: true } },
      { addresses: ['10.244.2.6'], conditions: { ready: true } },
      { addresses: ['10.244.2.7'], conditions: { ready: false } },
    ],
  },
  false,
)

const shown = (answers: readonly Answer[]): string[] =>
  answers
    .map(
      (a) =>
        `${a.type} ${a.type === 'SRV' ? `${a.data.port} ${a.data.target}` : a.type === 'SOA' ? a.data.mname : 'data' in a ? String(a.data) : ''}`,
    )
    .toSorted()

const cases: [question: string, type: string, want: string[] | 'NXDOMAIN' | 'NODATA' | 'forwarded'][] = [
  ['web.default.svc.cluster.local', 'A', ['A 10.96.7.7']],
  ['WEB.Default.SVC.cluster.LOCAL', 'A', ['A 10.96.7.7']],
  ['web.default.svc.cluster.local', 'AAAA', 'NODATA'],
  ['web.default.svc.cluster.local', 'SRV', ['SRV 80 web.default.svc.cluster.local']],
  ['_http._tcp.web.default.svc.cluster.local', 'SRV', ['SRV 80 web.default.svc.cluster.local']],
  ['_http._udp.web.default.svc.cluster.local', 'SRV', 'NXDOMAIN'],
  ['pair.default.svc.cluster.local', 'A', ['A 10.244.1.5', 'A 10.244.2.6']],
  ['a.pair.default.svc.cluster.local', 'A', ['A 10.244.1.5']],
  ['10-244-2-6.pair.default.svc.cluster.local', 'A', ['A 10.244.2.6']],
  ['10-244-2-7.pair.default.svc.cluster.local', 'A', 'NXDOMAIN'],
  [
    '_sql._tcp.pair.default.svc.cluster.local',
    'SRV',
    ['SRV 5432 10-244-2-6.pair.default.svc.cluster.local', 'SRV 5432 a.pair.default.svc.cluster.local'],
  ],
  ['bare.default.svc.cluster.local', 'A', 'NXDOMAIN'],
  ['away.default.svc.cluster.local', 'A', ['CNAME example.org']],
  ['nobody.default.svc.cluster.local', 'A', 'NXDOMAIN'],
  ['default.svc.cluster.local', 'A', 'NODATA'],
  ['nospace.svc.cluster.local', 'A', 'NXDOMAIN'],
  ['svc.cluster.local', 'A', 'NODATA'],
  ['web.default.svc.cluster.local.default.svc.cluster.local', 'A', 'NXDOMAIN'],
  ['10-244-9-9.default.pod.cluster.local', 'A', ['A 10.244.9.9']],
  ['10-244-9-999.default.pod.cluster.local', 'A', 'NXDOMAIN'],
  ['dns-version.cluster.local', 'TXT', ['TXT 1.1.0']],
  ['ns.dns.cluster.local', 'A', ['A 10.96.0.10']],
  ['cluster.local', 'NS', ['NS ns.dns.cluster.local']],
  ['cluster.local', 'SOA', ['SOA ns.dns.cluster.local']],
  ['7.7.96.10.in-addr.arpa', 'PTR', ['PTR web.default.svc.cluster.local']],
  ['5.1.244.10.in-addr.arpa', 'PTR', ['PTR a.pair.default.svc.cluster.local']],
  ['9.9.9.9.in-addr.arpa', 'PTR', 'forwarded'],
  ['example.org', 'A', 'forwarded'],
  ['notcluster.local', 'A', 'forwarded'],
]
for (const [name, type, want] of cases) {
  test(`dns: ${name} ${type}`, () => {
    const reply = resolve(view, name, type)
    if (want === 'forwarded') return assert.equal(reply, undefined)
    if (typeof want === 'string') {
      assert.deepEqual([reply?.rcode, reply?.answers.length], [want === 'NODATA' ? 'NOERROR' : 'NXDOMAIN', 0])
      return assert.deepEqual(shown(reply!.authorities), ['SOA ns.dns.cluster.local'])
    }
    return assert.deepEqual(shown(reply!.answers), want)
  })
}

test('dns: the targets of SRV records come along', () => {
  assert.deepEqual(shown(resolve(view, '_sql._tcp.pair.default.svc.cluster.local', 'SRV')!.additionals), ['A 10.244.1.5', 'A 10.244.2.6'])
})

test('dns: a deleted service and slice are gone', () => {
  const metadata = { namespace: 'default', name: 'brief' }
  view.putService({ metadata, spec: { clusterIP: '10.96.1.1' } }, false)
  assert.ok(resolve(view, 'brief.default.svc.cluster.local', 'A')?.answers.length)
  view.putService({ metadata, spec: {} }, true)
  assert.equal(resolve(view, 'brief.default.svc.cluster.local', 'A')?.rcode, 'NXDOMAIN')
})

test('dns: what does not fit a datagram is cut and says so', () => {
  const many = new ClusterView({ zone: 'cluster.local', ttl: 30 })
  const endpoints = Array.from({ length: 60 }, (_, i) => ({ addresses: [`10.244.1.${i + 1}`] }))
  many.putService({ metadata: { namespace: 'default', name: 'big' }, spec: { clusterIP: 'None' } }, false)
  many.putSlice({ metadata: { namespace: 'default', name: 'big-1', labels: { 'kubernetes.io/service-name': 'big' } }, endpoints }, false)
  const query: Packet = { id: 7, type: 'query', flags: 0x100, questions: [{ type: 'A', name: 'big.default.svc.cluster.local' }] }
  const cut = decode(fit(answerQuestion(many, query)!, query))
  assert.deepEqual([cut.id, cut.flag_tc, cut.answers?.length], [7, true, 0])
  const roomy: Packet = {
    ...query,
    additionals: [
      { type: 'OPT', name: '.', udpPayloadSize: 4096, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] },
    ],
  }
  assert.equal(decode(fit(answerQuestion(many, roomy)!, roomy)).answers?.length, 60)
})

test('dns: reverse names of both families', () => {
  assert.equal(reverseAddress('1.2.0.192.in-addr.arpa'), '192.0.2.1')
  assert.equal(reverseAddress(`1.${'0.'.repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa`), '2001:db8::1')
})

test('dns: served over UDP and TCP; without an upstream the rest is SERVFAIL', async () => {
  const port = 30_000 + (process.pid % 20_000)
  const server = await serveDns(view, [], port, () => {})
  try {
    const ask = (name: string): Packet => ({ id: 3, type: 'query', flags: 0x100, questions: [{ type: 'A', name }] })
    const udp = (name: string): Promise<Packet> =>
      new Promise((done, fail) => {
        const socket = createSocket('udp4')
        socket.once('error', fail)
        socket.once('message', (bytes) => done(decode(bytes)))
        socket.send(encode(ask(name)), port, '127.0.0.1')
        socket.once('message', () => socket.close())
      })
    assert.deepEqual(shown((await udp('web.default.svc.cluster.local')).answers ?? []), ['A 10.96.7.7'])
    assert.equal(((await udp('example.org')).flags ?? 0) & 15, 2)
    const tcp = await new Promise<Packet>((done, fail) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(streamEncode(ask('web.default.svc.cluster.local'))))
      socket.once('error', fail)
      socket.once('data', (bytes: Buffer) => {
        socket.destroy()
        done(streamDecode(bytes))
      })
    })
    assert.deepEqual(shown(tcp.answers ?? []), ['A 10.96.7.7'])
  } finally {
    server.close()
  }
})

test('corefile: the stock one; an unknown plugin is named', () => {
  assert.deepEqual(parseCorefile(stockCorefile), {
    port: 53,
    zone: 'cluster.local',
    ttl: 30,
    forward: ['/etc/resolv.conf'],
    healthPort: 8080,
    readyPort: 8181,
  })
  assert.throws(() => parseCorefile('.:53 {\n  rewrite name a b\n}'), /no plugin "rewrite"/)
})
