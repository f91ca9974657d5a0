import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Item, keyOf, type LinkItem, type Op, type Outcome, show, showOp } from '#model/kernel.ts'
import { Desired } from '#plan/desired.ts'
import { leaseOf, selfOf, vxlan } from '#plan/testing.ts'

const always = (): boolean => true
const lines = (ops: readonly Op[]): string[] => ops.map(showOp)
const done = (ops: readonly Op[]): Outcome[] => ops.map((op) => ({ op }))
const self = selfOf()
const a = vxlan.peer(self, leaseOf())
const moved = vxlan.peer(self, leaseOf({ publicIp: '192.168.10.202' }))
const [link] = vxlan.own(self) as [LinkItem]

/** What the kernel does with ops, but for failures. */
class Model {
  readonly items = new Map<string, Item>()
  apply(ops: readonly Op[], fails: () => boolean): Outcome[] {
    return ops.map((op) => {
      if (fails()) return { op, error: new Error('EBUSY') }
      if (op.verb === 'put') this.items.set(keyOf(op.item), op.item)
      else this.items.delete(keyOf(op.item))
      return { op }
    })
  }
}

test('a new peer: neighbor, FDB entry, then route; nothing when all is there', () => {
  const desired = new Desired()
  desired.setOwner('peer k8s-w2', a)
  const ops = desired.pending(always)
  assert.deepEqual(
    lines(ops),
    a.map((item) => `put ${show(item)}`),
  )
  desired.acknowledge(done(ops))
  assert.deepEqual(desired.pending(always), [])
})

test('a peer that moves: put first; a peer that leaves: route first', () => {
  const desired = new Desired()
  desired.reset(a)
  desired.setOwner('peer k8s-w2', moved)
  const ops = desired.pending(always)
  assert.deepEqual(lines(ops), ['put fdb 16:e4:eb:80:b9:7e dst 192.168.10.202 dev flannel.1 self permanent'])
  desired.acknowledge(done(ops))
  desired.setOwner('peer k8s-w2', [])
  assert.deepEqual(
    lines(desired.pending(always)).map((line) => line.slice(0, 9)),
    ['del route', 'del fdb 1', 'del neigh'],
  )
})

test('an event costs its own keys: others are not even looked at', () => {
  const desired = new Desired()
  for (let i = 0; i < 200; i++)
    desired.setOwner(
      `peer n${i}`,
      vxlan.peer(
        self,
        leaseOf({ subnet: `10.244.${i}.0/24`, backendData: { VtepMAC: `02:00:00:00:00:${i.toString(16).padStart(2, '0')}` } }),
      ),
    )
  desired.acknowledge(done(desired.pending(always)))
  assert.deepEqual(desired.pending(always), [])
  let asked = 0
  desired.setOwner('peer n7', [])
  desired.pending(() => {
    asked++
    return false
  })
  assert.equal(asked, 3)
})

test('nothing is deleted that may not be swept, and it is once it may', () => {
  const desired = new Desired()
  desired.reset(a)
  assert.deepEqual(
    desired.pending(() => false),
    [],
  )
  assert.equal(desired.pending(always).length, 3)
})

test('what others delete is put back, and drift says so; our own notifications are none', () => {
  const desired = new Desired()
  desired.setOwner('peer k8s-w2', a)
  desired.acknowledge(done(desired.pending(always)))
  for (const item of a) assert.equal(desired.observe({ verb: 'put', item }), false)
  assert.equal(desired.observe({ verb: 'del', item: a[2]!, by: { process: 'ip', pid: 7 } }), true)
  const [op, ...rest] = desired.pending(always)
  assert.deepEqual(rest, [])
  assert.equal(showOp(op!), `put ${show(a[2]!)}`)
  assert.deepEqual(desired.driftOf(op!), { verb: 'del', by: { process: 'ip', pid: 7 } })
  desired.acknowledge(done([op!]))
  assert.deepEqual(desired.pending(always), [])
  assert.equal(desired.driftOf(op!), undefined)
})

test('who undoes an op before it is acknowledged has not gone unseen', () => {
  const desired = new Desired()
  desired.setOwner('peer k8s-w2', a)
  const ops = desired.pending(always)
  const flight = desired.depart()
  for (const item of a) desired.observe({ verb: 'put', item })
  desired.observe({ verb: 'del', item: a[2]!, by: { pid: 7 } })
  desired.acknowledge(done(ops), flight)
  assert.deepEqual(lines(desired.pending(always)), [`put ${show(a[2]!)}`])
  desired.observe({ verb: 'put', item: a[2]! })
  assert.deepEqual(desired.pending(always), [])
})

test('a device that goes down takes what is wanted along, as far as anyone knows; what is nobody’s is still to be deleted', () => {
  const desired = new Desired()
  desired.setOwner('node', [link])
  desired.setOwner('peer k8s-w2', a)
  desired.acknowledge(done(desired.pending(always)))
  desired.setOwner('peer k8s-w2', [])
  desired.observe({ verb: 'put', item: { ...link, up: false } })
  desired.observe({ verb: 'put', item: link })
  assert.deepEqual(lines(desired.pending(always)).toSorted(), a.map((item) => `del ${show(item)}`).toSorted())
})

test('drift that no notification told is found by a dump', () => {
  const desired = new Desired()
  desired.setOwner('peer k8s-w2', a)
  desired.acknowledge(done(desired.pending(always)))
  desired.reset(a.slice(0, 2))
  const [op] = desired.pending(always)
  assert.deepEqual(desired.driftOf(op!), { verb: 'del' })
})

test('a device that goes takes along what stands on it', () => {
  const desired = new Desired()
  desired.setOwner('node', [link])
  desired.setOwner('peer k8s-w2', a)
  desired.acknowledge(done(desired.pending(always)))
  desired.observe({ verb: 'del', item: link })
  assert.equal(desired.pending(always).length, 4)
  desired.reset([link, ...a])
  desired.observe({ verb: 'put', item: { ...link, up: false } })
  assert.equal(desired.pending(always).length, 4)
})

test('a device that loses its last address loses its routes unsaid; of two addresses one is enough', () => {
  const addresses = ['10.244.2.0/32', '10.244.2.9/32'].map((cidr): Item => ({ kind: 'address', dev: 'flannel.1', cidr }))
  const desired = new Desired()
  desired.setOwner('node', [link, ...addresses])
  desired.setOwner('peer k8s-w2', a)
  desired.acknowledge(done(desired.pending(always)))
  desired.observe({ verb: 'del', item: addresses[0]! })
  assert.deepEqual(lines(desired.pending(always)), [`put ${show(addresses[0]!)}`])
  desired.observe({ verb: 'del', item: addresses[1]! })
  assert.deepEqual(
    lines(desired.pending(always)),
    [...addresses, a[2]!].map((item) => `put ${show(item)}`),
  )
})

test('fields that are left out are not judged', () => {
  const desired = new Desired()
  desired.setOwner('bridge cni0', [{ kind: 'link', name: 'cni0', type: 'bridge', up: true }])
  desired.reset([{ kind: 'link', name: 'cni0', type: 'bridge', up: true, mac: '02:00:00:00:00:01', mtu: 1450 }])
  assert.deepEqual(desired.pending(always), [])
})

test('a veth whose pod is gone is not made anew', () => {
  const desired = new Desired()
  const veth: Item[] = [
    { kind: 'link', name: 'veth1', type: 'veth', up: true },
    { kind: 'port', dev: 'veth1', bridge: 'cni0', hairpin: true },
  ]
  desired.setOwner('pod a', veth)
  desired.reset(veth)
  desired.observe({ verb: 'del', item: veth[1]! })
  desired.observe({ verb: 'del', item: veth[0]! })
  assert.deepEqual(desired.pending(always), [])
})

test('two owners of one key: the first by name has it, and it passes on', () => {
  const desired = new Desired()
  desired.setOwner('peer b', moved)
  desired.setOwner('peer a', a)
  assert.deepEqual(desired.conflicts(), [{ key: keyOf(a[1]!), winner: 'peer a', losers: ['peer b'] }])
  assert.ok(lines(desired.pending(always)).includes(`put ${show(a[1]!)}`))
  desired.setOwner('peer a', [])
  assert.deepEqual(desired.conflicts(), [])
  assert.ok(lines(desired.pending(always)).includes(`put ${show(moved[1]!)}`))
})

test('two owners of one key: the older has it, whoever comes first', () => {
  for (const order of [1, -1]) {
    const desired = new Desired()
    const wish = (owner: string, items: readonly Item[], since: string) => (): void => desired.setOwner(owner, items, since)
    const acts = [wish('peer a', a, '2026-06-01T00:00:00Z'), wish('peer b', moved, '2026-01-01T00:00:00Z')]
    for (const act of order === 1 ? acts : acts.toReversed()) act()
    assert.deepEqual(desired.conflicts(), [{ key: keyOf(a[1]!), winner: 'peer b', losers: ['peer a'] }])
  }
})

test('the dry run changes nothing', () => {
  const desired = new Desired()
  desired.setOwner('peer k8s-w2', a)
  assert.equal(desired.planAgainst([], always).length, 3)
  assert.equal(desired.planAgainst(a, always).length, 0)
  assert.equal(desired.pending(always).length, 3)
})

test('the dry run says why a device is made anew, and puts again what stands on it', () => {
  const desired = new Desired()
  desired.setOwner('node', [link])
  desired.setOwner('peer k8s-w2', a)
  const other: LinkItem = { ...link, mtu: 1400, vxlan: { ...link.vxlan!, port: 4789, learning: true } }
  const ops = desired.planAgainst([other, ...a], always)
  assert.deepEqual(
    ops.map(({ verb, item, reason }) => `${verb} ${keyOf(item)}: ${reason ?? '-'}`),
    ['put link flannel.1: made anew: dstport is 4789, learning is true', ...a.map((item) => `put ${keyOf(item)}: -`)],
  )
  // MTU, MAC and state change in place.
  const [inPlace, ...rest] = desired.planAgainst([{ ...link, mtu: 1400, mac: '02:00:00:00:00:01' }, ...a], always)
  assert.deepEqual([keyOf(inPlace!.item), inPlace!.reason, rest], ['link flannel.1', undefined, []])
})

test('from any state, through any failures, the kernel converges and then stays still', () => {
  const peer = fc.record({ n: fc.integer({ min: 0, max: 5 }), ip: fc.integer({ min: 1, max: 4 }), mac: fc.integer({ min: 0, max: 5 }) })
  const state = fc.uniqueArray(peer, { selector: (p) => p.n, maxLength: 6 })
  const itemsOf = (peers: readonly { n: number; ip: number; mac: number }[]): Map<string, Item[]> =>
    new Map(
      peers.map(({ n, ip, mac }) => [
        `peer n${n}`,
        vxlan.peer(
          self,
          leaseOf({ subnet: `10.244.${n}.0/24`, publicIp: `192.0.2.${ip}`, backendData: { VtepMAC: `02:00:00:00:00:0${mac}` } }),
        ),
      ]),
    )
  fc.assert(
    fc.property(
      state,
      fc.array(state, { minLength: 1, maxLength: 4 }),
      fc.array(fc.boolean(), { maxLength: 40 }),
      (start, wishes, failures) => {
        const kernel = new Model()
        for (const items of itemsOf(start).values()) for (const item of items) kernel.items.set(keyOf(item), item)
        const desired = new Desired()
        desired.reset([...kernel.items.values()])
        const luck = [...failures]
        for (const wish of wishes) {
          const wanted = itemsOf(wish)
          for (let n = 0; n <= 5; n++) desired.setOwner(`peer n${n}`, wanted.get(`peer n${n}`) ?? [])
          desired.acknowledge(kernel.apply(desired.pending(always), () => luck.shift() ?? false))
        }
        for (let i = 0; i <= failures.length; i++) desired.acknowledge(kernel.apply(desired.pending(always), () => luck.shift() ?? false))
        // The first owner by name has a contested key.
        const want = new Map<string, Item>()
        for (const [, items] of [...itemsOf(wishes.at(-1)!)].toSorted(([x], [y]) => (x < y ? 1 : -1))) {
          for (const item of items) want.set(keyOf(item), item)
        }
        assert.deepEqual([...kernel.items.values()].map(show).toSorted(), [...want.values()].map(show).toSorted())
        assert.deepEqual(desired.pending(always), [])
      },
    ),
  )
})
