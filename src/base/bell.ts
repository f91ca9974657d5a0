/** A bell that remembers who rang: rings before the next `wait` are one. The loop sleeps on it; watchers ring it. */
import type { Clock } from '#base/clock.ts'

/** Without a reason of its own every abort makes an exception with a stack trace. */
const WOKEN = 'woken'

export class Bell {
  #rung = new Set<string>()
  #wake: (() => void) | undefined

  /** Marks `owner` as touched and wakes the waiter. */
  ring(owner: string): void {
    this.#rung.add(owner)
    this.#wake?.()
  }

  /** Resolves with the owners that rang, at the first ring (or at once if some did before), or with none after `timeoutMs`. */
  async wait(timeoutMs: number, clock: Clock, signal?: AbortSignal): Promise<ReadonlySet<string>> {
    if (this.#rung.size === 0 && !signal?.aborted) {
      const stop = new AbortController()
      const abort = (): void => stop.abort(WOKEN)
      this.#wake = abort
      signal?.addEventListener('abort', abort, { once: true })
      await clock.sleep(timeoutMs, stop.signal)
      signal?.removeEventListener('abort', abort)
      this.#wake = undefined
    }
    const rung = this.#rung
    this.#rung = new Set()
    return rung
  }
}
