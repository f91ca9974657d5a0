import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { type FlowsItem, type Kernel, type Scope, show } from '#model/kernel.ts'

sys.unshare(CLONE_NEWNET)
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8', stdio: 'pipe' })
run('ip', 'link', 'set', 'lo', 'up')
for (const address of ['192.168.10.100/32', 'fd00:192::100/128']) run('ip', 'address', 'add', address, 'dev', 'lo')
const kernel: Kernel = await openLinux()
after(() => kernel.close())
beforeEach(() => run('conntrack', '-F'))

const families = [
  { name: 'ipv4', any: '0.0.0.0', service: '10.96.0.10', node: '192.168.10.100', world: '198.51.100.10', a: '10.244.1.2', b: '10.244.1.3' },
  { name: 'ipv6', any: '::', service: 'fd00:96::10', node: 'fd00:192::100', world: '2001:db8::10', a: 'fd00:10::2', b: 'fd00:10::3' },
] as const
const client = { ipv4: '10.244.9.9', ipv6: 'fd00:10::99' }
const scope: Scope = { links: [], bridges: [], routeProtocol: 84, routeLinks: [], nftTables: [], sysctls: [], files: [] }

let sport = 40000
/** A flow to `dst`:`port` that `from` answers, under its own port 5353 if it is another. Returns the client's port. */
function flow(f: (typeof families)[number], dst: string, port: number, from: string, o: { zone?: number; protocol?: string } = {}): string {
  const ends = ['-s', client[f.name], '-d', dst, '--orig-port-src', String(++sport), '--orig-port-dst', String(port)]
  const back = ['-r', from, '-q', client[f.name], '--reply-port-src', String(from === dst ? port : 5353), '--reply-port-dst', String(sport)]
  const more = [...(o.zone === undefined ? [] : ['-w', String(o.zone)]), ...(o.protocol === 'tcp' ? ['--state', 'ESTABLISHED'] : [])]
  run('conntrack', '-I', '-p', o.protocol ?? 'udp', ...ends, ...back, '-t', '120', ...more)
  return String(sport)
}
/** Client ports of what is tracked now, of those that `flow` made. */
const left = (f: (typeof families)[number]): string[] =>
  run('conntrack', '-L', '-f', f.name)
    .split('\n')
    .flatMap((line) => (line.includes(`src=${client[f.name]} `) ? [/sport=(\d+)/.exec(line)![1]!] : []))
    .toSorted()

for (const f of families) {
  const flows = (ip: string, ...targets: string[]): FlowsItem => ({
    kind: 'flows',
    memory: 'conntrack',
    protocol: 'udp',
    ip,
    port: 53,
    targets,
  })
  const put = async (...items: FlowsItem[]): Promise<void> => {
    for (const { error } of await kernel.apply(items.map((item) => ({ verb: 'put', item })))) assert.ifError(error)
  }
  const there = async (...items: FlowsItem[]): Promise<string[]> => (await kernel.dump({ ...scope, flows: items })).map(show)

  test(`${f.name}: flows to who is no target go, and nothing else`, async () => {
    const good = flow(f, f.service, 53, f.a)
    flow(f, f.service, 53, f.b)
    flow(f, f.service, 53, f.service) // from before there were rules
    const others = [flow(f, f.service, 54, f.b), flow(f, f.world, 53, f.b), flow(f, f.service, 53, f.b, { zone: 7 })]
    others.push(flow(f, f.service, 53, f.b, { protocol: 'tcp' }))
    const item = flows(f.service, `${f.a} . 5353`)
    assert.deepEqual(await there(item), [])
    const before = kernel.mutations
    await put(item)
    assert.equal(kernel.mutations - before, 2)
    assert.deepEqual(left(f), [good, ...others].toSorted())
    assert.deepEqual(await there(item), [show(item)])
    await put(item)
    assert.equal(kernel.mutations - before, 2)
  })

  test(`${f.name}: all addresses of the node, and no others`, async () => {
    const good = flow(f, f.node, 53, f.a)
    flow(f, f.node, 53, f.b)
    flow(f, f.node, 53, f.node)
    const others = [flow(f, f.world, 53, f.b), flow(f, f.world, 53, f.world)]
    await put(flows(f.any, `${f.a} . 5353`))
    assert.deepEqual(left(f), [good, ...others].toSorted())
  })

  test(`${f.name}: several at once: an address of its own before any address`, async () => {
    const good = [flow(f, f.node, 53, f.b), flow(f, f.service, 53, f.a)]
    flow(f, f.service, 53, f.b)
    flow(f, f.node, 53, f.a)
    await put(flows(f.any, `${f.a} . 5353`), flows(f.node, `${f.b} . 5353`), flows(f.service, `${f.a} . 5353`))
    assert.deepEqual(left(f), good)
  })

  test(`${f.name}: a deletion leaves no flow, whatever its targets were`, async () => {
    flow(f, f.service, 53, f.a)
    const other = flow(f, f.world, 53, f.a)
    const [outcome] = await kernel.apply([{ verb: 'del', item: flows(f.service, `${f.a} . 5353`) }])
    assert.ifError(outcome!.error)
    assert.deepEqual(left(f), [other])
  })
}

const skip = spawnSync('conntrack', ['-R', '/dev/null']).status === 0 ? false : 'conntrack before 1.4.7 has no -R'
test('more flows than one send takes', { skip }, async () => {
  const lines = Array.from({ length: 1200 }, (_, i) => `-I -p udp -s 10.244.9.9 -d 10.96.0.10 --sport ${1000 + i} --dport 53 -t 120\n`)
  const directory = mkdtempSync(join(tmpdir(), 'twill-conntrack-'))
  writeFileSync(join(directory, 'flows'), lines.join(''))
  run('conntrack', '-R', join(directory, 'flows'))
  rmSync(directory, { recursive: true })
  assert.equal(left(families[0]).length, 1200)
  await kernel.apply([
    { verb: 'put', item: { kind: 'flows', memory: 'conntrack', protocol: 'udp', ip: '10.96.0.10', port: 53, targets: [] } },
  ])
  assert.deepEqual(left(families[0]), [])
})
