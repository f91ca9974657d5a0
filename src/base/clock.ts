/** Time and chance as a value that is handed in, so that tests and the simulation own both. */
export interface Clock {
  /** Milliseconds, monotonic; only differences mean anything. */
  now(): number
  /** Wall-clock time, for what people and the API read. */
  date(): Date
  /** Uniform in [0, 1). */
  random(): number
  /** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  random: () => Math.random(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}
