/**
 * ctnetlink: tracked connections listed (filtered by the kernel) and deleted, one message each.
 *
 *     struct nfgenmsg   u8 family | u8 version | be16 resource id        then attributes
 *     CTA_TUPLE_ORIG    what the first packet said, before any NAT
 *     CTA_TUPLE_REPLY   what answers say: its source is where the connection really goes
 *     CTA_FILTER        which fields of the tuples beside it a listed entry must share (Linux 5.8)
 *
 * A deletion by filter (CTA_FILTER with CT_DELETE) is Linux 6.12; so entries are listed and then deleted by tuple and id, and the
 * id sees to it that nothing is deleted but the entry that was listed. All numbers are in network order.
 * Source: linux/netfilter/nfnetlink_conntrack.h; the bits of CTA_FILTER: net/netfilter/nf_internals.h.
 * @module
 */
import { type Family, formatIp, parseIp } from '#net/ip.ts'
import {
  afterHeader,
  attr,
  attributeAt,
  attributeMap,
  concat,
  decodeAck,
  type Message,
  NLM_F_ACK,
  NLMSG_ERROR,
  type Request,
  read,
} from '#wire/netlink.ts'

const SUBSYSTEM = 1
/** IPCTNL_MSG_CT_*, with the subsystem in the high byte. What is listed comes as CT_NEW. */
export const CT_NEW = SUBSYSTEM << 8
const CT_GET = CT_NEW | 1
const CT_DELETE = CT_NEW | 2
const CT_GET_STATS = CT_NEW | 5

const HEADER = 4
const AF = { 4: 2, 6: 10 } as const
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, STATUS: 3, ID: 12, ZONE: 18, FILTER: 25 } as const
const CTA_TUPLE = { IP: 1, PROTO: 2 } as const
const CTA_IP = { 4: { SRC: 1, DST: 2 }, 6: { SRC: 3, DST: 4 } } as const
const CTA_PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const
const CTA_FILTER_ORIG_FLAGS = 1
/** Bits of CTA_FILTER_*_FLAGS. */
const FILTER = { IP_DST: 1 << 1, PROTO_NUM: 1 << 3, PROTO_DST_PORT: 1 << 5 } as const

/** One direction of a connection; ports are 0 where the protocol has none. */
export interface Tuple {
  readonly src: string
  readonly dst: string
  /** IPPROTO_*: 17 is UDP. */
  readonly protocol: number
  readonly srcPort: number
  readonly dstPort: number
}

export interface Connection {
  readonly family: Family
  readonly original: Tuple
  readonly reply: Tuple
  /** IPS_*: 8 confirmed, 32 destination NAT, … */
  readonly status: number
  /** Distinguishes it from a later connection with the same tuple. */
  readonly id: number
  /** 0 unless somebody (a CT target, Open vSwitch) keeps connections of their own apart. */
  readonly zone: number
}

/** What the first packet of listed connections said: all of one protocol, perhaps of one destination only. */
export interface ConnectionFilter {
  readonly family: Family
  readonly protocol: number
  readonly dst?: string
  readonly dstPort?: number
}

const header = (family: Family): Uint8Array => Uint8Array.of(AF[family], 0, 0, 0)

/**
 * Lists the connections that `filter` describes, and perhaps more: a kernel before 5.8 does not filter, and of IPv6 addresses the
 * kernel (5.8 to 6.18 at least) lists all but the one asked for, so that one is not asked for (ctnetlink_filter_match_tuple reads
 * ipv6_addr_cmp, which is 0 for equal addresses, the wrong way round).
 */
export function dumpConnections({ family, protocol, dst: to, dstPort }: ConnectionFilter): Request {
  const dst = family === 4 ? to : undefined
  const flags = FILTER.PROTO_NUM | (dst === undefined ? 0 : FILTER.IP_DST) | (dstPort === undefined ? 0 : FILTER.PROTO_DST_PORT)
  const address = dst === undefined ? [] : [attr.bytes(CTA_IP[family].DST, parseIp(dst)!.bytes)]
  const port = dstPort === undefined ? [] : [attr.be16(CTA_PROTO.DST_PORT, dstPort)]
  const tuple = attr.nest(
    CTA.TUPLE_ORIG,
    attr.nest(CTA_TUPLE.IP, ...address),
    attr.nest(CTA_TUPLE.PROTO, attr.u8(CTA_PROTO.NUM, protocol), ...port),
  )
  const which = attr.nest(CTA.FILTER, attr.u32(CTA_FILTER_ORIG_FLAGS, flags))
  return { type: CT_GET, flags: 0, body: concat(header(family), tuple, which) }
}

/** Asks how many connections there are: the cheapest question of this subsystem. */
export const statsOfConnections: Request = { type: CT_GET_STATS, flags: 0, body: Uint8Array.of(0, 0, 0, 0) }

const EINVAL = 22
/** False if `answer` is what a kernel without the module nf_conntrack_netlink says to anything of this subsystem. */
export const knowsConnections = (answer: Message): boolean => answer.type !== NLMSG_ERROR || decodeAck(answer).errno !== EINVAL

/** Deletes just this connection; ENOENT if it is gone by now. */
export function deleteConnection({ family, original, id, zone }: Connection): Request {
  const tuple = encodeTuple(CTA.TUPLE_ORIG, family, original)
  const parts = [tuple, attr.be32(CTA.ID, id), ...(zone === 0 ? [] : [attr.be16(CTA.ZONE, zone)])]
  return { type: CT_DELETE, flags: NLM_F_ACK, body: concat(header(family), ...parts) }
}

function encodeTuple(type: number, family: Family, { src, dst, protocol, srcPort, dstPort }: Tuple): Uint8Array {
  return attr.nest(
    type,
    attr.nest(CTA_TUPLE.IP, attr.bytes(CTA_IP[family].SRC, parseIp(src)!.bytes), attr.bytes(CTA_IP[family].DST, parseIp(dst)!.bytes)),
    attr.nest(
      CTA_TUPLE.PROTO,
      attr.u8(CTA_PROTO.NUM, protocol),
      attr.be16(CTA_PROTO.SRC_PORT, srcPort),
      attr.be16(CTA_PROTO.DST_PORT, dstPort),
    ),
  )
}

/** The port that the first packet of a CT_NEW went to, without decoding the rest: a table may hold a hundred thousand. 0 if it has none.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function dstPortOf({ body }: Message): number {
  const port = attributeAt(afterHeader(body, HEADER, 'struct nfgenmsg'), CTA.TUPLE_ORIG, CTA_TUPLE.PROTO, CTA_PROTO.DST_PORT)
  return port ? read.be16(port) : 0
}

/** Decodes a CT_NEW; undefined for a family that is neither IPv4 nor IPv6. @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeConnection({ body }: Message): Connection | undefined {
  const found = attributeMap(afterHeader(body, HEADER, 'struct nfgenmsg'))
  const family = body[0] === AF[4] ? 4 : body[0] === AF[6] ? 6 : undefined
  if (family === undefined) return undefined
  const nothing = new Uint8Array()
  return {
    family,
    original: decodeTuple(found.get(CTA.TUPLE_ORIG) ?? nothing, family),
    reply: decodeTuple(found.get(CTA.TUPLE_REPLY) ?? nothing, family),
    status: read.be32(found.get(CTA.STATUS) ?? new Uint8Array(4)),
    id: read.be32(found.get(CTA.ID) ?? new Uint8Array(4)),
    zone: read.be16(found.get(CTA.ZONE) ?? new Uint8Array(2)),
  }
}

function decodeTuple(bytes: Uint8Array, family: Family): Tuple {
  const parts = attributeMap(bytes)
  const ip = attributeMap(parts.get(CTA_TUPLE.IP) ?? new Uint8Array())
  const proto = attributeMap(parts.get(CTA_TUPLE.PROTO) ?? new Uint8Array())
  const address = (type: number): string => formatIp(ip.get(type) ?? new Uint8Array(family === 4 ? 4 : 16))
  const port = (type: number): number => read.be16(proto.get(type) ?? new Uint8Array(2))
  return {
    src: address(CTA_IP[family].SRC),
    dst: address(CTA_IP[family].DST),
    protocol: read.u8(proto.get(CTA_PROTO.NUM) ?? new Uint8Array(1)),
    srcPort: port(CTA_PROTO.SRC_PORT),
    dstPort: port(CTA_PROTO.DST_PORT),
  }
}
