/**
 * Nodes, Services and EndpointSlices as the API gives them out: a sound cluster, and single objects that are hostile (every field of a
 * type that the API allows) or invalid (some field is not). Each follows from its seed.
 * @module
 */
import { Chance } from '../simulate/clock.ts'
import { addresses, names, nested, shapes, texts, versions } from './words.ts'

export const PREFIX = 'flannel.alpha.coreos.com/'
export const OWN = 'k8s-w1'
export const OWN_IP = '192.168.10.101'
export const OWN_SUBNET = '10.244.2.0/24'
const HEALTHY = 12
/** The service to which hostile slices belong. */
export const VICTIM = 'of-hostile-slices'

export type KindName = 'nodes' | 'services' | 'endpointSlices'
/** JSON on its way to the API server. */
export type Json = { [key: string]: unknown }

export interface Poison {
  readonly kind: KindName
  readonly object: Json
  /** What was done to it, for people. */
  readonly how: string
  /** It must be told of. Else it may be served as it is. */
  readonly isFaulty: boolean
  /** What is wrong with it matters to tunnels only. */
  readonly isOfTunnel: boolean
}

const mac = (n: number): string => `02:00:00:00:01:${n.toString(16).padStart(2, '0')}`
const backendData = (vtep: string): string => JSON.stringify({ VNI: 1, VtepMAC: vtep })
const OLD = '2026-01-01T00:00:00Z'
const NEW = '2026-06-01T00:00:00Z'

export function node(name: string, podCIDR: string, publicIp: string, vtep: string, created = OLD): Json {
  const annotations = {
    [`${PREFIX}backend-data`]: backendData(vtep),
    [`${PREFIX}backend-type`]: 'vxlan',
    [`${PREFIX}kube-subnet-manager`]: 'true',
    [`${PREFIX}public-ip`]: publicIp,
  }
  return {
    metadata: { name, uid: `uid-${name}`, resourceVersion: '5', creationTimestamp: created, annotations },
    spec: { podCIDR, podCIDRs: [podCIDR] },
    status: { addresses: [{ type: 'InternalIP', address: publicIp }], conditions: [] },
  }
}

function service(name: string, clusterIP: string, nodePort: number, created = OLD): Json {
  return {
    metadata: { namespace: 'default', name, uid: `uid-${name}`, resourceVersion: '5', creationTimestamp: created },
    spec: { type: 'NodePort', clusterIP, clusterIPs: [clusterIP], ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort }] },
  }
}

function slice(name: string, of: string, ips: readonly string[]): Json {
  return {
    metadata: { namespace: 'default', name, uid: `uid-${name}`, resourceVersion: '5', labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
  }
}

const numbers = Array.from({ length: HEALTHY }, (_, i) => i)

/** The cluster with which nothing is wrong. */
export const sound: Readonly<Record<KindName, readonly Json[]>> = {
  nodes: [
    node(OWN, OWN_SUBNET, OWN_IP, '02:00:00:00:00:01', '2025-01-01T00:00:00Z'),
    ...numbers.map((n) => node(`healthy-${n}`, `10.244.${10 + n}.0/24`, `192.168.10.${110 + n}`, mac(n))),
  ],
  services: [
    service('kubernetes', '10.96.0.1', 30_000),
    service(VICTIM, '10.96.2.1', 30_001),
    ...numbers.map((n) => service(`healthy-${n}`, `10.96.1.${n + 1}`, 30_100 + n)),
  ],
  endpointSlices: [
    slice('kubernetes', 'kubernetes', ['192.168.10.100']),
    ...numbers.map((n) => slice(`healthy-${n}`, `healthy-${n}`, [`10.244.${10 + n}.2`, `10.244.${10 + n}.3`])),
  ],
}

/** Puts `value` at `path` of `object`; a missing step becomes an object. */
function set(object: Json, path: readonly (string | number)[], value: unknown): void {
  const [key, ...rest] = path
  if (rest.length === 0) Object.defineProperty(object, key!, { value, enumerable: true, configurable: true, writable: true })
  else {
    const next = (object[key!] ?? {}) as Json
    object[key!] = next
    set(next, rest, value)
  }
}

interface Change {
  readonly how: string
  readonly isFaulty: boolean
  /** Nothing of the object is served. */
  readonly isRefused?: boolean
  readonly isOfTunnel?: boolean
  readonly path: readonly (string | number)[]
  readonly value: unknown
}
const faulty = (how: string, path: Change['path'], value: unknown): Change => ({ how, path, value, isFaulty: true })
/** Large ones take long: one in ten of its kind is one. */
const rare = (chance: Chance, how: string, path: Change['path'], value: unknown): Change =>
  chance.yes(0.1) ? faulty(how, path, value) : odd('as it should be', ['metadata', 'generation'], 7)
const refused = (how: string, path: Change['path'], value: unknown): Change => ({ ...faulty(how, path, value), isRefused: true })
const odd = (how: string, path: Change['path'], value: unknown): Change => ({ how, path, value, isFaulty: false })

const OTHERS = {
  ips: numbers.map((n) => `192.168.10.${110 + n}`),
  clusterIPs: numbers.map((n) => `10.96.1.${n + 1}`),
}

/** PodCIDRs that lie over something: everything, the host, the node's own network, services, other nodes. */
const coveringCidrs = [
  ...['0.0.0.0/0', '::/0', '127.0.0.0/8', '224.0.0.0/4', '255.255.255.255/32', '192.168.10.0/24', '10.96.0.0/12', '10.244.0.0/16'],
  ...[OWN_SUBNET, '10.244.2.128/25', '10.244.2.7/32', '10.244.0.0/22', '10.244.11.0/24', '10.244.11.128/25', '10.244.8.0/21', 'fd00::/64'],
]

function hostileNode(chance: Chance): Change {
  const annotation = (key: string): string[] => ['metadata', 'annotations', PREFIX + key]
  const data = (how: string, value: string): Change => ({ ...faulty(how, annotation('backend-data'), value), isOfTunnel: true })
  const vtep = (value: string): Change => data(`VtepMAC ${value}`, backendData(value))
  return chance.one<() => Change>([
    () => faulty('podCIDR', ['spec', 'podCIDRs'], [chance.one(coveringCidrs)]),
    () =>
      faulty(
        'thousands of podCIDRs',
        ['spec', 'podCIDRs'],
        Array.from({ length: 5000 }, (_, i) => `10.244.${i % 256}.0/24`),
      ),
    () => faulty('no podCIDR', ['spec'], {}),
    () => vtep(chance.one(['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00', '', texts(chance)])),
    () => vtep(chance.one(['02:00:00:00:00:01', mac(chance.below(HEALTHY))])),
    () => faulty('public IP', annotation('public-ip'), addresses(chance, OWN_IP, OTHERS.ips)),
    () => faulty('public IP is broadcast', annotation('public-ip'), chance.one(['192.168.10.255', '192.168.10.0'])),
    () => faulty('public IP is a text', annotation('public-ip'), texts(chance)),
    () => faulty('backend type', annotation('backend-type'), texts(chance)),
    () => data('backend data is a text', texts(chance)),
    () => data('backend data is deep', nested(1 + chance.below(100_000))),
    () => data('backend data is JSON', JSON.stringify(shapes(chance))),
    () => odd('VNI', annotation('backend-data'), JSON.stringify({ VNI: shapes(chance), VtepMAC: mac(200), __proto__: 1 })),
    () => odd('an annotation of ours', annotation(chance.one(['__proto__', 'constructor', 'toString', texts(chance)])), texts(chance)),
    () => odd('an annotation of others', ['metadata', 'annotations', texts(chance)], texts(chance)),
    () =>
      odd(
        'thousands of addresses',
        ['status', 'addresses'],
        Array.from({ length: 5000 }, () => ({ type: 'InternalIP', address: texts(chance).slice(0, 50) || 'x' })),
      ),
  ])()
}

function hostileService(chance: Chance): Change {
  const port = (n: number, o: object = {}): object => ({ name: `p${n}`, protocol: 'TCP', port: n, ...o })
  const ips = (list: readonly string[]): Change => faulty(`clusterIPs ${list.slice(0, 2).join()}`, ['spec', 'clusterIPs'], list)
  return chance.one<() => Change>([
    () => ips([addresses(chance, OWN_IP, OTHERS.clusterIPs)]),
    () => ips(['10.96.0.1']),
    () => ips([chance.one(['10.244.2.1', '10.244.11.2', '10.244.0.0', '::1', 'ff02::1', '::', 'fe80::1'])]),
    () => ips(['10.96.200.200', addresses(chance, OWN_IP, OTHERS.clusterIPs)]),
    () => faulty('a port twice', ['spec', 'ports'], [port(80), port(81), { ...port(80), name: 'again' }]),
    () => faulty('a node port twice', ['spec', 'ports'], [port(80, { nodePort: 31_000 }), port(81, { nodePort: 31_000 })]),
    () => faulty("another's node port", ['spec', 'ports'], [port(80, { nodePort: 30_100 + chance.below(HEALTHY) })]),
    () =>
      faulty(
        'thousands of ports',
        ['spec', 'ports'],
        Array.from({ length: 30_000 }, (_, i) => port(i + 1, { name: 'http' })),
      ),
    () =>
      odd('affinity', ['spec'], {
        ...(service('x', '10.96.200.200', 31_000).spec as object),
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 + chance.below(3) } },
      }),
    () => odd('ExternalName', ['spec'], { type: 'ExternalName', externalName: texts(chance) }),
    () => odd('a port name', ['spec', 'ports'], [{ ...port(80), name: texts(chance) }]),
  ])()
}

/** Slices of the service that is theirs; one of which nothing is served may say that it is a healthy one's. */
function hostileSlice(chance: Chance): Change {
  const of = (ips: readonly string[]): object[] => ips.map((ip) => ({ addresses: [ip] }))
  return chance.one<() => Change>([
    () =>
      refused(
        'endpoints of no host',
        ['endpoints'],
        of([chance.one(['127.0.0.1', '0.0.0.0', '224.0.0.5', '169.254.169.254', '255.255.255.255', '240.9.9.9'])]),
      ),
    () => refused('endpoints of another family', ['endpoints'], of(['fd00::1', '::ffff:10.244.9.9'])),
    () => rare(chance, 'thousands of endpoints', ['endpoints'], of(Array.from({ length: 3000 }, (_, i) => `10.250.${i >> 8}.${i & 255}`))),
    () => odd('no endpoints', ['endpoints'], null),
    () =>
      odd('conditions', ['endpoints'], [{ addresses: ['10.244.11.9'], conditions: { ready: false, serving: false, terminating: true } }]),
    () => odd('a node name', ['endpoints'], [{ addresses: ['10.244.11.9'], nodeName: texts(chance) || 'x' }]),
    () => odd('port names', ['ports'], [{ name: texts(chance), port: 65_535 }]),
  ])()
}

/** Fields that are read, by kind, with values that no reader takes. */
const wrongFields: Readonly<Record<KindName, readonly (readonly [path: Change['path'], values: readonly unknown[]])[]>> = {
  nodes: [
    [
      ['spec', 'podCIDRs'],
      [7, 'x', {}, ['ten'], [null], ['10.244.1.0'], ['10.244.1.0/33'], [[]], ['10.244.01.0/24']],
    ],
    [
      ['spec', 'podCIDR'],
      [7, {}, []],
    ],
    [['spec'], [7, 'x', []]],
    [['status'], ['x', []]],
    [
      ['status', 'addresses'],
      [{}, 'x', [null], ['x'], [{ type: 7 }], [{ type: 'InternalIP' }]],
    ],
    [
      ['status', 'conditions'],
      [{}, [7], [{ type: {} }], [{ type: 'NetworkUnavailable', status: 7 }]],
    ],
    [
      ['metadata', 'annotations'],
      [7, [], 'x'],
    ],
    [
      ['metadata', 'annotations', `${PREFIX}public-ip`],
      [7, {}, [], true],
    ],
  ],
  services: [
    [
      ['spec', 'clusterIPs'],
      [7, {}, [7], ['ten'], ['10.96.0.300'], ['10.96.0.1/32']],
    ],
    [
      ['spec', 'clusterIP'],
      [7, {}],
    ],
    [
      ['spec', 'type'],
      ['clusterip', 7, {}],
    ],
    [
      ['spec', 'ports'],
      [{}, [7], [{}], ...[0, -1, 65_536, 1e9, 1.5, 'NaN', '80', null, true].map((port) => [{ port }])],
    ],
    [
      ['spec', 'ports'],
      [...[-1, 65_536, 1e9, 1.5, '30080'].map((nodePort) => [{ port: 80, nodePort }]), [{ port: 80, protocol: 'tcp' }]],
    ],
    [
      ['spec', 'sessionAffinity'],
      ['clientip', 7],
    ],
    [
      ['spec', 'externalTrafficPolicy'],
      ['local', 7],
    ],
    [['status'], [7, { loadBalancer: [] }, { loadBalancer: { ingress: [7] } }]],
  ],
  endpointSlices: [
    [['addressType'], ['ipv4', 7, null, 'constructor']],
    [['ports'], [{}, [7], ...[0, -1, 65_536, 1e9, 'NaN', {}].map((port) => [{ name: 'http', port }])]],
    [
      ['endpoints'],
      [{}, 'x', [7], [{ addresses: 'x' }], [{ addresses: [7] }], [{ addresses: ['ten'] }], [{ addresses: ['10.244.1.2/24'] }]],
    ],
    [['endpoints'], [[{ addresses: [], conditions: { ready: 'yes' } }], [{ addresses: [], nodeName: 7 }], [{ conditions: [] }]]],
    [
      ['metadata', 'labels'],
      [7, [], { 'kubernetes.io/service-name': 7 }],
    ],
  ],
}

function wrongField(kind: KindName, chance: Chance): Change {
  const meta = chance.yes(0.15)
  if (meta) {
    const field = chance.one(['namespace', 'uid', 'creationTimestamp', 'resourceVersion'])
    return faulty(`metadata.${field}`, ['metadata', field], chance.one<unknown>([7, {}, [], true]))
  }
  const [path, values] = chance.one(wrongFields[kind])
  return refused(path.join('.'), path, chance.one(values))
}

/** Any field that any object has, with any value: told of or not, it harms nobody else. */
function anyField(chance: Chance): Change {
  const path = chance.one<readonly string[]>([
    ['metadata', 'labels'],
    ['metadata', 'ownerReferences'],
    ['metadata', 'managedFields'],
    ['spec', 'taints'],
    ['status', 'images'],
    ['status', 'loadBalancer'],
    ['spec', 'externalIPs'],
    ['spec', '__proto__'],
    ['__proto__'],
    ['constructor'],
    ['kind'],
  ])
  return odd(path.join('.'), path, shapes(chance))
}

const kinds: readonly KindName[] = ['nodes', 'services', 'endpointSlices']

/** The object of one seed: hostile or invalid. `n` makes it one of its kind. */
export function poison(seed: number, form: 'hostile' | 'invalid'): Poison {
  const chance = new Chance(seed)
  const kind = chance.one(kinds)
  const name = names(chance, seed)
  const hostile = { nodes: hostileNode, services: hostileService, endpointSlices: hostileSlice }
  const change = chance.yes(0.1) ? anyField(chance) : form === 'hostile' ? hostile[kind](chance) : wrongField(kind, chance)
  const object =
    kind === 'nodes'
      ? node(name, `10.244.${32 + (seed % 200)}.0/24`, '192.168.10.200', mac(200), NEW)
      : kind === 'services'
        ? service(name, '10.96.200.200', 31_000, NEW)
        : slice(name, change.isRefused ? `healthy-${chance.below(HEALTHY)}` : VICTIM, ['10.244.11.200'])
  set(object, ['metadata', 'resourceVersion'], form === 'hostile' && chance.yes(0.2) ? versions(chance) : String(seed + 10))
  set(object, change.path, change.value)
  return {
    kind,
    object,
    how: `${kind} ${JSON.stringify(name).slice(0, 40)}: ${change.how}`,
    isFaulty: change.isFaulty,
    isOfTunnel: change.isOfTunnel === true,
  }
}
