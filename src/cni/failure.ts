/**
 * Failures as CNI has them: a number that runtimes act on, a message that ends in a pod's events, details.
 * Codes: SPEC.md of containernetworking/cni, "Error"; 999 is what its Go library gives anything without a code.
 * @module
 */
import { messageOf, TwillError } from '#base/errors.ts'
import { goJson } from '#cni/json.ts'
import type { CniAnswer } from '#model/pod.ts'

export const cniCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decoding: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  notAvailable: 50,
  generic: 999,
} as const

export class CniError extends Error {
  readonly code: number
  readonly details: string | undefined
  constructor(code: number, message: string, details?: string) {
    super(message)
    this.name = 'CniError'
    this.code = code
    this.details = details
  }
}

/** A key that the reference plugins know and this agent does not serve yet. CNI wants name and value in the message. */
export const unsupported = (key: string, value: unknown, instead: string): CniError =>
  new CniError(cniCode.unsupportedField, `unsupported field ${key}: ${JSON.stringify(value)}: ${instead}`)

/** Letters of a message at most: it may quote the request, and ends in a pod's events. */
const MOST = 4096
const cut = (text: string): string => (text.length > MOST ? `${text.slice(0, MOST)}…` : text)

/** Anything thrown, as the answer the runtime gets. */
export function failureAnswer(error: unknown): CniAnswer {
  const code = error instanceof CniError ? error.code : cniCode.generic
  const details = error instanceof CniError ? error.details : error instanceof TwillError ? error.remedy : undefined
  return { exit: 1, stdout: goJson({ code, msg: cut(messageOf(error)), ...(details === undefined ? {} : { details: cut(details) }) }, 4) }
}
