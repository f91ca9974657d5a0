/**
 * SPDY/3.1 at the server's end, as far as `kubectl port-forward` speaks it: streams with headers, data, their ends, and pings.
 *
 *     control frame   1 | version 15 bits | type 16 bits | flags 8 bits | length 24 bits | payload
 *     data frame      0 | stream 31 bits                 | flags 8 bits | length 24 bits | payload
 * Headers are one zlib stream a direction, flushed after each block, with a preset dictionary; inside, big-endian u32 counts and lengths.
 * Flow control is left out on both sides, as the Go library that kubectl uses leaves it out. Source: SPDY Protocol, draft 3.1.
 * @module
 */
import { Duplex } from 'node:stream'
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib'

export const type = { synStream: 1, synReply: 2, rstStream: 3, settings: 4, ping: 6, goAway: 7, headers: 8, windowUpdate: 9 } as const
const fin = 1
const protocolError = 1

/** What the dictionary has with a length in front of each word, and its unbroken end (section 2.6.10.1). */
const words =
  'options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|authorization|' +
  'cache-control|connection|content-base|content-encoding|content-language|content-length|content-location|content-md5|content-range|' +
  'content-type|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|' +
  'location|max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|' +
  'upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin'
const tail =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information' +
  '204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error' +
  '501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, ' +
  'Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public' +
  'privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.'
export const dictionary: Buffer = Buffer.concat([...words.split('|').map((word) => lengthFirst(word)), Buffer.from(tail)])

function lengthFirst(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u32(bytes.length), bytes])
}

function u32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i)
  return bytes
}

export interface Frame {
  /** Type of a control frame; undefined for data. */
  readonly type: number | undefined
  /** Of a data frame. */
  readonly stream: number
  readonly flags: number
  readonly payload: Buffer
}

/** Cuts whole frames from the front of `bytes`; the rest is a frame that is still to come. */
export function cutFrames(bytes: Buffer): { frames: Frame[]; rest: Buffer } {
  const frames: Frame[] = []
  let at = 0
  while (bytes.length - at >= 8) {
    const length = bytes.readUIntBE(at + 5, 3)
    if (bytes.length - at < 8 + length) break
    const head = bytes.readUInt32BE(at)
    const control = head >>> 31 === 1
    const payload = bytes.subarray(at + 8, at + 8 + length)
    frames.push({ type: control ? head & 0xffff : undefined, stream: control ? 0 : head, flags: bytes[at + 4]!, payload })
    at += 8 + length
  }
  return { frames, rest: bytes.subarray(at) }
}

export const dataFrame = (stream: number, payload: Buffer, flags = 0): Buffer =>
  Buffer.concat([u32(stream, flags * 0x1000000 + payload.length), payload])

export const controlFrame = (kind: number, payload: Buffer, flags = 0): Buffer =>
  Buffer.concat([u32(0x80030000 + kind, flags * 0x1000000 + payload.length), payload])

/** A header block, not compressed. */
export const packHeaders = (headers: ReadonlyMap<string, string>): Buffer =>
  Buffer.concat([u32(headers.size), ...[...headers].flatMap(([name, value]) => [lengthFirst(name), lengthFirst(value)])])

/** @throws {RangeError} if a length runs past the end. */
export function unpackHeaders(block: Buffer): Map<string, string> {
  let at = 0
  const number = (): number => {
    at += 4
    return block.readUInt32BE(at - 4)
  }
  const text = (): string => {
    const length = number()
    if (length > block.length - at) throw new RangeError(`a header of ${length} bytes in the last ${block.length - at} of its block`)
    at += length
    return block.toString('utf8', at - length, at)
  }
  return new Map(Array.from({ length: Math.min(number(), block.length) }, () => [text(), text()]))
}

/** One direction of headers: its zlib state lives as long as the connection. */
export class HeaderCodec {
  readonly #inflate: Inflate = createInflate({ dictionary })
  readonly #deflate: Deflate = createDeflate({ dictionary, flush: constants.Z_SYNC_FLUSH })

  unpack(block: Buffer): Promise<Map<string, string>> {
    return through(this.#inflate, block).then(unpackHeaders)
  }

  pack(headers: ReadonlyMap<string, string>): Promise<Buffer> {
    return through(this.#deflate, packHeaders(headers))
  }
}

/** What zlib makes of one block, all of it. */
function through(codec: Inflate | Deflate, block: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    codec.once('error', reject)
    codec.write(block, () => {
      codec.off('error', reject)
      resolve((codec.read() as Buffer | null) ?? Buffer.alloc(0))
    })
  })
}

export interface SpdyStream {
  readonly headers: ReadonlyMap<string, string>
  /** Both directions; each side ends its own. */
  readonly bytes: Duplex
}

/** The server's end of one connection. Feed it what arrives, in any pieces. */
export class SpdyServer {
  readonly #streams = new Map<number, Duplex>()
  readonly #headers = new HeaderCodec()
  readonly #send: (bytes: Buffer, sent?: (error?: Error | null) => void) => void
  readonly #onStream: (stream: SpdyStream) => void
  #rest: Buffer = Buffer.alloc(0)
  #turn: Promise<void> = Promise.resolve()

  constructor(send: (bytes: Buffer, sent?: (error?: Error | null) => void) => void, onStream: (stream: SpdyStream) => void) {
    this.#send = send
    this.#onStream = onStream
  }

  /** Resolves when all that came so far is dealt with. @throws {Error} if the other side does not keep to the protocol. */
  feed(bytes: Buffer): Promise<void> {
    const { frames, rest } = cutFrames(Buffer.concat([this.#rest, bytes]))
    this.#rest = rest
    for (const frame of frames) this.#turn = this.#turn.then(() => this.#take(frame))
    return this.#turn
  }

  close(): void {
    for (const bytes of this.#streams.values()) bytes.destroy()
  }

  async #take({ type: kind, stream, flags, payload }: Frame): Promise<void> {
    if (kind === undefined) this.#data(stream, flags, payload)
    else if (kind === type.synStream) await this.#open(payload, flags)
    else if (kind === type.rstStream) this.#streams.get(payload.readUInt32BE(0))?.destroy()
    else if (kind === type.ping) this.#send(controlFrame(type.ping, payload))
    else if (kind === type.goAway) this.close()
    // Settings, window updates and late headers change nothing here.
  }

  #data(id: number, flags: number, payload: Buffer): void {
    const bytes = this.#streams.get(id)
    if (!bytes) return // it was reset, and this was on its way
    if (payload.length > 0) bytes.push(payload)
    if ((flags & fin) !== 0) bytes.push(null)
  }

  async #open(payload: Buffer, flags: number): Promise<void> {
    const id = payload.readUInt32BE(0)
    if (this.#streams.has(id)) return this.#send(controlFrame(type.rstStream, u32(id, protocolError)))
    const headers = await this.#headers.unpack(payload.subarray(10))
    const bytes = new Duplex({
      read() {},
      write: (chunk: Buffer, _, done) => this.#send(dataFrame(id, chunk), done),
      final: (done) => this.#send(dataFrame(id, Buffer.alloc(0), fin), done),
    })
    this.#streams.set(id, bytes)
    bytes.on('error', () => {}).once('close', () => this.#streams.delete(id))
    if ((flags & fin) !== 0) bytes.push(null)
    this.#send(controlFrame(type.synReply, Buffer.concat([u32(id), await this.#headers.pack(new Map())])))
    this.#onStream({ headers, bytes })
  }
}
