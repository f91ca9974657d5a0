/**
 * Netlink: messages and attributes. Bytes in, bytes out, no socket.
 *
 *     message     u32 length | u16 type | u16 flags | u32 sequence | u32 port id | body | padding to 4
 *     attribute   u16 length | u16 type | payload | padding to 4
 *
 * A length counts its own header and the payload, never the padding. Integers are in host order (little endian on both
 * machines that Twill is built for); addresses, and all of nf_tables, are in network order: that is what `be*` is for.
 * Source: linux/netlink.h (struct nlmsghdr, struct nlattr, struct nlmsgerr).
 * @module
 */
import { wireError } from '#wire/errors.ts'

export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

const NLM_F_REQUEST = 0x001
export const NLM_F_ACK = 0x004
export const NLM_F_ECHO = 0x008
export const NLM_F_DUMP_INTR = 0x010
/** NEW: replace what is there. */
export const NLM_F_REPLACE = 0x100
/** NEW: fail with EEXIST if it is there. */
export const NLM_F_EXCL = 0x200
/** NEW: create what is not there. */
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
/** GET: every object (NLM_F_ROOT | NLM_F_MATCH). */
export const NLM_F_DUMP = 0x300
/** On NLMSG_ERROR: the request's payload is not echoed / attributes of struct nlmsgerr follow. */
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

const NLA_F_NESTED = 0x8000
/** Type bits of an attribute without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
const NLA_TYPE_MASK = 0x3fff

const MESSAGE_HEADER = 16
const ATTRIBUTE_HEADER = 4
const align = (length: number): number => (length + 3) & ~3

/** A message to send. Sequence number and port id are the socket's business. */
export interface Request {
  readonly type: number
  /** NLM_F_*; NLM_F_REQUEST is always added. */
  readonly flags: number
  /** The fixed header of the type, then attributes. */
  readonly body: Uint8Array
}

/** A message received. `body` is a view into the bytes it came in. */
export interface Message {
  readonly type: number
  readonly flags: number
  readonly seq: number
  /** Port id: in a notification, of the socket whose request caused the change (0: the kernel itself). */
  readonly pid: number
  readonly body: Uint8Array
}

export interface Attribute {
  /** Without its flag bits. */
  readonly type: number
  /** A view, without header and padding. */
  readonly payload: Uint8Array
}

/** `requests` back to back as one send takes them; request i gets the sequence number `firstSeq + i` (modulo 2^32). */
export function encodeRequests(requests: readonly Request[], firstSeq: number): Uint8Array {
  const bytes = new Uint8Array(requests.reduce((sum, { body }) => sum + align(MESSAGE_HEADER + body.length), 0))
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [i, { type, flags, body }] of requests.entries()) {
    view.setUint32(at, MESSAGE_HEADER + body.length, true)
    view.setUint16(at + 4, type, true)
    view.setUint16(at + 6, flags | NLM_F_REQUEST, true)
    view.setUint32(at + 8, (firstSeq + i) >>> 0, true)
    bytes.set(body, at + MESSAGE_HEADER)
    at += align(MESSAGE_HEADER + body.length)
  }
  return bytes
}

/** Splits what one recv gave into messages.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED if a length is under 16 or runs past the end. */
export function decodeMessages(bytes: Uint8Array): Message[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const out: Message[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.length - at < MESSAGE_HEADER ? 0 : view.getUint32(at, true)
    if (length < MESSAGE_HEADER || at + length > bytes.length) {
      throw wireError.ERR_MESSAGE_TRUNCATED({
        what: 'a netlink message',
        offset: at,
        need: Math.max(length, MESSAGE_HEADER),
        have: bytes.length - at,
      })
    }
    out.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      seq: view.getUint32(at + 8, true),
      pid: view.getUint32(at + 12, true),
      body: bytes.subarray(at + MESSAGE_HEADER, at + length),
    })
    at += align(length)
  }
  return out
}

/** Splits `bytes` into attributes, in wire order; nothing is copied.
 * @param bytes  Attributes back to back, as they follow the fixed header of a message or fill a nest.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED if a length is under 4 or runs past the end. */
export function decodeAttributes(bytes: Uint8Array): Attribute[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const out: Attribute[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.length - at < ATTRIBUTE_HEADER ? 0 : view.getUint16(at, true)
    if (length < ATTRIBUTE_HEADER || at + length > bytes.length) {
      const need = Math.max(length, ATTRIBUTE_HEADER)
      throw wireError.ERR_MESSAGE_TRUNCATED({ what: 'a netlink attribute', offset: at, need, have: bytes.length - at })
    }
    out.push({ type: view.getUint16(at + 2, true) & NLA_TYPE_MASK, payload: bytes.subarray(at + ATTRIBUTE_HEADER, at + length) })
    at += align(length)
  }
  return out
}

/** Attributes by type, for lookup; of a repeated type the last one counts, as in the kernel's nla_parse. */
export function attributeMap(bytes: Uint8Array): ReadonlyMap<number, Uint8Array> {
  return new Map(decodeAttributes(bytes).map(({ type, payload }) => [type, payload]))
}

/** The payload of the first attribute of the type `path` ends in, nest by nest; undefined if there is none. For looking at one value
 * of very many messages: `attributeMap` builds a map of each.
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED if a length on the way is under 4 or runs past the end. */
export function attributeAt(bytes: Uint8Array, ...path: readonly number[]): Uint8Array | undefined {
  let from = 0
  let end = bytes.length
  for (const type of path) {
    let at = from
    for (;;) {
      if (at >= end) return undefined
      const length = end - at < ATTRIBUTE_HEADER ? 0 : bytes[at]! | (bytes[at + 1]! << 8)
      if (length < ATTRIBUTE_HEADER || at + length > end) {
        const need = Math.max(length, ATTRIBUTE_HEADER)
        throw wireError.ERR_MESSAGE_TRUNCATED({ what: 'a netlink attribute', offset: at, need, have: end - at })
      }
      if (((bytes[at + 2]! | (bytes[at + 3]! << 8)) & NLA_TYPE_MASK) === type) {
        from = at + ATTRIBUTE_HEADER
        end = at + length
        break
      }
      at += align(length)
    }
  }
  return bytes.subarray(from, end)
}

/** The body after a fixed header of `length` bytes (aligned to 4, as attributes start).
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED if `body` is shorter than the header. */
export function afterHeader(body: Uint8Array, length: number, what: string): Uint8Array {
  if (body.length < length) throw wireError.ERR_MESSAGE_TRUNCATED({ what, offset: 0, need: length, have: body.length })
  return body.subarray(align(length))
}

/** Bytes back to back. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Room for an attribute of `length` payload bytes, header written, padding zero; the payload starts at byte 4. */
function attribute(type: number, length: number): { bytes: Uint8Array; view: DataView } {
  const total = ATTRIBUTE_HEADER + length
  if (total > 0xffff)
    throw wireError.ERR_FIELD_TOO_LONG({ what: `netlink attribute ${type & NLA_TYPE_MASK}`, length, max: 0xffff - ATTRIBUTE_HEADER })
  const bytes = new Uint8Array(align(total))
  const view = new DataView(bytes.buffer)
  view.setUint16(0, total, true)
  view.setUint16(2, type, true)
  return { bytes, view }
}

/** Encoders: one attribute each, header and padding included, ready to be put into `concat` or a nest. */
export const attr = {
  u8: (type: number, value: number): Uint8Array => {
    const { bytes, view } = attribute(type, 1)
    view.setUint8(4, value)
    return bytes
  },
  u16: (type: number, value: number): Uint8Array => {
    const { bytes, view } = attribute(type, 2)
    view.setUint16(4, value, true)
    return bytes
  },
  u32: (type: number, value: number): Uint8Array => {
    const { bytes, view } = attribute(type, 4)
    view.setUint32(4, value, true)
    return bytes
  },
  be16: (type: number, value: number): Uint8Array => {
    const { bytes, view } = attribute(type, 2)
    view.setUint16(4, value)
    return bytes
  },
  be32: (type: number, value: number): Uint8Array => {
    const { bytes, view } = attribute(type, 4)
    view.setUint32(4, value)
    return bytes
  },
  be64: (type: number, value: bigint): Uint8Array => {
    const { bytes, view } = attribute(type, 8)
    view.setBigUint64(4, value)
    return bytes
  },
  /** A NUL-terminated string, as the kernel's NLA_NUL_STRING wants it. */
  string: (type: number, value: string): Uint8Array => {
    const text = new TextEncoder().encode(value)
    const { bytes } = attribute(type, text.length + 1)
    bytes.set(text, ATTRIBUTE_HEADER)
    return bytes
  },
  bytes: (type: number, value: Uint8Array): Uint8Array => {
    const { bytes } = attribute(type, value.length)
    bytes.set(value, ATTRIBUTE_HEADER)
    return bytes
  },
  /** Present or absent is all it says. */
  flag: (type: number): Uint8Array => attribute(type, 0).bytes,
  nest: (type: number, ...inner: readonly Uint8Array[]): Uint8Array => attr.bytes(type | NLA_F_NESTED, concat(...inner)),
}

const viewOf = (payload: Uint8Array, need: number): DataView => {
  if (payload.length < need) throw wireError.ERR_MESSAGE_TRUNCATED({ what: 'a netlink integer', offset: 0, need, have: payload.length })
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
}

/** Decoders of a payload (or of a fixed header, at an offset).
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED if it is too short. */
export const read = {
  u8: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 1).getUint8(at),
  u16: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 2).getUint16(at, true),
  u32: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 4).getUint32(at, true),
  s32: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 4).getInt32(at, true),
  be16: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 2).getUint16(at),
  be32: (payload: Uint8Array, at = 0): number => viewOf(payload, at + 4).getUint32(at),
  be64: (payload: Uint8Array, at = 0): bigint => viewOf(payload, at + 8).getBigUint64(at),
  /** Up to the first NUL, or all of it. */
  string: (payload: Uint8Array): string => {
    const end = payload.indexOf(0)
    return new TextDecoder().decode(end < 0 ? payload : payload.subarray(0, end))
  },
}

/** What an NLMSG_ERROR says: success (`errno` 0, an ack) or failure, with the kernel's extended ACK. */
export interface Ack {
  /** Positive: 17 is EEXIST. */
  readonly errno: number
  /** NLMSGERR_ATTR_MSG: the kernel's own words. */
  readonly message?: string
  /** NLMSGERR_ATTR_OFFS: where in the request, counted from its netlink header, the offending attribute begins. */
  readonly offset?: number
}

const NLMSGERR_ATTR_MSG = 1
const NLMSGERR_ATTR_OFFS = 2

/** Decodes the body of an NLMSG_ERROR, or of an NLMSG_DONE (whose payload is an error number alone).
 * @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeAck({ type, flags, body }: Message): Ack {
  const errno = 0 - read.s32(body)
  if (!(flags & NLM_F_ACK_TLVS)) return { errno }
  // struct nlmsgerr: s32 error | the request's header | its payload, unless capped | attributes. DONE carries no request.
  const echoed = type === NLMSG_ERROR ? (flags & NLM_F_CAPPED ? MESSAGE_HEADER : align(read.u32(body, 4))) : 0
  const found = attributeMap(afterHeader(body, 4 + echoed, 'an extended ACK'))
  const message = found.get(NLMSGERR_ATTR_MSG)
  const offset = found.get(NLMSGERR_ATTR_OFFS)
  return { errno, ...(message && { message: read.string(message) }), ...(offset && { offset: read.u32(offset) }) }
}
