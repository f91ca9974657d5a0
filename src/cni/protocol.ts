/**
 * The words between the shim (shim/twill-cni.c) and the agent, on a unix stream socket. One request, errands if the agent has
 * any, one answer, close.
 *
 *     "TWILLCNI" | u32 protocol | u32 code | u32 length | length bytes          integers in network order
 *
 * Request: code 0; the bytes are NUL-terminated texts `NAME=value` (PLUGIN, then every CNI_* variable), an empty text, then
 * stdin as it came. Answer: code is the exit status, the bytes go to stdout. Errand: code 256, either
 * way; the bytes are steps to carry out and what came of them (src/wire/errand.ts). At most 1 MiB either way. A request that is
 * closed before its answer has no one waiting any more: its ADD is undone. Files in the delete queue are requests.
 *
 * The 20-byte header never changes; `protocol` does with the meaning of the rest, and either side refuses another number.
 * @module
 */
import type { CniAnswer } from '#model/pod.ts'

export const PROTOCOL = 3
export const HEADER_BYTES = 20
export const MAX_FRAME_BYTES = 1 << 20
const CODE_ERRAND = 256
const MAGIC = Buffer.from('TWILLCNI')

/** What one call of the shim hands over, not yet judged. */
export interface RawRequest {
  /** PLUGIN and CNI_*, as they came. */
  readonly env: ReadonlyMap<string, string>
  readonly config: string
}

/** The length of the whole frame that starts `bytes`, or what is wrong with it; undefined while the header is incomplete. */
export function frameLength(bytes: Buffer): { length: number } | { problem: string } | undefined {
  const magic = bytes.subarray(0, Math.min(bytes.length, MAGIC.length))
  if (!magic.equals(MAGIC.subarray(0, magic.length))) return { problem: 'this is no request of a Twill CNI plugin' }
  if (bytes.length < HEADER_BYTES) return undefined
  const protocol = bytes.readUInt32BE(8)
  if (protocol !== PROTOCOL) {
    return {
      problem: `the CNI plugin speaks protocol ${protocol}, this agent ${PROTOCOL}: restart the agent, which installs its own plugins`,
    }
  }
  const length = HEADER_BYTES + bytes.readUInt32BE(16)
  return length > MAX_FRAME_BYTES ? { problem: `the request has ${length} bytes, allowed are ${MAX_FRAME_BYTES}` } : { length }
}

/** The request in a whole frame, or undefined if its environment has no end. */
export function decodeRequest(frame: Buffer): RawRequest | undefined {
  const env = new Map<string, string>()
  for (let at = HEADER_BYTES; ; ) {
    const end = frame.indexOf(0, at)
    if (end < 0) return undefined
    if (end === at) return { env, config: frame.toString('utf8', end + 1) }
    const text = frame.toString('utf8', at, end)
    const equals = text.indexOf('=')
    if (equals > 0) env.set(text.slice(0, equals), text.slice(equals + 1))
    at = end + 1
  }
}

/** A request as the shim sends it: for tests. */
export function encodeRequest(request: RawRequest): Buffer {
  const env = [...request.env].map(([name, value]) => `${name}=${value}\0`).join('')
  return frame(0, Buffer.from(`${env}\0${request.config}`))
}

export const encodeAnswer = (answer: CniAnswer): Buffer => frame(answer.exit, Buffer.from(answer.stdout))

/** An errand, or (for tests) its report. */
export const encodeErrand = (program: Uint8Array): Buffer => frame(CODE_ERRAND, program)

function frame(code: number, body: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32BE(PROTOCOL, 8)
  header.writeUInt32BE(code, 12)
  header.writeUInt32BE(body.length, 16)
  return Buffer.concat([header, body])
}
