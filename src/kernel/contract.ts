/**
 * What every `Kernel` must do, as tests: run over the fake and over Linux alike, so that the fake cannot drift.
 * @module
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TwillError } from '#base/errors.ts'
import {
  type Change,
  type FlowsItem,
  type Item,
  type Kernel,
  type LinkItem,
  type Op,
  type Outcome,
  type Scope,
  show,
} from '#model/kernel.ts'

/** A fresh node: lo and the uplink eth1 with 192.168.10.100/24, nothing else. */
export interface World {
  readonly kernel: Kernel
  /** A namespace for a pod, empty. */
  readonly pod: string
  /** A directory that exists. */
  readonly directory: string
  end(): Promise<void>
}

const put = (item: Item): Op => ({ verb: 'put', item })
const del = (item: Item): Op => ({ verb: 'del', item })
const lines = (items: readonly Item[]): string[] => items.map(show).toSorted()
const codes = (outcomes: readonly Outcome[]): (string | undefined)[] =>
  outcomes.map(({ error }) => (error instanceof TwillError ? error.code : error && String(error)))

const vxlan: LinkItem = {
  kind: 'link',
  name: 'flannel.1',
  type: 'vxlan',
  up: true,
  mac: '8a:75:43:39:9c:7b',
  mtu: 1450,
  vxlan: { vni: 1, port: 8472, local: '192.168.10.100', uplink: 'eth1', learning: false, gbp: false },
}
const bridge: LinkItem = { kind: 'link', name: 'cni0', type: 'bridge', up: true, mac: '22:5c:71:ce:7d:df', mtu: 1450 }
const dev = 'flannel.1'
const mac = '16:e4:eb:80:b9:7e'
const peer: readonly Item[] = [
  { kind: 'neighbor', dev, ip: '10.244.2.0', mac },
  { kind: 'fdb', dev, mac, vtep: '192.168.10.102' },
  { kind: 'route', dst: '10.244.2.0/24', via: '10.244.2.0', dev, onlink: true, protocol: 84 },
]
const node: readonly Item[] = [
  vxlan,
  { kind: 'address', dev, cidr: '10.244.1.0/32' },
  bridge,
  { kind: 'address', dev: 'cni0', cidr: '10.244.1.1/24', broadcast: '10.244.1.255' },
  ...peer,
  { kind: 'route', dst: '10.244.0.0/16', type: 'blackhole', protocol: 84 },
  { kind: 'route', dst: '10.244.1.0/24', type: 'blackhole', metric: 2 ** 31, protocol: 84 },
]
const scopeOf = (o: Partial<Scope> = {}): Scope => ({
  links: ['flannel.1', 'cni0'],
  bridges: ['cni0'],
  routeProtocol: 84,
  routeLinks: ['flannel.1'],
  nftTables: [],
  sysctls: [],
  files: [],
  ...o,
})
const scope = scopeOf()

/** The ops of one pod: a pair born in the pod's namespace, its host end a port of cni0. */
function podOps(netns: string, name: string, address: string): Op[] {
  const host: LinkItem = { kind: 'link', name, type: 'veth', up: true, mac: '02:00:00:00:00:0a', mtu: 1450 }
  return [
    put({ ...host, name: 'eth0', netns, mac: '02:00:00:00:00:0b', peer: { name, mac: '02:00:00:00:00:0a', mtu: 1450 } }),
    put({ kind: 'address', dev: 'eth0', cidr: address, broadcast: '10.244.1.255', netns }),
    put({ kind: 'route', dst: '0.0.0.0/0', via: '10.244.1.1', dev: 'eth0', protocol: 3, netns }),
    put(host),
    put({ kind: 'port', dev: name, bridge: 'cni0', hairpin: true }),
  ]
}

/** Waits until `done` finds what it wants in the changes seen so far. */
async function untilSeen(changes: AsyncIterable<Change>, done: (seen: readonly string[]) => boolean): Promise<readonly string[]> {
  const seen: string[] = []
  for await (const change of changes) {
    seen.push(change.verb === 'overrun' ? 'overrun' : `${change.verb} ${show(change.item)}`)
    if (done(seen)) return seen
  }
  assert.fail(`the watch ended before the change came; seen: ${seen.join(', ')}`)
}

/** Registers the suite. `open` makes a fresh world for each test. */
export function kernelContract(name: string, open: () => Promise<World>): void {
  const contract = (what: string, run: (world: World) => Promise<void>): void => {
    test(`${name}: ${what}`, { timeout: 20_000 }, async () => {
      const world = await open()
      try {
        await run(world)
      } finally {
        await world.end()
      }
    })
  }

  contract('what is put is what is read back, and nothing else', async ({ kernel }) => {
    assert.deepEqual(await kernel.dump(scope), [])
    assert.equal(kernel.mutations, 0)
    assert.deepEqual(
      codes(await kernel.apply(node.map(put))),
      node.map(() => undefined),
    )
    assert.deepEqual(lines(await kernel.dump(scope)), lines(node))
    assert.ok(kernel.mutations >= node.length)
  })

  contract('a put of what is there changes nothing; the owner is no part of the object', async ({ kernel }) => {
    await kernel.apply(node.map(put))
    assert.deepEqual(
      codes(await kernel.apply(node.map((item) => put({ ...item, owner: 'again' })))),
      node.map(() => undefined),
    )
    assert.deepEqual(lines(await kernel.dump(scope)), lines(node))
  })

  const changed: { what: string; items: Item[] }[] = [
    { what: 'the MTU of a tunnel device', items: [{ ...vxlan, mtu: 1400 }] },
    { what: 'the MTU of a bridge', items: [{ ...bridge, mtu: 1400 }] },
    { what: "a neighbor's MAC", items: [{ kind: 'neighbor', dev, ip: '10.244.2.0', mac: '16:e4:eb:80:b9:00' }] },
    { what: "an FDB entry's VTEP", items: [{ kind: 'fdb', dev, mac, vtep: '192.168.10.101' }] },
    { what: "a route's gateway", items: [{ kind: 'route', dst: '10.244.2.0/24', via: '192.168.10.102', dev: 'eth1', protocol: 84 }] },
    { what: "an address's broadcast", items: [{ kind: 'address', dev: 'cni0', cidr: '10.244.1.1/24', broadcast: '10.244.1.254' }] },
  ]
  for (const { what, items } of changed) {
    contract(`a put replaces ${what}`, async ({ kernel }) => {
      await kernel.apply(node.map(put))
      assert.deepEqual(codes(await kernel.apply(items.map(put))), [undefined])
      const after = lines(await kernel.dump(scope))
      for (const item of items) assert.ok(after.includes(show(item)), `${show(item)} is not in ${after.join('\n')}`)
      assert.equal(after.length, node.length)
    })
  }

  contract('a tunnel device of other settings is made anew, with the wanted MAC', async ({ kernel }) => {
    await kernel.apply([put(vxlan), ...peer.map(put)])
    const other = { ...vxlan, vxlan: { ...vxlan.vxlan!, port: 4789 } }
    assert.deepEqual(codes(await kernel.apply([put(other)])), [undefined])
    assert.deepEqual(lines(await kernel.dump(scope)), [show(other)])
  })

  contract('del takes away; del of what is not there succeeds', async ({ kernel }) => {
    await kernel.apply(node.map(put))
    const gone = node.filter((item) => item.kind !== 'link').toReversed()
    assert.deepEqual(
      codes(await kernel.apply(gone.map(del))),
      gone.map(() => undefined),
    )
    assert.deepEqual(lines(await kernel.dump(scope)), lines([vxlan, bridge]))
    const all = [...node].toReversed()
    assert.deepEqual(
      codes(await kernel.apply(all.map(del))),
      all.map(() => undefined),
    )
    assert.deepEqual(await kernel.dump(scope), [])
    assert.deepEqual(
      codes(await kernel.apply(all.map(del))),
      all.map(() => undefined),
    )
  })

  contract('a failing op stops no other; each outcome stands with its op', async ({ kernel }) => {
    const ops = [put(vxlan), put({ kind: 'address', dev: 'nowhere', cidr: '10.0.0.1/32' }), ...peer.map(put)]
    const outcomes = await kernel.apply(ops)
    assert.deepEqual(codes(outcomes), [undefined, 'ERR_DEVICE_MISSING', undefined, undefined, undefined])
    assert.deepEqual(
      outcomes.map(({ op }) => op),
      ops,
    )
    assert.equal((await kernel.dump(scope)).length, 4)
  })

  contract('a device of another type keeps its name and stays as it is', async ({ kernel }) => {
    await kernel.apply([put({ ...bridge, name: 'flannel.1' })])
    assert.deepEqual(codes(await kernel.apply([put(vxlan)])), ['ERR_DEVICE_FOREIGN'])
    assert.deepEqual(lines(await kernel.dump(scope)), [show({ ...bridge, name: 'flannel.1' })])
  })

  contract('a tunnel over an uplink that is not there, a veth that nobody made: the device is named', async ({ kernel }) => {
    const outcomes = await kernel.apply([
      put({ ...vxlan, vxlan: { ...vxlan.vxlan!, uplink: 'eth9' } }),
      put({ kind: 'link', name: 'veth0', type: 'veth', up: true }),
    ])
    assert.deepEqual(
      outcomes.map(({ error }) => (error as TwillError).details.dev),
      ['eth9', 'veth0'],
    )
  })

  contract('a device that gets another MAC keeps all but its neighbors', async ({ kernel }) => {
    const stop = new AbortController()
    const changes = kernel.watch(scope, AbortSignal.any([stop.signal, AbortSignal.timeout(5000)]))
    await kernel.apply([put(vxlan), ...peer.map(put)])
    const other = { ...vxlan, mac: '8a:75:43:39:9c:7c' }
    assert.deepEqual(codes(await kernel.apply([put(other)])), [undefined])
    assert.deepEqual(lines(await kernel.dump(scope)), lines([other, peer[1]!, peer[2]!]))
    await untilSeen(changes, (seen) => seen.some((line) => line.startsWith('del neigh 10.244.2.0 ')))
    stop.abort()
  })

  contract('a device that goes down loses its routes', async ({ kernel }) => {
    await kernel.apply([put(vxlan), ...peer.map(put)])
    await kernel.apply([put({ ...vxlan, up: false })])
    assert.deepEqual(
      (await kernel.dump(scope)).filter((item) => item.kind === 'route'),
      [],
    )
  })

  contract('a device that loses its last IPv4 address loses its routes and neighbors, with another it keeps them', async ({ kernel }) => {
    const [one, two] = ['10.244.1.0/32', '10.244.1.9/32'].map((cidr): Item => ({ kind: 'address', dev, cidr }))
    await kernel.apply([vxlan, one!, two!, ...peer].map(put))
    await kernel.apply([del(one!)])
    assert.deepEqual(lines(await kernel.dump(scope)), lines([vxlan, two!, ...peer]))
    await kernel.apply([del(two!)])
    assert.deepEqual(lines(await kernel.dump(scope)), lines([vxlan, peer[1]!]))
  })

  contract('a pod is attached and detached; only the host end is ours to see', async ({ kernel, pod }) => {
    await kernel.apply([put(bridge)])
    const ops = podOps(pod, 'veth0', '10.244.1.2/24')
    assert.deepEqual(
      codes(await kernel.apply(ops)),
      ops.map(() => undefined),
    )
    const host = ops.slice(3).map(({ item }) => item)
    assert.deepEqual(lines(await kernel.dump(scope)), lines([bridge, ...host]))
    assert.deepEqual(codes(await kernel.apply([del({ ...host[0]!, netns: pod, name: 'eth0' } as LinkItem)])), [undefined])
    assert.deepEqual(lines(await kernel.dump(scope)), [show(bridge)])
  })

  contract('many devices are deleted at once, absent ones among them', async ({ kernel, pod }) => {
    const names = Array.from({ length: 8 }, (_, i) => `veth${i}`)
    const pair = (name: string): LinkItem => ({ kind: 'link', name: `p${name}`, type: 'veth', up: true, netns: pod, peer: { name } })
    assert.deepEqual(
      codes(await kernel.apply(names.map((name) => put(pair(name))))),
      names.map(() => undefined),
    )
    const doomed = [...names, 'nowhere'].map((name) => del({ kind: 'link', name, type: 'veth', up: true }))
    assert.deepEqual(
      codes(await kernel.apply(doomed)),
      doomed.map(() => undefined),
    )
    assert.deepEqual(await kernel.dump(scopeOf({ links: names })), [])
  })

  contract('nf_tables objects are carried in the same list', async ({ kernel }) => {
    const table = { family: 'inet', table: 'twill-contract' } as const
    const items: Item[] = [
      { kind: 'nft-table', ...table },
      { kind: 'nft-map', ...table, name: 'local', key: ['ipv4_addr'] },
      { kind: 'nft-element', ...table, map: 'local', key: ['10.244.1.2'] },
    ]
    assert.deepEqual(codes(await kernel.apply([...items, vxlan].map(put))), [undefined, undefined, undefined, undefined])
    assert.deepEqual(lines(await kernel.dump(scopeOf({ nftTables: [table] }))), lines([...items, vxlan]))
    await kernel.apply([del(items[0]!)])
    assert.deepEqual(lines(await kernel.dump(scopeOf({ nftTables: [table] }))), [show(vxlan)])
  })

  contract('flows are there as long as they hold', async ({ kernel }) => {
    const flows: FlowsItem = {
      kind: 'flows',
      memory: 'conntrack',
      protocol: 'udp',
      ip: '10.96.0.10',
      port: 53,
      targets: ['10.244.1.2 . 53'],
    }
    assert.deepEqual(lines(await kernel.dump({ ...scope, flows: [flows] })), [show(flows)])
    assert.deepEqual(codes(await kernel.apply([put(flows), del(flows)])), [undefined, undefined])
    assert.deepEqual(lines(await kernel.dump(scope)), [])
  })

  contract('sysctls and files', async ({ kernel, directory }) => {
    const file: Item = { kind: 'file', path: `${directory}/below/subnet.env`, content: 'FLANNEL_MTU=1450\n', mode: 0o640 }
    const sysctl: Item = { kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' }
    const own = scopeOf({ sysctls: [sysctl.path], files: [file.path] })
    assert.deepEqual(codes(await kernel.apply([put(sysctl), put(file)])), [undefined, undefined])
    assert.deepEqual(lines(await kernel.dump(own)), lines([sysctl, file]))
    assert.deepEqual(codes(await kernel.apply([put({ ...file, content: '' }), del(sysctl)])), [undefined, undefined])
    assert.ok(lines(await kernel.dump(own)).includes(show({ ...file, content: '' })))
    assert.deepEqual(codes(await kernel.apply([del(file), del(file)])), [undefined, undefined])
    assert.deepEqual(
      (await kernel.dump(own)).filter((item) => item.kind === 'file'),
      [],
    )
  })

  contract('a watch tells what is made, changed and lost, until it is aborted', async ({ kernel, pod }) => {
    const stop = new AbortController()
    const changes = kernel.watch(scope, AbortSignal.any([stop.signal, AbortSignal.timeout(5000)]))
    await kernel.apply([...node.map(put), ...podOps(pod, 'veth0', '10.244.1.2/24')])
    await kernel.apply([del(peer[2]!), del(peer[1]!), del(peer[0]!)])
    await kernel.apply([del({ kind: 'link', name: 'veth0', type: 'veth', up: true })])
    const seen = await untilSeen(changes, (all) => all.some((line) => line.startsWith('del link veth0')))
    for (const item of node) assert.ok(seen.includes(`put ${show(item)}`), `no put ${show(item)} in ${seen.join('\n')}`)
    for (const item of peer)
      assert.ok(
        seen.some((line) => line.startsWith(`del ${show(item).slice(0, 12)}`)),
        `no del of ${show(item)}`,
      )
    assert.ok(seen.includes('put port veth0 master cni0 hairpin on'))
    assert.ok(seen.includes('del port veth0 master cni0 hairpin on'))
    stop.abort()
    for await (const change of changes) assert.fail(`after the end: ${JSON.stringify(change)}`)
  })

  contract('what others have on the host is seen, never listed as ours', async ({ kernel }) => {
    await kernel.apply([
      put(vxlan),
      ...peer.map(put),
      put({ kind: 'route', dst: '172.16.0.0/16', via: '192.168.10.1', dev: 'eth1', protocol: 3 }),
    ])
    assert.deepEqual(lines(await kernel.dump(scope)), lines([vxlan, ...peer]))
    const host = await kernel.host()
    assert.ok(host.links.some(({ name, up, mtu }) => name === 'eth1' && up && mtu === 1500))
    assert.deepEqual(
      host.addresses.filter((a) => a.dev === 'eth1' && a.scope === 'global').map((a) => a.cidr),
      ['192.168.10.100/24'],
    )
    assert.deepEqual((({ dev, via }) => ({ dev, via }))((await kernel.routeTo('192.168.10.7'))!), { dev: 'eth1', via: undefined })
    assert.deepEqual((({ dev, via }) => ({ dev, via }))((await kernel.routeTo('10.244.2.9'))!), { dev, via: '10.244.2.0' })
    assert.equal(await kernel.routeTo('203.0.113.1'), undefined)
  })
}
