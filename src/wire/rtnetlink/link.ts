/**
 * Network devices: RTM_*LINK. Bytes in, bytes out; devices are known by index or name, never looked up here.
 *
 *     struct ifinfomsg   u8 family | u8 pad | u16 type (ARPHRD_*) | s32 index | u32 flags (IFF_*) | u32 change mask
 *
 * Source: linux/if_link.h, linux/if.h; drivers/net/vxlan, drivers/net/veth.c, net/bridge/br_netlink.c for what they read.
 * @module
 */
import { formatIp, parseIp } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'
import { wireError } from '#wire/errors.ts'
import {
  afterHeader,
  attr,
  attributeMap,
  concat,
  type Message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type Request,
  read,
} from '#wire/netlink.ts'
import { AF_BRIDGE, AF_INET, AF_UNSPEC, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK } from '#wire/rtnetlink/constants.ts'

const HEADER = 16
const IFF_UP = 0x1
const IFF_PROMISC = 0x100
const ARPHRD_LOOPBACK = 772
/** IFNAMSIZ, with its NUL. */
const NAME_BYTES = 16

const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  PROTINFO: 12,
  TXQLEN: 13,
  LINKINFO: 18,
  GROUP: 27,
  NET_NS_FD: 28,
  NUM_TX_QUEUES: 31,
  NUM_RX_QUEUES: 32,
  AF_SPEC: 26,
  EXT_MASK: 29,
  LINK_NETNSID: 37,
} as const
const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const
const VXLAN = {
  ID: 1,
  LINK: 3,
  LOCAL: 4,
  TTL: 5,
  TOS: 6,
  LEARNING: 7,
  PROXY: 11,
  RSC: 12,
  L2MISS: 13,
  L3MISS: 14,
  PORT: 15,
  LOCAL6: 17,
  UDP_ZERO_CSUM6_TX: 19,
  UDP_ZERO_CSUM6_RX: 20,
  GBP: 23,
} as const
const VETH_INFO_PEER = 1
const BRPORT = { MODE: 4, ISOLATED: 33 } as const
const IFLA_INET_CONF = 1
/** IPV4_DEVCONF_* of linux/ip.h, by the name of the file in net/ipv4/conf/<device>/. */
const IPV4_CONF: Readonly<Record<string, number>> = { arp_notify: 22 }
/** Leave statistics out: they are most of a reply's bytes. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3

/** A device as the kernel describes it. */
export interface Link {
  /** AF_BRIDGE: the message is about the device's membership in a bridge; a "delete" then ends that, not the device. */
  readonly family: number
  readonly index: number
  readonly name: string
  readonly up: boolean
  readonly loopback: boolean
  readonly mtu: number
  /** Asked for by an administrator; a bridge's hold on its ports does not show here. */
  readonly promisc: boolean
  /** Empty for devices without a link-layer address. */
  readonly mac: string
  /** IFLA_INFO_KIND: vxlan, bridge, veth, …; absent for hardware. */
  readonly kind?: string
  readonly group: number
  /** Index of the bridge (or bond …) it is a port of. */
  readonly master?: number
  /** Of a bridge port; absent in messages that do not tell. */
  readonly hairpin?: boolean
  /** Of a bridge port: set off from other isolated ports; absent in messages that do not tell. */
  readonly isolated?: boolean
  /** Of a veth: index of its peer, in the namespace that `peerNetnsId` tells if it is another one. */
  readonly peer?: number
  readonly peerNetnsId?: number
  readonly vxlan?: VxlanLink
}

export interface VxlanLink {
  readonly vni: number
  readonly port: number
  /** Empty if the device has none. */
  readonly local: string
  /** Index of the underlay device; 0 if the device has none. */
  readonly uplink: number
  readonly learning: boolean
  readonly gbp: boolean
}

/** A device to make. */
export interface NewLink {
  readonly name: string
  readonly kind: 'vxlan' | 'bridge' | 'veth'
  readonly mac: string
  readonly up: boolean
  readonly promisc?: boolean | undefined
  readonly mtu?: number | undefined
  readonly vxlan?: VxlanLink | undefined
  /** Of a veth: its other end. It starts down: while the ends are not yet tied, bringing it up gives ENOTCONN. */
  readonly peer?: { readonly name: string; readonly mac: string; readonly mtu?: number | undefined; readonly netnsFd?: number | undefined }
}

/** What to change on a device; what is absent stays. */
export interface LinkChange {
  readonly up?: boolean | undefined
  readonly mac?: string | undefined
  readonly mtu?: number | undefined
  /** Index of the bridge to join; 0 to leave. */
  readonly master?: number | undefined
  readonly group?: number | undefined
  readonly promisc?: boolean | undefined
}

function header(index: number, up?: boolean, promisc?: boolean, family: number = AF_UNSPEC): Uint8Array {
  const bytes = new Uint8Array(HEADER)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, family)
  view.setInt32(4, index, true)
  view.setUint32(8, (up ? IFF_UP : 0) | (promisc ? IFF_PROMISC : 0), true)
  view.setUint32(12, (up === undefined ? 0 : IFF_UP) | (promisc === undefined ? 0 : IFF_PROMISC), true)
  return bytes
}

function nameAttribute(name: string): Uint8Array {
  const length = new TextEncoder().encode(name).length
  if (length >= NAME_BYTES) throw wireError.ERR_FIELD_TOO_LONG({ what: `interface name ${name}`, length, max: NAME_BYTES - 1 })
  return attr.string(IFLA.IFNAME, name)
}

const optional = <T>(value: T | undefined, encode: (value: T) => Uint8Array): Uint8Array[] => (value === undefined ? [] : [encode(value)])
const common = (o: { mac?: string | undefined; mtu?: number | undefined }): Uint8Array[] => [
  ...optional(o.mac, (mac) => attr.bytes(IFLA.ADDRESS, parseMac(mac)!)),
  ...optional(o.mtu, (mtu) => attr.u32(IFLA.MTU, mtu)),
]

/** Unless told how many, the kernel gives either end of a veth pair a queue for each possible CPU and then, to use one, gives up
 * the others: for that it waits for an RCU grace period with the rtnl lock held (veth_init_queues, netif_set_real_num_tx_queues). */
const ONE_QUEUE = [attr.u32(IFLA.NUM_TX_QUEUES, 1), attr.u32(IFLA.NUM_RX_QUEUES, 1)]

/** Makes a device; EEXIST if the name is taken. A VXLAN device gets just what Flannel's gets: txqueuelen 0, TTL and TOS 0,
 * no proxying, checksums and ageing as the kernel sets them, no group. */
export function newLink(link: NewLink): Request {
  const { name, kind, vxlan, peer } = link
  const info = [attr.string(INFO.KIND, kind)]
  if (vxlan) info.push(attr.nest(INFO.DATA, ...vxlanAttributes(vxlan)))
  if (peer) {
    const place = optional(peer.netnsFd, (fd) => attr.u32(IFLA.NET_NS_FD, fd))
    const end = concat(header(0), nameAttribute(peer.name), ...common(peer), ...place, ...ONE_QUEUE)
    info.push(attr.nest(INFO.DATA, attr.bytes(VETH_INFO_PEER, end)))
  }
  const queue = kind === 'vxlan' ? [attr.u32(IFLA.TXQLEN, 0)] : peer ? ONE_QUEUE : []
  const body = concat(header(0, link.up, link.promisc), nameAttribute(name), ...common(link), ...queue, attr.nest(IFLA.LINKINFO, ...info))
  return { type: RTM_NEWLINK, flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body }
}

function vxlanAttributes(v: VxlanLink): Uint8Array[] {
  const local = parseIp(v.local)!
  return [
    attr.u32(VXLAN.ID, v.vni),
    attr.u32(VXLAN.LINK, v.uplink),
    attr.bytes(local.family === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, local.bytes),
    attr.u8(VXLAN.TTL, 0),
    attr.u8(VXLAN.TOS, 0),
    attr.u8(VXLAN.LEARNING, v.learning ? 1 : 0),
    ...[VXLAN.PROXY, VXLAN.RSC, VXLAN.L2MISS, VXLAN.L3MISS, VXLAN.UDP_ZERO_CSUM6_TX, VXLAN.UDP_ZERO_CSUM6_RX].map((type) =>
      attr.u8(type, 0),
    ),
    attr.be16(VXLAN.PORT, v.port),
    ...(v.gbp ? [attr.flag(VXLAN.GBP)] : []),
  ]
}

/** Changes a device that exists; ENODEV if there is none. By name when `target` is a string. */
export function setLink(target: number | string, change: LinkChange): Request {
  const byName = typeof target === 'string'
  const body = concat(
    header(byName ? 0 : target, change.up, change.promisc),
    ...(byName ? [nameAttribute(target)] : []),
    ...common(change),
    ...optional(change.master, (index) => attr.u32(IFLA.MASTER, index)),
    ...optional(change.group, (group) => attr.u32(IFLA.GROUP, group)),
  )
  return { type: RTM_SETLINK, flags: NLM_F_ACK, body }
}

/** Sets the flags of a bridge port. Hairpin lets it send a frame back out of the port it came in by (a pod that reaches itself through
 * a service). By name, so that one send can make the device, enslave it and set these: `ip link set <port> type bridge_slave hairpin on`. */
export function setPort(
  port: string,
  { hairpin, isolated }: { readonly hairpin: boolean; readonly isolated?: boolean | undefined },
): Request {
  const slave = attr.nest(
    IFLA.LINKINFO,
    attr.string(INFO.SLAVE_KIND, 'bridge'),
    attr.nest(INFO.SLAVE_DATA, attr.u8(BRPORT.MODE, hairpin ? 1 : 0), attr.u8(BRPORT.ISOLATED, isolated ? 1 : 0)),
  )
  return { type: RTM_NEWLINK, flags: NLM_F_ACK, body: concat(header(0), nameAttribute(port), slave) }
}

/** What a write to the sysctl net/ipv4/conf/<name>/<key> does, as a message; undefined for a key that is not known here. */
export function setIpv4Conf(name: string, key: string, value: number): Request | undefined {
  const type = IPV4_CONF[key]
  if (type === undefined) return undefined
  const conf = attr.nest(AF_INET, attr.nest(IFLA_INET_CONF, attr.u32(type, value)))
  return { type: RTM_SETLINK, flags: NLM_F_ACK, body: concat(header(0), nameAttribute(name), attr.nest(IFLA.AF_SPEC, conf)) }
}

export function deleteLink(name: string): Request {
  return { type: RTM_DELLINK, flags: NLM_F_ACK, body: concat(header(0), nameAttribute(name)) }
}

/** Deletes every device of a group at once: one RCU grace period for all. ENODEV if the group is empty. */
export function deleteGroup(group: number): Request {
  return { type: RTM_DELLINK, flags: NLM_F_ACK, body: concat(header(0), attr.u32(IFLA.GROUP, group)) }
}

/** Asks for one device: the reply is an RTM_NEWLINK. */
export function getLink(name: string): Request {
  const body = concat(header(0), nameAttribute(name), attr.u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS))
  return { type: RTM_GETLINK, flags: NLM_F_ACK, body }
}

export const dumpLinks: Request = {
  type: RTM_GETLINK,
  flags: 0,
  body: concat(header(0), attr.u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS)),
}

/** Decodes an RTM_NEWLINK or RTM_DELLINK. @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeLink({ body }: Message): Link {
  const found = attributeMap(afterHeader(body, HEADER, 'a link message'))
  const info = attributeMap(found.get(IFLA.LINKINFO) ?? new Uint8Array())
  const kindBytes = info.get(INFO.KIND)
  const kind = kindBytes && read.string(kindBytes)
  const data = info.get(INFO.DATA)
  const family = read.u8(body)
  const number = (type: number): number | undefined => {
    const payload = found.get(type)
    return payload && read.u32(payload)
  }
  const master = number(IFLA.MASTER)
  const peer = kind === 'veth' ? number(IFLA.LINK) : undefined
  const peerNetnsId = number(IFLA.LINK_NETNSID)
  const portBytes = family === AF_BRIDGE ? found.get(IFLA.PROTINFO) : isBridgePort(info) ? info.get(INFO.SLAVE_DATA) : undefined
  const port = portBytes && attributeMap(portBytes)
  const mode = port?.get(BRPORT.MODE)
  const isolated = port?.get(BRPORT.ISOLATED)
  return {
    family,
    index: read.s32(body, 4),
    name: read.string(found.get(IFLA.IFNAME) ?? new Uint8Array()),
    up: (read.u32(body, 8) & IFF_UP) !== 0,
    loopback: read.u16(body, 2) === ARPHRD_LOOPBACK,
    mtu: number(IFLA.MTU) ?? 0,
    promisc: (read.u32(body, 8) & IFF_PROMISC) !== 0,
    mac: formatMac(found.get(IFLA.ADDRESS) ?? new Uint8Array()),
    group: number(IFLA.GROUP) ?? 0,
    ...(kind !== undefined && { kind }),
    ...(master !== undefined && { master }),
    ...(mode && { hairpin: read.u8(mode) !== 0 }),
    ...(isolated && { isolated: read.u8(isolated) !== 0 }),
    ...(peer !== undefined && { peer }),
    ...(peerNetnsId !== undefined && { peerNetnsId }),
    ...(kind === 'vxlan' && data && { vxlan: decodeVxlan(data) }),
  }
}

function isBridgePort(info: ReadonlyMap<number, Uint8Array>): boolean {
  const kind = info.get(INFO.SLAVE_KIND)
  return kind !== undefined && read.string(kind) === 'bridge'
}

function decodeVxlan(data: Uint8Array): VxlanLink {
  const found = attributeMap(data)
  const local = found.get(VXLAN.LOCAL) ?? found.get(VXLAN.LOCAL6)
  const uplink = found.get(VXLAN.LINK)
  const port = found.get(VXLAN.PORT)
  const learning = found.get(VXLAN.LEARNING)
  const id = found.get(VXLAN.ID)
  return {
    vni: id ? read.u32(id) : 0,
    port: port ? read.be16(port) : 0,
    local: local ? formatIp(local) : '',
    uplink: uplink ? read.u32(uplink) : 0,
    learning: learning !== undefined && read.u8(learning) !== 0,
    gbp: found.has(VXLAN.GBP),
  }
}
