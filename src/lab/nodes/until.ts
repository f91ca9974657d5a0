/** Waiting for a condition, with a deadline: never for a time. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Asks `condition` every `everyMs` until it holds; false if it did not within `deadlineMs`. */
export async function until(condition: () => boolean | Promise<boolean>, o: { everyMs: number; deadlineMs: number }): Promise<boolean> {
  const end = performance.now() + o.deadlineMs
  for (;;) {
    if (await condition()) return true
    if (performance.now() > end) return false
    await sleep(o.everyMs)
  }
}
