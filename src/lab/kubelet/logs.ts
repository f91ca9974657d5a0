/**
 * Container logs: CRI lines on disk, what kubectl logs asks of them.
 *     2026-11-23T03:07:36.317439956Z stdout F text        F ends a line, P is a piece of a longer one
 * @module
 */
import { watch } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { Bell } from '#base/bell.ts'
import { systemClock } from '#base/clock.ts'

export interface LogOptions {
  readonly follow: boolean
  readonly timestamps: boolean
  /** Lines from the end; undefined for all. */
  readonly tailLines: number | undefined
  /** Lines not older than this, in milliseconds since 1970. */
  readonly sinceMs: number | undefined
  readonly limitBytes: number | undefined
}

export function logOptions(query: URLSearchParams, now: number): LogOptions {
  const number = (name: string): number | undefined => (query.get(name) ? Number(query.get(name)) : undefined)
  const flag = (name: string): boolean => ['true', '1'].includes(query.get(name) ?? '')
  const seconds = number('sinceSeconds')
  const time = query.get('sinceTime')
  return {
    follow: flag('follow'),
    timestamps: flag('timestamps'),
    tailLines: number('tailLines'),
    sinceMs: seconds !== undefined ? now - seconds * 1000 : time ? Date.parse(time) : undefined,
    limitBytes: number('limitBytes'),
  }
}

/** One CRI line as the reader sees it, newline included unless it is a piece; undefined if it is older than asked for. */
export function showLine(line: string, o: Pick<LogOptions, 'timestamps' | 'sinceMs'>): string | undefined {
  const [, time, , mark, text] = /^(\S+) (stdout|stderr) ([FP]) (.*)$/s.exec(line) ?? []
  if (time === undefined) return undefined
  if (o.sinceMs !== undefined && Date.parse(time) < o.sinceMs) return undefined
  return `${o.timestamps ? `${time} ` : ''}${text}${mark === 'F' ? '\n' : ''}`
}

/** The last `count` lines of `lines`. */
export const tail = (lines: readonly string[], count: number | undefined): readonly string[] =>
  count === undefined ? lines : count === 0 ? [] : lines.slice(-count)

/** Writes a log to `out`, and with `follow` what comes after, until `ended` says that no more will come or `signal` aborts. */
export async function sendLog(path: string, out: Writable, o: LogOptions, ended: () => boolean, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'r')
  let left = o.limitBytes ?? Number.POSITIVE_INFINITY
  let offset = 0
  let rest = Buffer.alloc(0)
  const more = async (): Promise<string[]> => {
    const chunks: Buffer[] = [rest]
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(65536), 0, 65536, offset)
      if (bytesRead === 0) break
      offset += bytesRead
      chunks.push(buffer.subarray(0, bytesRead))
    }
    const all = Buffer.concat(chunks)
    const end = all.lastIndexOf(10) + 1
    rest = all.subarray(end)
    return end === 0 ? [] : all.toString('utf8', 0, end - 1).split('\n')
  }
  const send = (lines: readonly string[]): void => {
    for (const line of lines) {
      const text = showLine(line, o)
      if (text === undefined || left <= 0) continue
      const bytes = Buffer.from(text).subarray(0, left)
      left -= bytes.length
      out.write(bytes)
    }
  }
  try {
    send(tail(await more(), o.tailLines))
    if (!o.follow) return
    // The end of a container is seen by the kubelet, not in the file: each change of either wakes this loop, at the latest after 1 s.
    const bell = new Bell()
    const watcher = watch(path, () => bell.ring('log'))
    try {
      while (!signal.aborted && left > 0) {
        const over = ended()
        send(await more())
        if (over) return
        await bell.wait(1000, systemClock, signal)
      }
    } finally {
      watcher.close()
    }
  } finally {
    await file.close()
  }
}
