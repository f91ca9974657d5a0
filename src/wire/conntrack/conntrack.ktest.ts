/** The codec against the kernel and conntrack-tools: what `conntrack -I` makes we decode as it shows it; what we encode the kernel obeys. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, beforeEach, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '#kernel/socket.ts'
import { type Connection, type ConnectionFilter, decodeConnection, deleteConnection, dumpConnections } from '#wire/conntrack/messages.ts'

sys.unshare(CLONE_NEWNET)
const socket = NetlinkSocket.open({ protocol: NETLINK_NETFILTER })
after(() => socket.close())
const conntrack = (...args: string[]): string => execFileSync('conntrack', args, { encoding: 'utf8', stdio: 'pipe' })

const families = [
  { family: 4, name: 'ipv4', client: '10.244.1.2', service: '10.96.0.10', endpoint: '10.244.2.2', other: '10.96.0.11' },
  { family: 6, name: 'ipv6', client: 'fd00:10::2', service: 'fd00:96::10', endpoint: 'fd00:10:0:2::2', other: 'fd00:96::11' },
] as const
type Net = (typeof families)[number]

/** A connection that `conntrack` makes: from the client to `dst`:`port`, answered by the endpoint's port 5353. */
function make(f: Net, o: { protocol?: 'udp' | 'tcp'; dst?: string; port?: number; from?: number; zone?: number } = {}): void {
  const { protocol = 'udp', dst = f.service, port = 53, from = 40000, zone } = o
  const state = protocol === 'tcp' ? ['--state', 'ESTABLISHED'] : []
  const reply = ['-r', f.endpoint, '-q', f.client, '--reply-port-src', '5353', '--reply-port-dst', String(from)]
  const original = ['-s', f.client, '-d', dst, '--orig-port-src', String(from), '--orig-port-dst', String(port)]
  const apart = zone === undefined ? [] : ['-w', String(zone)]
  conntrack('-I', '-p', protocol, ...original, ...reply, '-t', '120', ...state, ...apart)
}
async function list(filter: ConnectionFilter): Promise<Connection[]> {
  return (await socket.dump(dumpConnections(filter))).map((message) => decodeConnection(message)!)
}
const ends = ({ original: o, zone }: Connection): string => `${o.protocol} ${o.src}:${o.srcPort} ${o.dst}:${o.dstPort} zone ${zone}`

beforeEach(() => conntrack('-F'))

for (const f of families) {
  test(`${f.name}: a connection reads as conntrack shows it`, async () => {
    make(f)
    const [found] = await list({ family: f.family, protocol: 17 })
    assert.deepEqual(found!.original, { src: f.client, dst: f.service, protocol: 17, srcPort: 40000, dstPort: 53 })
    assert.deepEqual(found!.reply, { src: f.endpoint, dst: f.client, protocol: 17, srcPort: 5353, dstPort: 40000 })
    const shown = conntrack('-L', '-f', f.name, '-o', 'id,extended')
    assert.match(
      shown,
      new RegExp(`${f.name} .* src=${f.client} dst=${f.service} sport=40000 dport=53 .*src=${f.endpoint} .* id=${found!.id}\\b`),
    )
    assert.equal(found!.zone, 0)
  })

  test(`${f.name}: the kernel lists what the filter says, and no more`, async () => {
    make(f)
    make(f, { from: 40001, port: 54 })
    make(f, { from: 40002, dst: f.other })
    make(f, { from: 40003, protocol: 'tcp' })
    make(f, { from: 40004, zone: 7 })
    const to = async (o: Partial<ConnectionFilter>): Promise<string[]> =>
      (await list({ family: f.family, protocol: 17, ...o })).map(({ original }) => String(original.srcPort)).toSorted()
    assert.deepEqual(await to({}), ['40000', '40001', '40002', '40004'])
    if (f.family === 4) assert.deepEqual(await to({ dst: f.service }), ['40000', '40001', '40004'])
    assert.deepEqual(await to({ dstPort: 53 }), ['40000', '40002', '40004'])
    // Of IPv6 addresses the kernel's filter is no use: see dumpConnections.
    assert.deepEqual(await to({ dst: f.service, dstPort: 53 }), f.family === 4 ? ['40000', '40004'] : ['40000', '40002', '40004'])
    assert.deepEqual(await to({ protocol: 6 }), ['40003'])
  })

  test(`${f.name}: a deletion takes the one it names, in its zone, and nothing that came in its place`, async () => {
    make(f)
    make(f, { from: 40001 })
    make(f, { zone: 7 })
    const [first, second, apart] = (await list({ family: f.family, protocol: 17 })).toSorted((a, b) => (ends(a) < ends(b) ? -1 : 1)) as [
      Connection,
      Connection,
      Connection,
    ]
    assert.deepEqual([first.zone, second.zone, apart.original.srcPort], [0, 7, 40001])
    const errnos = async (...gone: Connection[]): Promise<number[]> =>
      (await socket.request(gone.map(deleteConnection))).map(({ errno }) => errno)
    assert.deepEqual(await errnos({ ...first, id: first.id ^ 1 }), [2])
    assert.deepEqual(await errnos(second), [0])
    assert.deepEqual((await list({ family: f.family, protocol: 17 })).map(ends).toSorted(), [ends(first), ends(apart)].toSorted())
    assert.deepEqual(await errnos(first, apart, first), [0, 0, 2])
    assert.deepEqual(await list({ family: f.family, protocol: 17 }), [])
  })
}
