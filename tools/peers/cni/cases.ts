/**
 * What is played on both sides: configurations as people write them and as they get them wrong, from one seed.
 * `@DIR@` stands for a directory of the side's own.
 * @module
 */
import fc from 'fast-check'
import type { Json } from './world.ts'

/** One call of the runtime, or something that happens behind the plugins' back. */
export type Step =
  | { readonly do: 'ADD' | 'DEL' | 'STATUS' | 'GC'; readonly id: string }
  /** With the result of this container's ADD as prevResult. */
  | { readonly do: 'CHECK'; readonly id: string }
  /** A program run in the namespace of the pod, or of the node. VETH is the host end. */
  | { readonly do: 'tamper'; readonly at: string; readonly argv: readonly string[] }

export interface Case {
  readonly plugin: 'bridge' | 'host-local' | 'loopback'
  /** Text that is no JSON object is passed as it is. */
  readonly conf: Json | string
  readonly args?: string
  readonly ifname: string
  /** Overrides of the environment; an empty value takes a variable away. */
  readonly env?: Readonly<Record<string, string>>
  readonly steps: readonly Step[]
}

/** `often`: times to 3 times that it stays away. */
const maybe = <T>(arb: fc.Arbitrary<T>, often = 1): fc.Arbitrary<T | undefined> =>
  fc.oneof({ arbitrary: fc.constant(undefined), weight: 30 }, { arbitrary: arb, weight: Math.round(10 * often) })
const pick = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
/** Without the members that are undefined. */
const object = <T = Json>(members: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<T> =>
  fc.record(members).map((one) => Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined)) as T)

const versions = pick('0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.3.1', '0.4.0', '0.4.0', '1.0.0', '1.0.0', '1.1.0', '1.1.0', '')

const v4 = fc.integer({ min: 1, max: 3 }).chain((n) =>
  object({
    subnet: pick(`10.${n}.0.0/24`, `10.${n}.0.0/24`, `10.${n}.4.0/22`, `10.${n}.0.8/29`, `10.${n}.0.0/30`),
    rangeStart: maybe(pick(`10.${n}.0.9`, `10.${n}.0.10`, `10.${n}.4.10`), 0.3),
    rangeEnd: maybe(pick(`10.${n}.0.11`, `10.${n}.0.12`, `10.${n}.4.11`), 0.3),
    gateway: maybe(pick(`10.${n}.0.1`, `10.${n}.0.9`, `10.${n}.0.254`, `10.${n}.4.2`), 0.5),
  }),
)
const v6 = fc.integer({ min: 1, max: 3 }).chain((n) =>
  object({
    subnet: pick(`2001:db8:${n}::/64`, `2001:DB8:${n}:0::/64`, `2001:db8:${n}::/120`),
    rangeStart: maybe(pick(`2001:db8:${n}::10`), 0.3),
    rangeEnd: maybe(pick(`2001:db8:${n}::1f`), 0.3),
    gateway: maybe(pick(`2001:db8:${n}::1`, `2001:db8:${n}::9`), 0.3),
  }),
)
const ranges = fc.oneof(
  { arbitrary: v4.map((one) => [[one]]), weight: 5 },
  { arbitrary: v6.map((one) => [[one]]), weight: 1 },
  { arbitrary: fc.tuple(v4, v6).map(([a, b]) => [[a], [b]]), weight: 4 },
  { arbitrary: fc.tuple(v6, v4).map(([a, b]) => [[a], [b]]), weight: 1 },
  { arbitrary: fc.tuple(v4, v4).map(([a, b]) => [[a], [b]]), weight: 1 },
  { arbitrary: fc.tuple(v4, v4).map(([a, b]) => [[a, b]]), weight: 1 },
)
const routes = fc.array(
  pick<Json>(
    { dst: '0.0.0.0/0' },
    { dst: '10.244.0.0/16' },
    { dst: '10.99.3.7/16' },
    { dst: '192.0.2.0/24', gw: '10.1.0.1' },
    { dst: '0.0.0.0/0', gw: '10.1.0.1' },
    { dst: '::/0' },
    { dst: '2001:db8:ff::/48' },
    { Dst: '198.51.100.0/24', GW: null },
  ),
  { maxLength: 3 },
)
const ipam = fc.oneof(
  {
    weight: 8,
    arbitrary: object({
      type: pick('host-local'),
      dataDir: pick('@DIR@/networks'),
      ranges,
      routes: maybe(routes, 3),
      resolvConf: maybe(pick('@DIR@/resolv.conf'), 0.4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(v4, maybe(routes))
      .map(([flat, routes]) => ({ type: 'host-local', dataDir: '@DIR@/networks', ...flat, ...(routes ? { routes } : {}) })),
  },
)
const dns = object({
  nameservers: maybe(pick(['10.96.0.10']), 2),
  domain: maybe(pick('example.org')),
  search: maybe(pick(['a.b', 'c'])),
  options: maybe(pick(['ndots:5'])),
})
const runtimeConfig = object({
  ipRanges: maybe(
    pick([[{ subnet: '10.7.0.0/24' }]], [[{ Subnet: '10.7.0.0/24', RangeStart: '10.7.0.5' }], [{ subnet: '2001:db8:7::/64' }]]),
    0.5,
  ),
  ips: maybe(pick(['10.1.0.10/24'], ['10.1.0.10'], ['2001:db8:1::11'], ['10.1.0.10', '2001:db8:1::11/64'], ['10.77.0.1']), 0.5),
  mac: maybe(pick('0a:00:00:00:00:07', 'C2:11:22:33:44:55'), 0.5),
})
const args = maybe(
  pick(
    'IP=10.1.0.10',
    'IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default',
    'MAC=0a:00:00:00:00:08',
    'IgnoreUnknown=true;IP=10.2.0.10;MAC=0a:00:00:00:00:08',
  ),
  0.7,
)
const cniArgs = maybe(object({ cni: object({ ips: maybe(pick(['10.1.0.10'])), mac: maybe(pick('0a:00:00:00:00:09')) }) }), 0.3)
const flag = (often = 1): fc.Arbitrary<boolean | undefined> => maybe(pick(true, true, false), often)

const bridgeConf = object({
  cniVersion: versions,
  name: pick('cbr0', 'cbr0', 'my-net_1.x'),
  type: pick('bridge'),
  bridge: maybe(pick('br7', 'cni0'), 0.5),
  isGateway: flag(2),
  isDefaultGateway: flag(3),
  forceAddress: flag(0.5),
  mtu: maybe(pick(0, 1280, 1400, 1450, 9000), 2),
  hairpinMode: flag(2),
  promiscMode: flag(0.3),
  vlan: maybe(pick(0, 5, 4094), 0.4),
  preserveDefaultVlan: flag(0.4),
  macspoofchk: flag(0.1),
  portIsolation: flag(0.3),
  ipam,
  dns: maybe(dns, 0.5),
  runtimeConfig: maybe(runtimeConfig, 0.7),
  args: cniArgs,
})
const hostLocalConf = object({
  cniVersion: versions,
  name: pick('cbr0', 'other'),
  type: pick('bridge'),
  ipam,
  runtimeConfig: maybe(runtimeConfig, 0.7),
  args: cniArgs,
})
const loopbackConf = object({ cniVersion: versions, name: pick('cni-loopback'), type: pick('loopback') })

const tampers: readonly (readonly [string, ...string[]])[] = [
  ['pod', 'ip', 'link', 'del', 'eth0'],
  ['pod', 'ip', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global'],
  ['pod', 'ip', 'route', 'flush', 'table', 'main'],
  ['pod', 'ip', 'link', 'set', 'eth0', 'address', '0a:0a:0a:0a:0a:0a'],
  ['pod', 'ip', 'link', 'set', 'eth0', 'down'],
  ['pod', 'ip', 'link', 'set', 'eth0', 'mtu', '1300'],
  ['node', 'ip', 'link', 'set', 'VETH', 'nomaster'],
  ['node', 'ip', 'link', 'set', 'VETH', 'down'],
  ['node', 'ip', 'link', 'set', 'VETH', 'type', 'bridge_slave', 'hairpin', 'on'],
]

const steps: fc.Arbitrary<readonly Step[]> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.constant([
      { do: 'ADD', id: 'a' },
      { do: 'CHECK', id: 'a' },
      { do: 'DEL', id: 'a' },
      { do: 'DEL', id: 'a' },
    ] as Step[]),
  },
  {
    weight: 2,
    arbitrary: fc.constant([
      { do: 'ADD', id: 'a' },
      { do: 'ADD', id: 'b' },
      { do: 'DEL', id: 'a' },
      { do: 'CHECK', id: 'b' },
      { do: 'DEL', id: 'b' },
    ] as Step[]),
  },
  {
    weight: 3,
    arbitrary: pick(...tampers).map(([where, ...argv]): Step[] => [
      { do: 'ADD', id: 'a' },
      { do: 'tamper', at: where === 'pod' ? 'a' : 'node', argv },
      { do: 'CHECK', id: 'a' },
      { do: 'DEL', id: 'a' },
    ]),
  },
  {
    weight: 1,
    arbitrary: fc.constant([
      { do: 'STATUS', id: 'a' },
      { do: 'ADD', id: 'a' },
      { do: 'GC', id: 'a' },
      { do: 'DEL', id: 'a' },
    ] as Step[]),
  },
)

const good: fc.Arbitrary<Case> = fc.oneof(
  {
    weight: 8,
    arbitrary: object<Case>({ plugin: pick('bridge' as const), conf: bridgeConf, args, ifname: pick('eth0', 'eth0', 'net1'), steps }),
  },
  { weight: 2, arbitrary: object<Case>({ plugin: pick('host-local' as const), conf: hostLocalConf, args, ifname: pick('eth0'), steps }) },
  { weight: 1, arbitrary: fc.record({ plugin: pick('loopback' as const), conf: loopbackConf, ifname: pick('lo', 'eth0'), steps }) },
)

/** A value put where another belongs: path into the configuration, and what stands there. */
const blunders: readonly (readonly [string, unknown])[] = [
  ...['', 'bad/name', '-x', 7, null].map((name) => ['name', name] as const),
  ...['0.9.9', '2.0.0', '1', 1].map((version) => ['cniVersion', version] as const),
  ...['br/7', 7, 'a-name-longer-than-15'].map((bridge) => ['bridge', bridge] as const),
  ...['true', 1, null].flatMap((value) => ['isGateway', 'isDefaultGateway', 'hairpinMode', 'ipMasq'].map((key) => [key, value] as const)),
  ...[-1, 1.5, '1400', 70000].map((mtu) => ['mtu', mtu] as const),
  ...[-1, 4095, '5', 1.5].map((vlan) => ['vlan', vlan] as const),
  ['IPAM', 7],
  ['ipam', []],
  ['ipam', null],
  ['ipam.type', 7],
  ['ipam.ranges', []],
  ['ipam.ranges', [[]]],
  ['ipam.ranges', [{ subnet: '10.1.0.0/24' }]],
  ...[
    '',
    '10.1.0.0',
    '10.1.0.0/33',
    '10.1.0.1/24',
    '10.1.0.0/31',
    '10.1.0.0/32',
    '010.1.0.0/24',
    'x/24',
    '2001:db8::/127',
    '::ffff:10.1.0.0/120',
  ].map((subnet) => ['ipam.ranges', [[{ subnet }]]] as const),
  ...['10.2.0.1', 'x', '', '10.1.0.255', '10.1.0.0', '2001:db8::1'].flatMap((ip) =>
    ['rangeStart', 'rangeEnd', 'gateway'].map((key) => ['ipam.ranges', [[{ subnet: '10.1.0.0/24', [key]: ip }]]] as const),
  ),
  ['ipam.ranges', [[{ subnet: '10.1.0.0/24', rangeStart: '10.1.0.20', rangeEnd: '10.1.0.10' }]]],
  ['ipam.ranges', [[{ subnet: '10.1.0.0/24' }], [{ subnet: '10.1.0.0/25' }]]],
  ['ipam.ranges', [[{ subnet: '10.1.0.0/24' }, { subnet: '2001:db8::/64' }]]],
  ['ipam.ranges', [[{ subnet: '10.1.0.0/30', rangeStart: '10.1.0.1', rangeEnd: '10.1.0.1' }]]],
  ...[[{ dst: 'x' }], [{ dst: '10.0.0.0' }], [{}], [{ dst: '10.0.0.0/8', gw: 'x' }], {}, [7]].map(
    (routes) => ['ipam.routes', routes] as const,
  ),
  ['ipam.resolvConf', '/nonexistent'],
  ['ipam.dataDir', 7],
  ['dns', 'x'],
  ['dns', { nameservers: 'x' }],
  ['runtimeConfig', { mac: 'zz' }],
  ['runtimeConfig', { ips: ['x'] }],
  ['runtimeConfig', { ips: ['10.9.9.9'] }],
  ['runtimeConfig', { ipRanges: [[{ subnet: 'x' }]] }],
  ['runtimeConfig', 'x'],
  ['args', { cni: { ips: ['10.1.0.300'] } }],
  ['promiscMode', 'x'],
]
const texts = ['', '{', 'null', '[]', '"x"', '7', '{"name":"x"} {}', '{"name":"x","cniVersion":"1.0.0","type":"bridge",}']
const environments: readonly Readonly<Record<string, string>>[] = [
  { CNI_CONTAINERID: '' },
  { CNI_CONTAINERID: '/etc' },
  { CNI_CONTAINERID: '.x' },
  { CNI_NETNS: '' },
  { CNI_NETNS: '/nonexistent' },
  { CNI_NETNS: '/etc/passwd' },
  { CNI_IFNAME: '' },
  { CNI_IFNAME: 'a/b' },
  { CNI_IFNAME: 'a:b' },
  { CNI_IFNAME: 'a b' },
  { CNI_IFNAME: '..' },
  { CNI_IFNAME: '1234567890123456' },
  { CNI_PATH: '' },
  { CNI_COMMAND: 'add' },
  { CNI_COMMAND: 'NOPE' },
  { CNI_ARGS: 'IP' },
  { CNI_ARGS: 'IP=10.1.0.10;' },
  { CNI_ARGS: 'A=b' },
  { CNI_ARGS: 'IP=x' },
  { CNI_ARGS: 'MAC=zz' },
  { CNI_ARGS: 'IgnoreUnknown=maybe;A=b' },
]
const plain: Json = {
  cniVersion: '1.0.0',
  name: 'cbr0',
  type: 'bridge',
  isDefaultGateway: true,
  ipam: { type: 'host-local', dataDir: '@DIR@/networks', ranges: [[{ subnet: '10.1.0.0/24' }]] },
}
const addThenDel: readonly Step[] = [
  { do: 'ADD', id: 'a' },
  { do: 'DEL', id: 'a' },
]

function put(conf: Json, path: string, value: unknown): Json {
  const [head, rest] = path.split(/\.(.*)/)
  return { ...conf, [head!]: rest === undefined ? value : put(conf[head!] as Json, rest, value) }
}

const bad: fc.Arbitrary<Case> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(pick(...blunders), pick('bridge' as const, 'host-local' as const), pick('0.3.1', '1.0.0'))
      .map(([[path, value], plugin, cniVersion]) => ({
        plugin,
        conf: put({ ...plain, cniVersion }, path, value),
        ifname: 'eth0',
        steps: addThenDel,
      })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(pick(...texts), pick('bridge' as const, 'loopback' as const))
      .map(([conf, plugin]) => ({ plugin, conf, ifname: 'eth0', steps: addThenDel })),
  },
  {
    weight: 2,
    arbitrary: pick(...environments).map((env) => ({ plugin: 'bridge' as const, conf: plain, ifname: 'eth0', env, steps: addThenDel })),
  },
)

/** `count` cases, two thirds of them meant to work; the same for the same seed. */
export function generate(count: number, seed: number): Case[] {
  return fc.sample(fc.oneof({ weight: 2, arbitrary: good }, { weight: 1, arbitrary: bad }), { numRuns: count, seed }) as Case[]
}
