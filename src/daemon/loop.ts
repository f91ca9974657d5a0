/** One loop from current state: a pass at once, after each ring, and on a slow timer, since the kernel drifts unasked. */
import { backoffMs } from '#base/backoff.ts'
import type { Bell } from '#base/bell.ts'
import type { Clock } from '#base/clock.ts'

export interface Loop {
  readonly bell: Bell
  readonly clock: Clock
  readonly signal: AbortSignal
  /** After a pass with failures the next comes this soon, then ever later, half a minute at most. */
  readonly retryMs: number
  /** How long the loop sleeps at most. */
  readonly resyncMs: number
  /** Rings this close together are one. */
  settleMs(rung: ReadonlySet<string>): number
  /** `resync`: the slow timer rang, not the bell. @returns how many operations failed. */
  pass(rung: ReadonlySet<string>, resync: boolean): Promise<number>
}

/** Whatever failed is tried again within this: what fails for good must not make the rest wait. */
const MAX_RETRY_MS = 30_000

/** Runs passes until `signal` aborts. */
export async function reconcile({ bell, clock, signal, retryMs, resyncMs, settleMs, pass }: Loop): Promise<void> {
  let failures = 0
  let dueMs = clock.now() + resyncMs
  let rung = await bell.wait(0, clock, signal)
  while (!signal.aborted) {
    const resync = clock.now() >= dueMs
    if (resync) dueMs = clock.now() + resyncMs
    failures = (await pass(rung, resync)) === 0 ? 0 : failures + 1
    const untilDueMs = Math.max(0, dueMs - clock.now())
    const waitMs = failures === 0 ? untilDueMs : Math.min(untilDueMs, backoffMs(failures, { firstMs: retryMs, maxMs: MAX_RETRY_MS }, clock))
    rung = await bell.wait(waitMs, clock, signal)
    if (rung.size > 0) {
      await clock.sleep(settleMs(rung), signal)
      rung = rung.union(await bell.wait(0, clock, signal))
    }
  }
}
