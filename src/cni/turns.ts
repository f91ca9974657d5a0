/** Work in turns: one at a time for a key, in the order asked for, and a bounded number in all. @module */

export class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []
  readonly #last = new Map<string, Promise<unknown>>()

  constructor(atOnce: number) {
    this.#free = atOnce
  }

  /** Runs `work` when all earlier work for `key` has ended and a place is free. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve()
    const mine = before.then(() => this.#placed(work))
    const settled = mine.then(
      () => {},
      () => {},
    )
    this.#last.set(key, settled)
    void settled.then(() => {
      if (this.#last.get(key) === settled) this.#last.delete(key)
    })
    return mine
  }

  async #placed<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#free--
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free++
    }
  }
}
