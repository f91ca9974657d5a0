/**
 * For tests and benchmarks: the ways to break each kind of object that the agent keeps, by the tools that a person has. Taken from
 * the objects themselves, so that a new one is broken too.
 * @module
 */
import { type Item, type LinkItem, show } from '#model/kernel.ts'

export interface Breakage {
  /** `vxlan-mtu`: what is broken and how. */
  readonly kind: string
  /** The object, as `show` has it. */
  readonly object: string
  /** The command to run in the agent's network namespace. */
  readonly argv: readonly string[]
  /** What the journal is to call it. */
  readonly found: 'deleted' | 'changed'
  /** Who tells who did it: nf_tables the process; rtnetlink its port id, but of no device and FDB entry. */
  readonly teller: 'nf_tables' | 'rtnetlink' | 'nobody'
}

const WRONG_MAC = '02:00:00:00:00:99'

/** Every breakage of `items`, the first object of each kind of breakage only. */
export function breakagesOf(items: readonly Item[]): Breakage[] {
  const first = new Map<string, Breakage>()
  for (const item of items) {
    for (const [kind, argv, found] of waysToBreak(item)) {
      if (!first.has(kind)) first.set(kind, { kind, object: show(item), argv: argv.split(' '), found, teller: tellerOf(item) })
    }
  }
  return [...first.values()]
}

type Way = readonly [kind: string, argv: string, found: Breakage['found']]

function waysToBreak(item: Item): readonly Way[] {
  switch (item.kind) {
    case 'link':
      return waysToBreakLink(item)
    case 'port':
      return [
        ['port-gone', `ip link set ${item.dev} nomaster`, 'deleted'],
        ['port-hairpin', `bridge link set dev ${item.dev} hairpin ${item.hairpin ? 'off' : 'on'}`, 'changed'],
      ]
    case 'address':
      return [[item.broadcast === undefined ? 'vxlan-address' : 'bridge-address', `ip address del ${item.cidr} dev ${item.dev}`, 'deleted']]
    case 'route':
      if (item.type === 'blackhole') return [['blackhole-gone', `ip route del blackhole ${item.dst} metric ${item.metric ?? 0}`, 'deleted']]
      return [
        ['route-gone', `ip route del ${item.dst} proto ${item.protocol}`, 'deleted'],
        ['route-changed', `ip route replace blackhole ${item.dst} proto ${item.protocol}`, 'changed'],
      ]
    case 'neighbor':
      return [
        ['neighbor-gone', `ip neigh del ${item.ip} dev ${item.dev}`, 'deleted'],
        ['neighbor-changed', `ip neigh replace ${item.ip} lladdr ${WRONG_MAC} nud permanent dev ${item.dev}`, 'changed'],
      ]
    case 'fdb':
      return [
        ['fdb-gone', `bridge fdb del ${item.mac} dev ${item.dev}`, 'deleted'],
        ['fdb-changed', `bridge fdb replace ${item.mac} dst 192.0.2.1 dev ${item.dev}`, 'changed'],
      ]
    case 'sysctl':
      return [
        [
          item.path.endsWith('ip_forward') ? 'sysctl-announced' : 'sysctl-silent',
          `sysctl -qw ${item.path}=${1 - Number(item.value)}`,
          'changed',
        ],
      ]
    case 'file': {
      const name = item.path.slice(item.path.lastIndexOf('/') + 1)
      return [
        [`${name}-gone`, `rm ${item.path}`, 'deleted'],
        [`${name}-changed`, `truncate -s 0 ${item.path}`, 'changed'],
      ]
    }
    case 'nft-table':
      return [['nft-table-gone', `nft delete table ${item.family} ${item.table}`, 'deleted']]
    case 'nft-chain': {
      if (!item.base) return []
      const chain = `chain ${item.family} ${item.table} ${item.name}`
      return [
        ['nft-chain-gone', `nft flush ${chain}; delete ${chain}`, 'deleted'],
        ['nft-chain-flushed', `nft flush ${chain}`, 'changed'],
        ['nft-chain-rule', `nft insert rule ${chain.slice('chain '.length)} accept`, 'changed'],
      ]
    }
    case 'nft-element':
      return [['nft-element-gone', `nft delete element ${item.family} ${item.table} ${item.map} { ${item.key.join(' . ')} }`, 'deleted']]
    case 'nft-map': // the kernel lets nobody delete a map that a rule refers to
    case 'flows': // no object of the kernel
      return []
  }
}

function waysToBreakLink({ name, type, mtu = 1500 }: LinkItem): readonly Way[] {
  const ways: Record<LinkItem['type'], readonly Way[]> = {
    vxlan: [
      ['vxlan-gone', `ip link del ${name}`, 'deleted'],
      ['vxlan-down', `ip link set ${name} down`, 'changed'],
      ['vxlan-mac', `ip link set ${name} address ${WRONG_MAC}`, 'changed'],
      ['vxlan-mtu', `ip link set ${name} mtu ${mtu - 50}`, 'changed'],
    ],
    bridge: [
      ['bridge-gone', `ip link del ${name}`, 'deleted'],
      ['bridge-down', `ip link set ${name} down`, 'changed'],
    ],
    veth: [['veth-down', `ip link set ${name} down`, 'changed']],
    loopback: [],
  }
  return ways[type]
}

function tellerOf({ kind }: Item): Breakage['teller'] {
  if (kind.startsWith('nft-')) return 'nf_tables'
  return ['address', 'route', 'neighbor'].includes(kind) ? 'rtnetlink' : 'nobody'
}
