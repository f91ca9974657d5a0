/**
 * Fights over an object: others keep changing it, and it is put right again and again. Repair is at once as long as that is seldom.
 * Who changes one object ten times within ten seconds is waited out: 1 s before the next repair, then 2, 4 … 60 s. When he leaves
 * it alone for a while, the next change is a first one again.
 *
 * A change is cheap to put right; what costs is two programs that answer each other as fast as they can. Pure: time comes in.
 */
import type { Culprit } from '#model/kernel.ts'

/** So many repairs of one object in one quarrel are a feud, and named. */
const NAMED_FROM = 5
/** So many within BURST_MS are a race, and backed off from. */
const BURST = 10
const BURST_MS = 10_000
const DELAY = { firstMs: 1000, maxMs: 60_000 }
/** An object that stays right for so long is at peace. */
const PEACE_MS = 300_000

export interface Feud {
  /** Key of the object (keyOf). */
  readonly key: string
  /** Times that it was found changed in this quarrel. */
  readonly times: number
  /** Processes that the kernel named. */
  readonly by: readonly string[]
  /** How long a repair waits now; 0: not at all. */
  readonly delayMs: number
}

interface Quarrel {
  times: number
  by: Set<string>
  /** The last changes, BURST at most. */
  recentMs: number[]
  delayMs: number
  heldUntilMs: number
}

export class Feuds {
  readonly #quarrels = new Map<string, Quarrel>()

  /** Others changed the object of `key`, which was right. */
  broken(key: string, by: Culprit | undefined, nowMs: number): void {
    const fresh: Quarrel = { times: 0, by: new Set(), recentMs: [], delayMs: 0, heldUntilMs: nowMs }
    const before = this.#quarrels.get(key)
    const quarrel = before === undefined || nowMs - before.heldUntilMs > PEACE_MS ? fresh : before
    this.#quarrels.set(key, quarrel)
    quarrel.times++
    if (by?.process !== undefined) quarrel.by.add(by.process)
    quarrel.recentMs = [...quarrel.recentMs.slice(1 - BURST), nowMs]
    quarrel.delayMs = nextDelay(quarrel, nowMs)
    quarrel.heldUntilMs = nowMs + quarrel.delayMs
  }

  /** True while the object is not to be put right. */
  isHeld(key: string, nowMs: number): boolean {
    return nowMs < (this.#quarrels.get(key)?.heldUntilMs ?? 0)
  }

  /** Milliseconds until the first object that is held is due; undefined if none is. */
  dueInMs(nowMs: number): number | undefined {
    const due = [...this.#quarrels.values()].filter(({ heldUntilMs }) => heldUntilMs > nowMs).map(({ heldUntilMs }) => heldUntilMs - nowMs)
    return due.length === 0 ? undefined : Math.min(...due)
  }

  /** The feuds that last. Forgets those that are over. */
  list(nowMs: number): Feud[] {
    for (const [key, { heldUntilMs }] of this.#quarrels) if (nowMs - heldUntilMs > PEACE_MS) this.#quarrels.delete(key)
    return [...this.#quarrels]
      .filter(([, { times }]) => times >= NAMED_FROM)
      .map(([key, q]) => ({ key, times: q.times, by: [...q.by].toSorted(), delayMs: isQuiet(q, nowMs) ? 0 : q.delayMs }))
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
  }
}

/** He left the object alone for twice as long as he was made to wait. */
const isQuiet = ({ delayMs, heldUntilMs }: Quarrel, nowMs: number): boolean => nowMs - heldUntilMs > Math.max(BURST_MS, 2 * delayMs)

function nextDelay(quarrel: Quarrel, nowMs: number): number {
  const { delayMs, recentMs } = quarrel
  if (delayMs > 0) return isQuiet(quarrel, nowMs) ? 0 : Math.min(2 * delayMs, DELAY.maxMs)
  return recentMs.length === BURST && nowMs - recentMs[0]! <= BURST_MS ? DELAY.firstMs : 0
}
