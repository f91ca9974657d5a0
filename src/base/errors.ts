/**
 * Errors that say what to do: a code to match on, the text with what was found, and the way out.
 *
 * Each room keeps its own table (`src/<room>/errors.ts`) made by `errorTable`; all tables together are docs/errors.md,
 * and a test holds the page to them.
 *     throw kernelError.ERR_FEATURE_MISSING({ feature: 'the vxlan backend', module: 'vxlan' }, cause)
 * @module
 */

/** An error with a stable code, its details and the way out. Callers match on `code`, never on `message`. */
export class TwillError extends Error {
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>
  /** One or two sentences: what the reader can do about it. */
  readonly remedy: string
  constructor(code: string, message: string, remedy: string, details: Readonly<Record<string, unknown>>, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'TwillError'
    this.code = code
    this.remedy = remedy
    this.details = details
  }
}

export interface ErrorEntry {
  /** What failed and what was found. */
  text(details: never): string
  remedy: string
}

type Thrower<E> = E extends { text(details: infer D): string } ? (details: D, cause?: unknown) => TwillError : never

/** Every code of every loaded table, for docs/errors.md. */
export const allErrors = new Map<string, ErrorEntry>()

/** Makes one room's errors: a function a code, which returns the error to throw. */
export function errorTable<const T extends Record<`ERR_${string}`, ErrorEntry>>(entries: T): { readonly [C in keyof T]: Thrower<T[C]> } {
  const throwers: Record<string, unknown> = {}
  for (const [code, entry] of Object.entries(entries)) {
    allErrors.set(code, entry)
    throwers[code] = (details: object, cause?: unknown) =>
      new TwillError(code, entry.text(details as never), entry.remedy, details as Record<string, unknown>, cause)
  }
  return throwers as { readonly [C in keyof T]: Thrower<T[C]> }
}

/** The message of anything thrown, with its causes, on one line. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `: ${messageOf(error.cause)}`
  return error.message + cause
}
