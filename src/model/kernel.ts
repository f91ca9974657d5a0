/**
 * The nouns of the kernel side: one `Item` is one object that Twill owns in the kernel (or one file it must keep).
 * Planners produce items, the diff turns them into ops, `kernel/` carries ops out and reads items back.
 *
 * Rules that hold everywhere:
 * - `keyOf` is the kernel's own identity: two items with one key cannot both exist.
 * - `show` is one line an operator knows from `ip`, `bridge` or `nft`. Two items are equal when their lines are equal:
 *   equality, logs, dry run and tests all read it. Everything that matters is in the line; nothing else is.
 * - `owner` says for whom the item exists (`node`, `peer k8s-w1`, `masq`, `service default/web`, `pod default/a`). It is not
 *   part of the object.
 * - `netns` is the path of the network namespace the object lives in; absent = the agent's own.
 * @module
 */

export type Item =
  | LinkItem
  | PortItem
  | AddressItem
  | RouteItem
  | NeighborItem
  | FdbItem
  | SysctlItem
  | FileItem
  | NftTableItem
  | NftMapItem
  | NftChainItem
  | NftElementItem
  | FlowsItem

interface Common {
  readonly owner?: string
  readonly netns?: string
}

/** A network device. Fields left out are not ours to judge: they are neither set nor compared. */
export interface LinkItem extends Common {
  readonly kind: 'link'
  readonly name: string
  readonly type: 'vxlan' | 'bridge' | 'veth' | 'loopback'
  readonly up: boolean
  readonly mac?: string
  readonly mtu?: number
  /** Takes in every frame it sees (IFF_PROMISC). */
  readonly promisc?: true
  readonly vxlan?: VxlanSettings
  /** veth, at creation: the other end, created straight into another namespace. Not compared. */
  readonly peer?: VethPeer
}

/** IFLA_VXLAN_*; a change to any of these needs the device to be made anew. */
export interface VxlanSettings {
  readonly vni: number
  /** UDP destination port; 8472 is the kernel's own default. */
  readonly port: number
  readonly local: string
  /** The underlay device, by name. */
  readonly uplink: string
  readonly learning: boolean
  readonly gbp: boolean
}

export interface VethPeer {
  readonly name: string
  /** Where the peer is born: a namespace path, or absent for the agent's own. */
  readonly netns?: string
  readonly mac?: string
  readonly mtu?: number
}

/** A device's membership in a bridge, and its flags there. */
export interface PortItem extends Common {
  readonly kind: 'port'
  readonly dev: string
  readonly bridge: string
  readonly hairpin: boolean
  /** Talks to ports that are not isolated only (IFLA_BRPORT_ISOLATED). */
  readonly isolated?: boolean
}

export interface AddressItem extends Common {
  readonly kind: 'address'
  readonly dev: string
  /** With host bits: 10.244.1.1/24. */
  readonly cidr: string
  /** IPv4 broadcast address (the reference bridge plugin sets it on cni0 and eth0). */
  readonly broadcast?: string
  /** IPv6, at creation: ask the link for duplicates first. Not compared. */
  readonly dad?: boolean
}

export interface RouteItem extends Common {
  readonly kind: 'route'
  /** Masked CIDR; the default route is 0.0.0.0/0 or ::/0. */
  readonly dst: string
  readonly via?: string
  readonly dev?: string
  readonly onlink?: boolean
  readonly scope?: 'link' | 'global'
  readonly type?: 'unicast' | 'blackhole'
  /** Absent: the kernel's own choice (0; IPv6: 1024). Part of the key: routes of other metrics stand beside this one. */
  readonly metric?: number
  /** rtm_protocol. Ours in the node's namespace (see TWILL_ROUTE_PROTOCOL); 3 (boot) in a pod's, as the reference plugins. */
  readonly protocol: number
}

/** A permanent neighbor (ARP, NDP) entry. Key: device and IP. */
export interface NeighborItem extends Common {
  readonly kind: 'neighbor'
  readonly dev: string
  readonly ip: string
  readonly mac: string
}

/** A permanent `self` forwarding entry of a VXLAN device. Key: device and MAC. */
export interface FdbItem extends Common {
  readonly kind: 'fdb'
  readonly dev: string
  readonly mac: string
  /** The VTEP: the peer node's underlay address. */
  readonly vtep: string
}

export interface SysctlItem extends Common {
  readonly kind: 'sysctl'
  /** Below /proc/sys, with slashes: net/ipv4/ip_forward. Device names keep their dots. */
  readonly path: string
  readonly value: string
}

/** A file that is a contract with others (subnet.env, the conflist). Written whole: temp, fsync, rename. */
export interface FileItem extends Common {
  readonly kind: 'file'
  readonly path: string
  readonly content: string
  readonly mode: number
}

export interface NftTableItem extends Common {
  readonly kind: 'nft-table'
  readonly family: NftFamily
  readonly table: string
}

/** A named set (no `value` type) or map. Its elements are items of their own. */
export interface NftMapItem extends Common {
  readonly kind: 'nft-map'
  readonly family: NftFamily
  readonly table: string
  readonly name: string
  /** nft type names of the key's parts, in order: ['ipv4_addr', 'inet_proto', 'inet_service']. */
  readonly key: readonly NftType[]
  /** nft type names of the value's parts; ['verdict'] for a verdict map; absent for a set. */
  readonly value?: readonly NftType[]
  /** Elements may be intervals (CIDRs, ranges). */
  readonly interval?: boolean
  /** Packets make the elements, with a timeout, at most `size` of them: they are the kernel's memory, and no items. */
  readonly dynamic?: { readonly size: number }
}

export interface NftChainItem extends Common {
  readonly kind: 'nft-chain'
  readonly family: NftFamily
  readonly table: string
  readonly name: string
  /** Absent for a chain that is only jumped to. */
  readonly base?: {
    readonly type: 'filter' | 'nat' | 'route'
    readonly hook: NftHook
    readonly priority: number
    readonly policy: 'accept' | 'drop'
  }
  /** The chain's rules, whole and in order: a chain is replaced as one (flush and refill in one transaction). */
  readonly rules: readonly NftRule[]
}

export interface NftElementItem extends Common {
  readonly kind: 'nft-element'
  readonly family: NftFamily
  readonly table: string
  readonly map: string
  /** One text a part, in nft's form: ['10.96.0.10', 'udp', '53']; an interval part is a CIDR or a-b. */
  readonly key: readonly string[]
  /** One text a part, or a verdict: ['10.244.0.2', '53'], ['goto svc-2']. Absent in a set. */
  readonly value?: readonly string[]
}

export interface MapRef {
  readonly family: NftFamily
  readonly table: string
  readonly map: string
}

/**
 * What the kernel has learned from packets to one destination leads to these targets only. It never asks the rules again about a
 * flow that it knows, so what they say now must be enforced: `put` and `del` delete the flows that lead elsewhere, and an item is
 * there (in a dump) as long as there is no such flow. Nobody else makes flows of ours: they are asked for, never found.
 */
export interface FlowsItem extends Common {
  readonly kind: 'flows'
  /** Who remembers: connection tracking (of UDP only: TCP ends by itself), or a dynamic map: client . address . protocol . port → target. */
  readonly memory: 'conntrack' | MapRef
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  /** 0.0.0.0 or :: stand for every address of the node. */
  readonly ip: string
  readonly port: number
  /** Where such flows may lead: `ADDRESS . PORT`, sorted. Of a `del` nothing counts but where they come from. */
  readonly targets: readonly string[]
}

export type NftFamily = 'ip' | 'ip6' | 'inet' | 'bridge' | 'netdev'
export type NftHook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress'
export type NftType = 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service' | 'mark' | 'ifname' | 'ether_addr' | 'integer' | 'verdict'

/**
 * One rule: its text in nft's own syntax, which is the whole truth about it. `wire/nftables/` compiles the subset of the
 * syntax that Twill uses (documented there) and refuses the rest by name; what the kernel holds is decoded to the same text.
 */
export type NftRule = string

export type Verb = 'put' | 'del'

/** One change to the kernel. `put` makes the object exist just as the item says, whatever was there under its key. */
export interface Op {
  readonly verb: Verb
  readonly item: Item
  /** A `put` over something else, as far as is known: some objects can only be replaced in two steps. */
  readonly replaces?: true
}

/** What became of one op. */
export interface Outcome {
  readonly op: Op
  /** Absent when the kernel took it. `del` of what is not there is a success. */
  readonly error?: Error
}

/** One observed change of an object that is (or was) ours, or a hole in what we saw. */
export type Change =
  | { readonly verb: Verb; readonly item: Item; readonly by?: Culprit }
  /** The kernel dropped notifications (ENOBUFS): only a new dump tells the truth. */
  | { readonly verb: 'overrun' }

/** Who made a change, as far as the kernel tells: nf_tables names the process, rtnetlink a port id (usually a pid). */
export interface Culprit {
  readonly process?: string
  readonly pid?: number
  /** Netlink port id that is no pid: a process's second socket has one that the kernel made up. */
  readonly port?: number
}

/** What belongs to us. A restarted agent recognises its objects by this and never reads or touches anything else. */
export interface Scope {
  /** Devices by name: flannel.1, cni0. Addresses, permanent neighbors and FDB entries on them are ours too. */
  readonly links: readonly string[]
  /** Bridges whose ports we look after. */
  readonly bridges: readonly string[]
  /** Routes with this rtm_protocol, on any device, in the main table. */
  readonly routeProtocol: number
  /** Routes of any protocol but `kernel` through these devices (Flannel's, proto boot). */
  readonly routeLinks: readonly string[]
  readonly nftTables: readonly { readonly family: NftFamily; readonly table: string }[]
  readonly sysctls: readonly string[]
  readonly files: readonly string[]
  /** These are given back by a dump if they hold. */
  readonly flows?: readonly FlowsItem[]
}

/** Carries out an errand for the kernel's door: a program that the door wrote (bytes), in a process that has nothing else to do.
 * Resolves to the report, or to undefined if the process is gone; no step is under way any more then. */
export type Courier = (program: Uint8Array) => Promise<Uint8Array | undefined>

/** The door to the kernel. Real and fake stand in for each other; one contract suite runs over both. */
export interface Kernel {
  /** Every object in `scope`, read back. */
  dump(scope: Scope): Promise<Item[]>
  /** Carries out `ops` in order, batched, and goes on past failures: one outcome an op, in order. One call at a time runs.
   * @param courier  May be asked to carry out `ops` that wire up a pod; runs beside other calls. */
  apply(ops: readonly Op[], courier?: Courier): Promise<Outcome[]>
  /** Changes to objects in `scope` from now on, our own included, until `signal` aborts. */
  watch(scope: Scope, signal: AbortSignal): AsyncIterable<Change>
  /** Links, addresses and routes of the node, or of the namespace at `netns`. */
  host(netns?: string): Promise<HostView>
  /** Calls `ring` whenever what `host` gives may have changed by others' doing, until `signal` aborts. */
  watchHost(ours: HostFilter, ring: () => void, signal: AbortSignal): void
  /** What a route lookup gives for `ip`; undefined if unreachable. */
  routeTo(ip: string): Promise<{ readonly dev: string; readonly src?: string; readonly via?: string } | undefined>
  /** Mutating messages sent since the start: the measure of an idle restart (0). */
  readonly mutations: number
  /** What not every kernel (or place in it) has, asked for when it was opened. */
  readonly features: readonly Feature[]
  close(): Promise<void>
}

/** Something that may be absent, with what is done then. */
export interface Feature {
  readonly name: string
  /** For people. */
  readonly what: string
  readonly present: boolean
  readonly otherwise: string
}

/** What of the host is ours: changes there are no news. */
export interface HostFilter {
  /** Devices by name; ports of a bridge among them count too. */
  readonly devices: readonly string[]
  /** Routes with this rtm_protocol. */
  readonly routeProtocol: number
}

export interface HostLink {
  readonly index: number
  readonly name: string
  readonly mtu: number
  readonly mac: string
  readonly up: boolean
  readonly promisc?: boolean
  readonly kind?: string
  /** Name of the bridge it is a port of. */
  readonly master?: string
  /** Of a veth: index of its other end, in whatever namespace that is. */
  readonly peer?: number
}

export interface HostAddress {
  readonly dev: string
  readonly cidr: string
  readonly scope: 'global' | 'link' | 'host'
  readonly permanent: boolean
  readonly temporary: boolean
  readonly deprecated: boolean
}

export interface HostRoute {
  readonly dst: string
  /** Main table only. Multipath routes have several hops. */
  readonly hops: readonly { readonly dev: string; readonly via?: string }[]
  readonly metric: number
}

export interface HostView {
  readonly links: readonly HostLink[]
  readonly addresses: readonly HostAddress[]
  readonly routes: readonly HostRoute[]
  /** False if bridged packets cannot be shown to the firewall: the module br_netfilter is not loaded. */
  readonly bridgeFilter?: boolean
}

/** rtm_protocol of every route of ours: above the values that rt_protos reserves, and free there (RTPROT_* in linux/rtnetlink.h). */
export const TWILL_ROUTE_PROTOCOL = 84
export const BOOT_ROUTE_PROTOCOL = 3

const at = (item: Item): string => (item.netns === undefined ? '' : `netns ${item.netns} `)
const word = (text: string, value: string | number | undefined): string => (value === undefined ? '' : ` ${text} ${value}`)
const flag = (text: string, value: boolean | undefined): string => (value ? ` ${text}` : '')
const dest = (dst: string): string => (dst === '0.0.0.0/0' || dst === '::/0' ? 'default' : dst)

/** One line an operator knows from `ip`, `bridge` and `nft`; two items are equal when their lines are. */
export function show(item: Item): string {
  return at(item) + line(item)
}

function line(item: Item): string {
  switch (item.kind) {
    case 'link': {
      const v = item.vxlan
      const vxlan = v
        ? ` id ${v.vni} local ${v.local} dev ${v.uplink} dstport ${v.port} ${v.learning ? '' : 'no'}learning${flag('gbp', v.gbp)}`
        : ''
      return `link ${item.name} type ${item.type}${vxlan}${word('address', item.mac)}${word('mtu', item.mtu)}${flag('promisc', item.promisc)} ${item.up ? 'up' : 'down'}`
    }
    case 'port':
      return `port ${item.dev} master ${item.bridge} hairpin ${item.hairpin ? 'on' : 'off'}${flag('isolated', item.isolated)}`
    case 'address':
      return `address ${item.cidr}${word('brd', item.broadcast)} dev ${item.dev}`
    case 'route':
      return `route ${item.type === 'blackhole' ? 'blackhole ' : ''}${dest(item.dst)}${word('via', item.via)}${word('dev', item.dev)} proto ${item.protocol}${word('metric', item.metric)}${item.scope === 'link' ? ' scope link' : ''}${flag('onlink', item.onlink)}`
    case 'neighbor':
      return `neigh ${item.ip} lladdr ${item.mac} dev ${item.dev} permanent`
    case 'fdb':
      return `fdb ${item.mac} dst ${item.vtep} dev ${item.dev} self permanent`
    case 'sysctl':
      return `sysctl ${item.path}=${item.value}`
    case 'file':
      return `file ${item.path} mode ${item.mode.toString(8)} content ${JSON.stringify(item.content)}`
    case 'nft-table':
      return `table ${item.family} ${item.table}`
    case 'nft-map': {
      const type = item.key.join(' . ') + (item.value ? ` : ${item.value.join(' . ')}` : '')
      return `${item.value ? 'map' : 'set'} ${item.family} ${item.table} ${item.name} { type ${type};${flag('flags interval;', item.interval)}${item.dynamic ? ` size ${item.dynamic.size}; flags dynamic,timeout;` : ''} }`
    }
    case 'nft-chain': {
      const b = item.base
      const head = b ? ` type ${b.type} hook ${b.hook} priority ${b.priority}; policy ${b.policy};` : ''
      return `chain ${item.family} ${item.table} ${item.name} {${head}${item.rules.map((rule) => ` ${rule};`).join('')} }`
    }
    case 'nft-element':
      return `element ${item.family} ${item.table} ${item.map} { ${item.key.join(' . ')}${item.value ? ` : ${item.value.join(' . ')}` : ''} }`
    case 'flows':
      return `${key(item)} lead to ${item.targets.length === 0 ? 'nobody' : item.targets.join(', ')}`
  }
}

/** The kernel's own identity of the object: what cannot exist twice. */
export function keyOf(item: Item): string {
  return at(item) + key(item)
}

function key(item: Item): string {
  switch (item.kind) {
    case 'link':
      return `link ${item.name}`
    case 'port':
      return `port ${item.dev}`
    case 'address':
      return `address ${item.cidr} dev ${item.dev}`
    case 'route':
      return `route ${dest(item.dst)}${word('metric', item.metric)}`
    case 'neighbor':
      return `neigh ${item.ip} dev ${item.dev}`
    case 'fdb':
      return `fdb ${item.mac} dev ${item.dev}`
    case 'sysctl':
      return `sysctl ${item.path}`
    case 'file':
      return `file ${item.path}`
    case 'nft-table':
      return `table ${item.family} ${item.table}`
    case 'nft-map':
      return `map ${item.family} ${item.table} ${item.name}`
    case 'nft-chain':
      return `chain ${item.family} ${item.table} ${item.name}`
    case 'nft-element':
      return `element ${item.family} ${item.table} ${item.map} { ${item.key.join(' . ')} }`
    case 'flows':
      return `flows ${item.memory === 'conntrack' ? '' : `in ${item.memory.family} ${item.memory.table} ${item.memory.map} `}${item.protocol} ${item.ip} . ${item.port}`
  }
}

export const showOp = (op: Op): string => `${op.verb} ${show(op.item)}`
