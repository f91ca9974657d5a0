import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AddressBooks, PodAddress, Reservation } from '#model/ipam.ts'
import { auditAddresses, leakedReservations } from '#plan/ipam.ts'

const file = (address: string, containerId: string, more: Partial<Reservation> = {}): Reservation => ({
  network: 'cbr0',
  address,
  path: `/n/cbr0/${address}`,
  containerId,
  ours: true,
  live: true,
  ...more,
})
const pod = (address: string, containerId: string, podName?: string): PodAddress => ({
  network: 'cbr0',
  address,
  containerId,
  ...(podName !== undefined && { podName }),
})
const gone = { live: false }

const cases: { name: string; books: AddressBooks; want: [string, string, RegExp][]; leaked: string[] }[] = [
  {
    name: 'every pod has its address',
    books: { reservations: [file('10.1.0.2', 'a')], pods: [pod('10.1.0.2', 'a')] },
    want: [],
    leaked: [],
  },
  { name: 'a pod that another plugin made', books: { reservations: [file('10.1.0.2', 'a')], pods: [] }, want: [], leaked: [] },
  {
    name: 'addresses of no pod, one of them torn',
    books: { reservations: [file('10.1.0.2', 'a', gone), file('10.1.0.3', '', gone)], pods: [] },
    want: [
      ['address-without-pod', '10.1.0.2', /container a, which is not there/],
      ['torn-file', '10.1.0.3', /names no container/],
    ],
    leaked: ['10.1.0.2', '10.1.0.3'],
  },
  {
    name: 'another network’s addresses are its own',
    books: { reservations: [file('10.1.0.2', 'a', { ours: false, live: false })], pods: [] },
    want: [],
    leaked: [],
  },
  {
    name: 'pods whose address is not reserved, or whose file is torn',
    books: { reservations: [file('10.1.0.3', '', gone)], pods: [pod('10.1.0.2', 'a', 'default/web'), pod('10.1.0.3', 'b')] },
    want: [
      ['pod-without-address', '10.1.0.2', /^pod default\/web has 10\.1\.0\.2/],
      ['pod-without-address', '10.1.0.3', /^container b has/],
    ],
    leaked: [],
  },
  {
    name: 'two pods with one address',
    books: { reservations: [file('10.1.0.2', 'a')], pods: [pod('10.1.0.2', 'a', 'x/one'), pod('10.1.0.2', 'b', 'x/two')] },
    want: [['two-owners', '10.1.0.2', /^pod x\/one and pod x\/two both have/]],
    leaked: [],
  },
  {
    name: 'a pod whose address is reserved for another container, there or not: not freed while a pod has it',
    books: { reservations: [file('10.1.0.2', 'b'), file('10.1.0.3', 'c', gone)], pods: [pod('10.1.0.2', 'a'), pod('10.1.0.3', 'd')] },
    want: [
      ['two-owners', '10.1.0.2', /container a has 10\.1\.0\.2, which is reserved for container b/],
      ['two-owners', '10.1.0.3', /reserved for container c/],
    ],
    leaked: [],
  },
]
for (const { name, books, want, leaked } of cases) {
  test(`addresses: ${name}`, () => {
    const faults = auditAddresses(books)
    assert.deepEqual(
      faults.map(({ id, address }) => [id, address]),
      want.map(([id, address]) => [id, address]),
    )
    for (const [i, { text }] of faults.entries()) assert.match(text, want[i]![2])
    assert.deepEqual(
      leakedReservations(books).map(({ address }) => address),
      leaked,
    )
  })
}
