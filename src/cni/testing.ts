/** A plugin for tests: asks the agent as the shim does, on the same socket. @module */
import { connect } from 'node:net'
import { encodeErrand, HEADER_BYTES } from '#cni/protocol.ts'

export interface AgentAnswer {
  readonly protocol: number
  readonly exit: number
  readonly text: string
  /** The programs of the errands that the agent asked for. */
  readonly errands: readonly Buffer[]
}

const CODE_ERRAND = 256

/** Sends one frame and waits for the answer. Errands are answered with `report`, by default that nothing was done: then the
 * agent does it itself. */
export function askAgent(
  socketPath: string,
  frame: Buffer,
  report: (program: Buffer) => Uint8Array = () => Buffer.alloc(0),
): Promise<AgentAnswer> {
  return new Promise((resolve, reject) => {
    const errands: Buffer[] = []
    let unread: Buffer = Buffer.alloc(0)
    const socket = connect(socketPath, () => socket.write(frame))
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`the agent closed the connection after ${unread.length} bytes of an answer`)))
    socket.on('data', (part: Buffer) => {
      unread = Buffer.concat([unread, part])
      const length = unread.length < HEADER_BYTES ? Number.POSITIVE_INFINITY : HEADER_BYTES + unread.readUInt32BE(16)
      if (unread.length < length) return
      const [protocol, code, body] = [unread.readUInt32BE(8), unread.readUInt32BE(12), unread.subarray(HEADER_BYTES, length)]
      unread = unread.subarray(length)
      if (code !== CODE_ERRAND) return resolve({ protocol, exit: code, text: body.toString(), errands })
      errands.push(body)
      socket.write(encodeErrand(report(body)))
    })
  })
}
