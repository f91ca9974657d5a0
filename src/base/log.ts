/**
 * JSON-line logs on stderr, one line a decision, each with a reason. pino writes them; rooms see only this interface.
 * @module
 */
import { destination, pino } from 'pino'
import { printableLines } from '#base/printable.ts'

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
  const stderr = destination(2)
  return pino(
    { name, level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    // JSON leaves C1 controls and writing directions as they are, and logs are read on terminals.
    { write: (line: string) => void stderr.write(printableLines(line)) },
  )
}

const nothing = (): void => {}
/** For tests: says nothing. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silentLog }
