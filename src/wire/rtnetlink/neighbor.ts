/**
 * Neighbor (ARP, NDP) and forwarding (FDB) entries: RTM_*NEIGH. Bytes in, bytes out.
 *
 *     struct ndmsg   u8 family | u8 pad | u16 pad | s32 index | u16 state (NUD_*) | u8 flags (NTF_*) | u8 type
 *
 * An FDB entry is a message of family AF_BRIDGE: NDA_LLADDR is the MAC, NDA_DST the VTEP. Source: linux/neighbour.h.
 * @module
 */
import { formatIp, parseIp } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'
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
import { AF_BRIDGE, AF_UNSPEC, familyOfBytes, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH } from '#wire/rtnetlink/constants.ts'

const HEADER = 12
const NDA = { DST: 1, LLADDR: 2, IFINDEX: 8 } as const
const NUD_PERMANENT = 0x80
const NTF_SELF = 0x02
const RTN_UNICAST = 1

/** An entry of a device's neighbor table or, with `fdb`, of its forwarding table. */
export interface Neighbor {
  readonly fdb: boolean
  readonly index: number
  readonly permanent: boolean
  /** FDB: in the device's own table (VXLAN), not in its bridge's. */
  readonly self: boolean
  /** The neighbor's address; of an FDB entry the VTEP, absent in entries that lead nowhere. */
  readonly ip?: string
  /** Absent while unresolved. */
  readonly mac?: string
}

type Entry = { readonly index: number; readonly ip: string; readonly mac: string }

function header(family: number, index: number, state: number, flags: number, type: number): Uint8Array {
  const bytes = new Uint8Array(HEADER)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, family)
  view.setInt32(4, index, true)
  view.setUint16(8, state, true)
  view.setUint8(10, flags)
  view.setUint8(11, type)
  return bytes
}

const both = ({ ip, mac }: Entry): Uint8Array[] => [attr.bytes(NDA.DST, parseIp(ip)!.bytes), attr.bytes(NDA.LLADDR, parseMac(mac)!)]
const REPLACE = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE

/** Makes a permanent neighbor entry, in place of any for the same address. */
export function replaceNeighbor(entry: Entry): Request {
  const family = familyOfBytes(parseIp(entry.ip)!.bytes)
  return { type: RTM_NEWNEIGH, flags: REPLACE, body: concat(header(family, entry.index, NUD_PERMANENT, 0, RTN_UNICAST), ...both(entry)) }
}

/** Removes a neighbor entry; ENOENT if it is not there. */
export function deleteNeighbor({ index, ip }: Omit<Entry, 'mac'>): Request {
  const { bytes } = parseIp(ip)!
  return { type: RTM_DELNEIGH, flags: NLM_F_ACK, body: concat(header(familyOfBytes(bytes), index, 0, 0, 0), attr.bytes(NDA.DST, bytes)) }
}

/** Makes a permanent entry in a VXLAN device's own table: frames to `mac` go to the VTEP `ip`, and to no other. */
export function replaceFdb(entry: Entry): Request {
  return { type: RTM_NEWNEIGH, flags: REPLACE, body: concat(header(AF_BRIDGE, entry.index, NUD_PERMANENT, NTF_SELF, 0), ...both(entry)) }
}

/** Removes a MAC from a VXLAN device's table, whatever VTEP it leads to; ENOENT if it is not there. */
export function deleteFdb({ index, mac }: Omit<Entry, 'ip'>): Request {
  const body = concat(header(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0), attr.bytes(NDA.LLADDR, parseMac(mac)!))
  return { type: RTM_DELNEIGH, flags: NLM_F_ACK, body }
}

/** Lists the neighbor entries of one device, both families. */
export const dumpNeighbors = (index: number): Request => ({
  type: RTM_GETNEIGH,
  flags: 0,
  body: concat(header(AF_UNSPEC, 0, 0, 0, 0), attr.u32(NDA.IFINDEX, index)),
})

/** Lists the forwarding entries of one device. */
export const dumpFdb = (index: number): Request => ({ type: RTM_GETNEIGH, flags: 0, body: header(AF_BRIDGE, index, 0, 0, 0) })

/** Decodes an RTM_NEWNEIGH or RTM_DELNEIGH. @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeNeighbor({ body }: Message): Neighbor {
  const found = attributeMap(afterHeader(body, HEADER, 'a neighbor message'))
  const ip = found.get(NDA.DST)
  const mac = found.get(NDA.LLADDR)
  return {
    fdb: read.u8(body) === AF_BRIDGE,
    index: read.s32(body, 4),
    permanent: (read.u16(body, 8) & NUD_PERMANENT) !== 0,
    self: (read.u8(body, 10) & NTF_SELF) !== 0,
    ...(ip && (ip.length === 4 || ip.length === 16) && { ip: formatIp(ip) }),
    ...(mac?.length === 6 && { mac: formatMac(mac) }),
  }
}
