/** Requests of a CNI plugin that no runtime should send: environment, configuration, results of earlier plugins. */
import { Chance } from '../simulate/clock.ts'
import { nested, shapes, texts } from './words.ts'

export interface CniPoison {
  readonly env: ReadonlyMap<string, string>
  readonly config: string
  readonly how: string
}

const deepObject = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`

/** Keys that plugins read, without the paths: those are root's to choose. */
const keys = [
  ...['cniVersion', 'name', 'type', 'delegate', 'ipam', 'prevResult', 'runtimeConfig', 'dns', 'args', 'capabilities', 'conditionsV4'],
  ...['bridge', 'mtu', 'vlan', 'hairpinMode', 'isGateway', 'ipMasq', 'promiscMode', 'snat', 'markMasqBit', '__proto__', 'constructor'],
]
const delegateKeys = [
  'type',
  'mtu',
  'bridge',
  'vlan',
  'vlanTrunk',
  'hairpinMode',
  'forceAddress',
  'ipam',
  'name',
  '__proto__',
  'isDefaultGateway',
  'macspoofchk',
]

export function cniPoison(seed: number): CniPoison {
  const chance = new Chance(seed)
  const env = new Map([
    ['PLUGIN', chance.one(['flannel', 'flannel', 'portmap', 'loopback'])],
    ['CNI_COMMAND', chance.one(['ADD', 'ADD', 'DEL', 'CHECK', 'STATUS', 'GC'])],
    ['CNI_CONTAINERID', `poison-${seed}`],
    ['CNI_NETNS', '/proc/self/ns/net'],
    ['CNI_IFNAME', 'eth0'],
    ['CNI_PATH', '/x'],
  ])
  const conf: Record<string, unknown> = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true } }
  // What ends at a NUL in a real environment ends there here.
  const word = (): string => chance.one([texts(chance), '../../x', '.', '..', '/', 'a/b', 'x'.repeat(300), '\u001b[2J']).split('\0')[0]!
  const define = (of: object, key: string): unknown =>
    Object.defineProperty(of, key, { value: shapes(chance), enumerable: true, configurable: true, writable: true })
  const how = chance.one(['environment', 'key', 'delegate', 'result', 'ports', 'text', 'depth', 'size'])
  let config: string | undefined
  if (how === 'environment') env.set(chance.one([...env.keys()]), word())
  else if (how === 'key') define(conf, chance.one(keys))
  else if (how === 'delegate') define(conf.delegate as object, chance.one(delegateKeys))
  else if (how === 'result') {
    conf.prevResult = {
      cniVersion: '0.3.1',
      interfaces: [{ name: 'eth0', sandbox: '/x' }],
      ips: [{ address: '10.244.1.9/24', interface: 0 }],
    }
    define(conf.prevResult as object, chance.one(['cniVersion', 'interfaces', 'ips', 'routes', 'dns', 'ip4']))
  } else if (how === 'ports') {
    const mapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' }
    define(mapping, chance.one(['hostPort', 'containerPort', 'protocol', 'hostIP']))
    conf.runtimeConfig = { portMappings: [mapping] }
  } else if (how === 'text') config = chance.one(['', 'null', '7', '[]', '{', texts(chance), '{"name":"a","name":7}', '\ufeff{}'])
  else if (how === 'depth')
    config = `{"cniVersion":"0.3.1","name":"cbr0","${chance.one(keys)}":${chance.one([nested, deepObject])(1 + chance.below(60_000))}}`
  else
    conf.prevResult = {
      ips: Array.from({ length: chance.below(20_000) }, (_, i) => ({ address: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/8` })),
    }
  if (chance.yes(0.2))
    env.set('CNI_ARGS', chance.one([word(), 'IgnoreUnknown=maybe', 'K8S_POD_NAME=\u001b[31m;IgnoreUnknown=1', 'a=b=c', ';;']))
  return { env, config: config ?? JSON.stringify(conf), how }
}
