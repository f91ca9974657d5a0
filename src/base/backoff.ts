/** Waiting longer after each failure: half of the wait fixed, half jitter, so that a cluster's agents do not retry in step. */
import type { Clock } from '#base/clock.ts'

/** The wait in milliseconds before retry number `attempt` (1 is the first). */
export function backoffMs(attempt: number, o: { firstMs: number; maxMs: number }, clock: Pick<Clock, 'random'>): number {
  const full = Math.min(o.firstMs * 2 ** (attempt - 1), o.maxMs)
  return full * (0.5 + clock.random() / 2)
}
