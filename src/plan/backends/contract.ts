/**
 * What every backend must hold, as data: checks with what was got and what was wanted. backends.test.ts runs them over all.ts,
 * each backend with its own table of cases (`<type>.cases.ts`), so that a new one is tested as soon as it is listed.
 * @module
 */
import { TwillError } from '#base/errors.ts'
import type { Lease } from '#model/cluster.ts'
import { type Item, keyOf, show, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { contains, parseCidr } from '#net/ip.ts'
import type { Backend, BackendType, Self } from '#plan/backends/backend.ts'
import { backendOf, leaseOf, type SelfWish, selfOf } from '#plan/testing.ts'

interface Setting {
  readonly name: string
  /** Keys of Backend in net-conf.json beside Type; none by default. */
  readonly keys?: object
  /** What differs from the golden node k8s-w1 (plan/testing.ts). */
  readonly self?: SelfWish
}

/** The table of one backend. Items are told as `show` prints them. */
export interface BackendCases {
  /** What the node itself needs, what it announces in backend-data, and the pods' MTU. */
  readonly nodes: readonly (Setting & { readonly own: readonly string[]; readonly data: string; readonly mtu: number })[]
  /** Keys that net-conf.json may not hold, and what is said of each. */
  readonly refused?: readonly { readonly keys: object; readonly problems: readonly string[] }[]
  /** Nodes that cannot speak it: `id: text` of the fault. */
  readonly unfit?: readonly (Setting & { readonly fault: string })[]
  /** What one peer needs: items, or `id: text` of the fault. `lease` is what differs from the golden k8s-w2's. */
  readonly peers: readonly (Setting & { readonly lease?: Partial<Lease>; readonly want: readonly string[] | string })[]
}

export interface Check {
  readonly name: string
  got(): unknown
  readonly want: unknown
}

/** The checks of one backend: its table, then the laws, under each set of keys that the table names. */
export function* contractOf(kind: BackendType, cases: BackendCases): Iterable<Check> {
  const configured = ({ keys }: Setting): Backend => backendOf(kind, keys)
  for (const one of cases.nodes) {
    const of = (): Backend => configured(one)
    yield { name: `needs: ${one.name}`, got: () => of().own(selfOf(one.self)).map(show), want: one.own }
    yield { name: `announces: ${one.name}`, got: () => of().data(selfOf(one.self)), want: one.data }
    yield { name: `MTU of pods: ${one.name}`, got: () => of().mtu(selfOf(one.self)), want: one.mtu }
    yield { name: `is fit: ${one.name}`, got: () => of().unfit(selfOf(one.self)), want: undefined }
  }
  for (const { keys, problems } of cases.refused ?? []) {
    yield { name: `refuses ${JSON.stringify(keys)}`, got: () => problemsOf(kind, keys), want: problems }
  }
  for (const one of cases.unfit ?? []) {
    yield { name: `is not fit: ${one.name}`, got: () => told(configured(one).unfit(selfOf(one.self))), want: one.fault }
  }
  for (const one of cases.peers) {
    yield { name: `plans: ${one.name}`, got: () => planned(configured(one), selfOf(one.self), leaseOf(one.lease)), want: one.want }
  }
  const settings = [...cases.nodes, ...cases.peers].map(({ keys = {} }) => JSON.stringify(keys))
  for (const keys of new Set(settings)) yield* laws(backendOf(kind, JSON.parse(keys)), kind.type, keys)
}

/** What is wrong with `keys`; none if they are taken. */
function problemsOf(kind: BackendType, keys: object): unknown {
  try {
    backendOf(kind, keys)
    return []
  } catch (error) {
    if (error instanceof TwillError) return error.details.problems
    throw error
  }
}

const told = (fault: { readonly id: string; readonly text: string } | undefined): string | undefined =>
  fault && `${fault.id}: ${fault.text}`

const planned = (backend: Backend, self: Self, lease: Lease): string[] | string =>
  told(backend.fault(self, lease)) ?? backend.peer(self, lease).map(show)

/** A cluster of nodes that all speak `backend`: what each of them announces is what it says itself. */
const CLUSTER = 60

function* laws(backend: Backend, type: string, keys: string): Iterable<Check> {
  const self = frozen(selfOf())
  const leases = Array.from({ length: CLUSTER }, (_, i) => frozen(announced(backend, i)))
  const all = (): Item[] => [...backend.own(self), ...leases.flatMap((lease) => backend.peer(self, lease))]
  const law = (name: string, got: () => unknown, want: unknown): Check => ({ name: `law, with ${keys}: ${name}`, got, want })

  yield law('its name is the one it is listed by, in lower case', () => backend.type, type.toLowerCase())
  yield law('what a node announces, its peers can serve', () => leases.map((lease) => told(backend.fault(self, lease))).filter(Boolean), [])
  yield law('the same lease gives the same items, and nothing that was given is changed', () => differing(all(), all()), [])
  yield law('no two nodes need one object, nor does a node need one twice', () => repeated(all().map(keyOf)), [])
  yield law('its routes lead into the pod CIDR of the peer', () => leases.flatMap((lease) => astray(backend.peer(self, lease), lease)), [])
  yield law(
    'a restarted agent knows what is its own',
    () =>
      all()
        .filter((item) => !isKnown(item, backend.device(self.family)))
        .map(show),
    [],
  )
  yield law('pods fit through the interface', () => backend.mtu(self) > 0 && backend.mtu(self) <= self.uplink.mtu, true)
}

/** The lease of the i-th of many nodes, as an agent with this backend announces it. */
function announced(backend: Backend, i: number): Lease {
  const node = `n${i}`
  const publicIp = `192.168.10.${110 + i}`
  const subnet = `10.244.${100 + i}.0/24`
  const mac = `02:00:00:00:00:${(16 + i).toString(16)}`
  const uplink = { ...selfOf().uplink, address: publicIp, publicIp }
  const backendData: unknown = JSON.parse(backend.data(selfOf({ node, subnet, mac, local: publicIp, uplink })))
  return leaseOf({ node, subnet, publicIp, backendType: backend.announcedType, backendData })
}

const differing = (once: readonly Item[], again: readonly Item[]): string[] =>
  once.map(show).filter((line, i) => once.length !== again.length || line !== show(again[i]!))

const repeated = (keys: readonly string[]): string[] => keys.filter((key, i) => keys.indexOf(key) !== i)

const astray = (items: readonly Item[], lease: Lease): string[] =>
  items.filter((item) => item.kind === 'route' && !contains(parseCidr(lease.subnet)!, parseCidr(item.dst)!)).map(show)

/** By what plan/sweep.ts counts as ours: routes by their protocol, all else by the device. */
function isKnown(item: Item, device: string | undefined): boolean {
  switch (item.kind) {
    case 'route':
      return item.protocol === TWILL_ROUTE_PROTOCOL
    case 'link':
      return item.name === device
    case 'address':
    case 'neighbor':
    case 'fdb':
      return item.dev === device
    case 'sysctl':
      return item.path.split('/').includes(device ?? '')
    default:
      return false
  }
}

/** Whoever writes to it, or to anything in it, throws. */
function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const part of Object.values(Object.freeze(value))) frozen(part)
  return value
}
