/**
 * What the agent asks the CNI shim to do while a runtime waits for it: steps, and what came of each. Carried out by
 * shim/errand.h and shim/exec.h, which say what each kind does.
 *
 *     program   steps: u8 kind | u8 in pod | u16 patches | u32 length | patches × u32 offset | bytes
 *     report    of each step done: u32 errno | u32 length | bytes; ends after the first that failed
 *
 * Integers in network order.
 * @module
 */
import { concat } from '#wire/netlink.ts'

export const STEP = { home: 1, netns: 2, netlink: 3, enter: 4, index: 5, sysctl: 6, exec: 7 } as const

export interface Step {
  readonly kind: (typeof STEP)[keyof typeof STEP]
  readonly bytes: Uint8Array
  /** Of messages: they go to the pod's namespace. */
  readonly inPod?: boolean
  /** Where in `bytes` the shim writes what it alone knows. */
  readonly patches?: readonly number[]
}

/** What came of one step. */
export interface Done {
  /** 0: it was done. */
  readonly errno: number
  readonly bytes: Uint8Array
}

const STEP_HEADER = 8
const DONE_HEADER = 8

export const encodeProgram = (steps: readonly Step[]): Uint8Array => concat(...steps.map(encodeStep))

function encodeStep({ kind, inPod, bytes, patches = [] }: Step): Uint8Array {
  const head = Buffer.alloc(STEP_HEADER)
  head.writeUInt8(kind, 0)
  head.writeUInt8(inPod ? 1 : 0, 1)
  head.writeUInt16BE(patches.length, 2)
  head.writeUInt32BE(bytes.length, 4)
  return concat(head, ...patches.map(be32), bytes)
}

/** Undefined if the report is torn. */
export function decodeReport(report: Uint8Array): Done[] | undefined {
  const view = new DataView(report.buffer, report.byteOffset, report.byteLength)
  const done: Done[] = []
  for (let at = 0; at < report.length; ) {
    if (report.length - at < DONE_HEADER) return undefined
    const length = view.getUint32(at + 4)
    const end = at + DONE_HEADER + length
    if (end > report.length) return undefined
    done.push({ errno: view.getUint32(at), bytes: report.subarray(at + DONE_HEADER, end) })
    at = end
  }
  return done
}

export function be32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
