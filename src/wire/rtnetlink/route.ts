/**
 * Routes of the main table: RTM_*ROUTE. Bytes in, bytes out.
 *
 *     struct rtmsg       u8 family | u8 dst length | u8 src length | u8 tos | u8 table | u8 protocol | u8 scope | u8 type | u32 flags
 *     struct rtnexthop   u16 length | u8 flags | u8 weight - 1 | s32 index | attributes          (in RTA_MULTIPATH)
 *
 * Source: linux/rtnetlink.h; net/ipv4/fib_frontend.c and net/ipv6/route.c for what identifies a route.
 * @module
 */
import { formatIp, parseCidr, parseIp } from '#net/ip.ts'
import { wireError } from '#wire/errors.ts'
import {
  afterHeader,
  attr,
  attributeMap,
  concat,
  type Message,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  type Request,
  read,
} from '#wire/netlink.ts'
import { AF_INET, AF_INET6, familyOfBytes, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE } from '#wire/rtnetlink/constants.ts'

const HEADER = 12
const NEXTHOP = 8
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, MULTIPATH: 9, TABLE: 15 } as const
export const RT_TABLE_MAIN = 254
const RT_SCOPE = { UNIVERSE: 0, LINK: 253, NOWHERE: 255 } as const
const RTN = { UNSPEC: 0, UNICAST: 1, BLACKHOLE: 6 } as const
const RTNH_F_ONLINK = 4
/** Cache entries (IPv6 exceptions) are no routes of anyone. */
const RTM_F_CLONED = 0x200

/** A route as the kernel describes it. */
export interface Route {
  /** Masked CIDR; 0.0.0.0/0 or ::/0 is the default route. */
  readonly dst: string
  readonly table: number
  /** rtm_protocol: 2 is the kernel itself. */
  readonly protocol: number
  readonly scopeLink: boolean
  /** rtm_type as a word; 'other' is nothing that Twill makes. */
  readonly type: 'unicast' | 'blackhole' | 'other'
  readonly onlink: boolean
  readonly cloned: boolean
  /** Absent means 0. An IPv6 route without a wish gets 1024. */
  readonly metric: number
  /** One, or several of a multipath route; none of a blackhole (IPv6 puts lo there). */
  readonly hops: readonly { readonly index: number; readonly via?: string }[]
  readonly src?: string
}

/** A route to make or remove. */
export interface RouteKey {
  readonly dst: string
  readonly protocol: number
  readonly index?: number | undefined
  readonly via?: string | undefined
  readonly onlink?: boolean | undefined
  readonly scope?: 'link' | 'global' | undefined
  readonly type?: 'unicast' | 'blackhole' | undefined
  readonly metric?: number | undefined
}

function body(route: RouteKey, scope: number, type: number): Uint8Array {
  const { bytes, prefix } = parseCidr(route.dst)!
  const header = Uint8Array.of(
    familyOfBytes(bytes),
    prefix,
    0,
    0,
    RT_TABLE_MAIN,
    route.protocol,
    scope,
    type,
    route.onlink ? RTNH_F_ONLINK : 0,
    0,
    0,
    0,
  )
  return concat(
    header,
    attr.bytes(RTA.DST, bytes),
    ...(route.via === undefined ? [] : [attr.bytes(RTA.GATEWAY, parseIp(route.via)!.bytes)]),
    ...(route.index === undefined ? [] : [attr.u32(RTA.OIF, route.index)]),
    ...(route.metric === undefined ? [] : [attr.u32(RTA.PRIORITY, route.metric)]),
  )
}

/** Makes the route, in place of any other to the same destination with the same metric: no packet in between is lost. */
export function replaceRoute(route: RouteKey): Request {
  const scope = route.scope === 'link' ? RT_SCOPE.LINK : RT_SCOPE.UNIVERSE
  const type = route.type === 'blackhole' ? RTN.BLACKHOLE : RTN.UNICAST
  return { type: RTM_NEWROUTE, flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body: body(route, scope, type) }
}

/** Removes just this route (destination, protocol; gateway, device and metric if given), of any scope; ESRCH if it is not there. */
export function deleteRoute(route: RouteKey): Request {
  return { type: RTM_DELROUTE, flags: NLM_F_ACK, body: body({ ...route, onlink: false }, RT_SCOPE.NOWHERE, RTN.UNSPEC) }
}

/** Lists the main table of one family. */
export function dumpRoutes(family: 4 | 6): Request {
  const header = new Uint8Array(HEADER)
  header[0] = family === 4 ? AF_INET : AF_INET6
  header[4] = RT_TABLE_MAIN
  return { type: RTM_GETROUTE, flags: 0, body: concat(header, attr.u32(RTA.TABLE, RT_TABLE_MAIN)) }
}

/** Asks which route a packet to `ip` would take: the reply is an RTM_NEWROUTE. */
export function lookupRoute(ip: string): Request {
  const { bytes } = parseIp(ip)!
  const header = new Uint8Array(HEADER)
  header[0] = familyOfBytes(bytes)
  header[1] = bytes.length * 8
  return { type: RTM_GETROUTE, flags: NLM_F_ACK, body: concat(header, attr.bytes(RTA.DST, bytes)) }
}

/** Decodes an RTM_NEWROUTE or RTM_DELROUTE; undefined for families other than IPv4 and IPv6.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeRoute({ body }: Message): Route | undefined {
  const found = attributeMap(afterHeader(body, HEADER, 'a route message'))
  const family = read.u8(body)
  if (family !== AF_INET && family !== AF_INET6) return undefined
  const number = (type: number): number | undefined => {
    const payload = found.get(type)
    return payload && read.u32(payload)
  }
  const type = read.u8(body, 7)
  const flags = read.u32(body, 8)
  const via = found.get(RTA.GATEWAY)
  const index = number(RTA.OIF)
  const src = found.get(RTA.PREFSRC)
  const multipath = found.get(RTA.MULTIPATH)
  const single = index === undefined ? [] : [{ index, ...(via && { via: formatIp(via) }) }]
  return {
    dst: `${formatIp(found.get(RTA.DST) ?? new Uint8Array(family === AF_INET ? 4 : 16))}/${read.u8(body, 1)}`,
    table: number(RTA.TABLE) ?? read.u8(body, 4),
    protocol: read.u8(body, 5),
    scopeLink: read.u8(body, 6) === RT_SCOPE.LINK,
    type: type === RTN.UNICAST ? 'unicast' : type === RTN.BLACKHOLE ? 'blackhole' : 'other',
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    cloned: (flags & RTM_F_CLONED) !== 0,
    metric: number(RTA.PRIORITY) ?? 0,
    hops: multipath ? decodeHops(multipath) : single,
    ...(src && { src: formatIp(src) }),
  }
}

function decodeHops(bytes: Uint8Array): { index: number; via?: string }[] {
  const out: { index: number; via?: string }[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.length - at < NEXTHOP ? 0 : read.u16(bytes, at)
    if (length < NEXTHOP || at + length > bytes.length) {
      throw wireError.ERR_MESSAGE_TRUNCATED({ what: 'a next hop', offset: at, need: Math.max(length, NEXTHOP), have: bytes.length - at })
    }
    const via = attributeMap(bytes.subarray(at + NEXTHOP, at + length)).get(RTA.GATEWAY)
    out.push({ index: read.s32(bytes, at + 4), ...(via && { via: formatIp(via) }) })
    at += (length + 3) & ~3
  }
  return out
}
