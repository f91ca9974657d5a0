/** That the laws of a backend catch whoever breaks them: each variant breaks one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lease } from '#model/cluster.ts'
import { type Item, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { Backend } from '#plan/backends/backend.ts'
import { contractOf } from '#plan/backends/contract.ts'
import { hostGw } from '#plan/backends/host-gw.ts'

const route = (lease: Lease, o: object = {}): Item => ({ kind: 'route', dst: lease.subnet, protocol: TWILL_ROUTE_PROTOCOL, ...o })
let calls = 0
const variants: { readonly law: string; readonly broken: Partial<Backend> }[] = [
  { law: 'its name is the one it is listed by, in lower case', broken: { type: 'HOST-GW' } },
  { law: 'what a node announces, its peers can serve', broken: { fault: () => ({ id: 'bad-annotation', text: 'y', remedy: 'z' }) } },
  {
    law: 'the same lease gives the same items, and nothing that was given is changed',
    broken: { peer: (_, lease) => [route(lease, { via: `192.0.2.${calls++ % 256}` })] },
  },
  { law: 'no two nodes need one object, nor does a node need one twice', broken: { peer: (_, lease) => [route(lease), route(lease)] } },
  {
    law: 'its routes lead into the pod CIDR of the peer',
    broken: { peer: (_, lease) => [route(lease, { dst: lease.subnet.replace('10.244', '10.245') })] },
  },
  { law: 'a restarted agent knows what is its own', broken: { peer: (_, lease) => [route(lease, { protocol: 3 })] } },
  { law: 'pods fit through the interface', broken: { mtu: (self) => self.uplink.mtu + 1 } },
]
const cases = { nodes: [{ name: 'as it comes', own: [], data: 'null', mtu: 1500 }], peers: [] }
const laws = (broken: Partial<Backend>): string[] => {
  const kind = { type: 'host-gw', configure: (keys: Parameters<typeof hostGw.configure>[0]) => ({ ...hostGw.configure(keys), ...broken }) }
  const failed = [...contractOf(kind, cases)].filter(({ name, got, want }) => {
    if (!name.startsWith('law')) return false
    try {
      assert.deepEqual(got(), want)
      return false
    } catch {
      return true
    }
  })
  return failed.map(({ name }) => name.replace(/^law, with \{\}: /, ''))
}

test('host-gw as it is breaks no law', () => assert.deepEqual(laws({}), []))
for (const { law, broken } of variants) test(`broken and seen: ${law}`, () => assert.deepEqual(laws(broken), [law]))
test('a backend that writes to its lease is seen', () => {
  const peer = (_: unknown, lease: Lease): Item[] => {
    Object.assign(lease, { subnet: '10.244.0.0/24' })
    return []
  }
  assert.ok(laws({ peer }).includes('the same lease gives the same items, and nothing that was given is changed'))
})
