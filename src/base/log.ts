/**
 * JSON-line logs on stderr, one line a decision, each with a reason. pino writes them; rooms see only this interface.
 * @module
 */
import { destination, pino } from 'pino'

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** A log that adds `fields` to each line. */
  child(fields: object): Log
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** A log of `name` on stderr. */
export function openLog(name: string, level: LogLevel = 'info'): Log {
  return pino(
    { name, level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    destination(2),
  )
}

const nothing = (): void => {}
/** For tests: says nothing. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silentLog }
