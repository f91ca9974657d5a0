/**
 * Simulated time and chance. Nothing happens between two timers: time jumps from one to the next, and after each one everything
 * that can run without waiting runs to its end.
 * @module
 */
import type { Clock } from '#base/clock.ts'

/** Numbers that depend on the seed alone (mulberry32). */
export class Chance {
  #state: number

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) >>> 0
    this.next()
  }

  /** Uniform in [0, 1). */
  next = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  below = (n: number): number => Math.floor(this.next() * n)
  one = <T>(of: readonly T[]): T => of[this.below(of.length)]!
  yes = (probability: number): boolean => this.next() < probability
}

interface Timer {
  readonly dueMs: number
  readonly order: number
  readonly owner: object
  readonly fire: () => void
}

export class SimClock {
  nowMs = 1000
  /** Time that passed with nobody running. */
  frozenMs = 0
  /** What the wall clock is off by. */
  wallOffsetMs = 0
  #timers: Timer[] = []
  #order = 0

  /** A clock whose timers die with `owner` (see `kill`). */
  of(owner: object, chance: Chance): Clock {
    return {
      now: () => this.nowMs,
      date: () => new Date(Date.UTC(2026, 10, 23) + this.nowMs + this.wallOffsetMs),
      random: chance.next,
      sleep: (ms, signal) => this.sleep(owner, ms, signal),
    }
  }

  sleep(owner: object, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const timer: Timer = {
        dueMs: this.nowMs + Math.max(0, ms),
        order: this.#order++,
        owner,
        fire: () => {
          signal?.removeEventListener('abort', stop)
          resolve()
        },
      }
      const stop = (): void => {
        this.#timers = this.#timers.filter((one) => one !== timer)
        resolve()
      }
      signal?.addEventListener('abort', stop, { once: true })
      this.#timers.push(timer)
    })
  }

  /** The timers of `owner` never fire. */
  kill(owner: object): void {
    this.#timers = this.#timers.filter((timer) => timer.owner !== owner)
  }

  countOf(owner: object): number {
    return this.#timers.filter((timer) => timer.owner === owner).length
  }

  /** Time passes with nobody running: a stopped process, a machine that slept. Timers that were due come late. */
  freeze(ms: number): void {
    this.nowMs += ms
    this.frozenMs += ms
  }

  /** Time in which programs could run. */
  get awakeMs(): number {
    return this.nowMs - this.frozenMs
  }

  /** Lets `ms` pass, timer by timer. */
  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs + ms
    await settle()
    for (;;) {
      let next: Timer | undefined
      for (const timer of this.#timers) {
        if (timer.dueMs <= endMs && (!next || timer.dueMs < next.dueMs || (timer.dueMs === next.dueMs && timer.order < next.order)))
          next = timer
      }
      if (!next) break
      this.#timers.splice(this.#timers.indexOf(next), 1)
      this.nowMs = Math.max(this.nowMs, next.dueMs)
      next.fire()
      await settle()
    }
    this.nowMs = Math.max(this.nowMs, endMs)
  }
}

/** Everything that waits for nothing but its turn has run: an immediate comes after all microtasks. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
