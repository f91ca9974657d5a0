/** The repairs: what was missing or changed, what was done, and who did it as far as the kernel tells. Logged, counted, the last kept. */
import type { Log } from '#base/log.ts'
import { type Culprit, type Item, keyOf, type Op, showOp } from '#model/kernel.ts'
import type { Repair } from '#model/status.ts'
import type { Drift } from '#plan/desired.ts'

const KEPT = 100
/** Of one pass: who deletes a table with thousands of elements fills no log. */
const LOGGED = 20

export class Journal {
  readonly #log: Log
  readonly #date: () => Date
  #total = 0
  #recent: readonly Repair[] = []
  readonly #byKind = new Map<Item['kind'], number>()

  constructor(log: Log, date: () => Date) {
    this.#log = log
    this.#date = date
  }

  /** Notes the repairs of one pass. */
  note(done: readonly { readonly op: Op; readonly drift: Drift }[]): Repair[] {
    const at = this.#date().toISOString()
    const repairs = done.map(({ op, drift }): Repair => {
      const by = culpritText(drift.by)
      return {
        at,
        op: showOp(op),
        object: keyOf(op.item),
        owner: op.item.owner ?? '',
        found: foundOf(op, drift),
        ...(by !== undefined && { by }),
      }
    })
    for (const { op } of done) this.#byKind.set(op.item.kind, (this.#byKind.get(op.item.kind) ?? 0) + 1)
    for (const { op, owner, found, by = 'unknown' } of repairs.slice(0, LOGGED)) this.#log.warn({ op, owner, found, by }, 'repaired')
    if (repairs.length > LOGGED) this.#log.warn({ more: repairs.length - LOGGED }, 'repaired more, of the same pass')
    this.#total += repairs.length
    this.#recent = [...this.#recent, ...repairs].slice(-KEPT)
    return repairs
  }

  get total(): number {
    return this.#total
  }

  /** The last ones, oldest first. */
  get recent(): readonly Repair[] {
    return this.#recent
  }

  get byKind(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#byKind)
  }
}

const foundOf = ({ verb }: Op, drift: Drift): Repair['found'] => (drift.verb === 'del' ? 'deleted' : verb === 'del' ? 'added' : 'changed')

/** `ip pid 4711`, `pid 4711` of a process that ended, `port 4026531840` of a second socket; undefined where the kernel names nobody. */
function culpritText(by: Culprit | undefined): string | undefined {
  const parts = [by?.process, by?.pid === undefined ? undefined : `pid ${by.pid}`, by?.port === undefined ? undefined : `port ${by.port}`]
  return parts.filter((part) => part !== undefined).join(' ') || undefined
}
