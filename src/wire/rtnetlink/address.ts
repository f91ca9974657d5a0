/**
 * Interface addresses: RTM_*ADDR. Bytes in, bytes out.
 *
 *     struct ifaddrmsg   u8 family | u8 prefix | u8 flags | u8 scope | u32 index
 *
 * IFA_LOCAL is the address, IFA_ADDRESS the prefix's (the other end's on a point-to-point link). Source: linux/if_addr.h.
 * @module
 */
import { formatIp, parseCidr, parseIp } from '#net/ip.ts'
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
import { AF_UNSPEC, familyOfBytes, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from '#wire/rtnetlink/constants.ts'

const HEADER = 8
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4, FLAGS: 8 } as const
const IFA_F = { TEMPORARY: 0x01, NODAD: 0x02, DEPRECATED: 0x20, PERMANENT: 0x80 } as const
const SCOPES: Readonly<Record<number, 'global' | 'link' | 'host'>> = { 0: 'global', 253: 'link', 254: 'host' }

/** An address on a device. */
export interface Address {
  readonly index: number
  /** With host bits: 10.244.1.1/24. */
  readonly cidr: string
  readonly broadcast?: string
  readonly scope: 'global' | 'link' | 'host'
  /** Not from DHCP or a router advertisement: it has no end of life. */
  readonly permanent: boolean
  readonly temporary: boolean
  readonly deprecated: boolean
}

type AddressKey = Pick<Address, 'index' | 'cidr' | 'broadcast'> & { readonly dad?: boolean }

function body({ index, cidr, broadcast, dad }: AddressKey): Uint8Array {
  const { bytes, prefix, family } = parseCidr(cidr)!
  const header = new Uint8Array(HEADER)
  const view = new DataView(header.buffer)
  view.setUint8(0, familyOfBytes(bytes))
  view.setUint8(1, prefix)
  view.setUint32(4, index, true)
  return concat(
    header,
    attr.bytes(IFA.LOCAL, bytes),
    attr.bytes(IFA.ADDRESS, bytes),
    ...(broadcast === undefined ? [] : [attr.bytes(IFA.BROADCAST, parseIp(broadcast)!.bytes)]),
    // The address allocator is the authority: waiting a second for duplicate detection would only delay the pod.
    ...(family === 6 && !dad ? [attr.u32(IFA.FLAGS, IFA_F.NODAD)] : []),
  )
}

/** Adds an address, scope global, label the device's name; EEXIST if it is there. (NLM_F_REPLACE would not help: the kernel
 * then keeps the old broadcast address.) */
export const newAddress = (address: AddressKey): Request => ({
  type: RTM_NEWADDR,
  flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
  body: body(address),
})

/** Removes an address; EADDRNOTAVAIL if it is not there. */
export const deleteAddress = ({ index, cidr }: AddressKey): Request => ({
  type: RTM_DELADDR,
  flags: NLM_F_ACK,
  body: body({ index, cidr }),
})

/** Lists the addresses of one device, or of all (index 0). */
export function dumpAddresses(index = 0): Request {
  const header = new Uint8Array(HEADER)
  const view = new DataView(header.buffer)
  view.setUint8(0, AF_UNSPEC)
  view.setUint32(4, index, true)
  return { type: RTM_GETADDR, flags: 0, body: header }
}

/** Decodes an RTM_NEWADDR or RTM_DELADDR; undefined if it holds no IP address. @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeAddress({ body }: Message): Address | undefined {
  const found = attributeMap(afterHeader(body, HEADER, 'an address message'))
  const bytes = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS)
  if (!bytes || (bytes.length !== 4 && bytes.length !== 16)) return undefined
  const broadcast = found.get(IFA.BROADCAST)
  const wide = found.get(IFA.FLAGS)
  const flags = wide ? read.u32(wide) : read.u8(body, 2)
  return {
    index: read.u32(body, 4),
    cidr: `${formatIp(bytes)}/${read.u8(body, 1)}`,
    ...(broadcast && { broadcast: formatIp(broadcast) }),
    scope: SCOPES[read.u8(body, 3)] ?? 'global',
    permanent: (flags & IFA_F.PERMANENT) !== 0,
    temporary: bytes.length === 16 && (flags & IFA_F.TEMPORARY) !== 0,
    deprecated: (flags & IFA_F.DEPRECATED) !== 0,
  }
}
