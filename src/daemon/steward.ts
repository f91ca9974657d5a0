/**
 * Keeps the kernel as wanted: holds wanted and actual, runs passes, follows notifications, journals what it repaired.
 * It decides nothing: what is wanted comes from the planners, what may be swept from the caller.
 * @module
 */
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import { type Change, type Item, type Kernel, type Op, type Outcome, type Scope, showOp } from '#model/kernel.ts'
import type { Repair } from '#model/status.ts'
import { Desired, type Drift, type PlannedOp, type Sweep } from '#plan/desired.ts'
import { possibleWith } from '#plan/features.ts'

const JOURNAL = 100
/** Ops in one kernel.apply: large enough for one transaction of a normal pass, small enough that a CNI request soon has its turn. */
const CHUNK = 2048
/** A link made anew takes what stood on it along: the next round puts that back. */
const ROUNDS = 4

export interface Refusal {
  readonly op: string
  readonly owner: string
  readonly error: string
}

export interface StewardOptions {
  readonly kernel: Kernel
  readonly scope: Scope
  readonly log: Log
  readonly date: () => Date
  /** Others changed something of ours: a pass is due. */
  readonly onDrift: () => void
}

export class Steward {
  readonly #o: StewardOptions
  readonly desired: Desired
  readonly #isPossible: (item: Item) => boolean
  /** What is learned while a dump is under way: told again after it, as the dump may be older. */
  #meanwhile: (() => void)[] | undefined
  #dumpDue = true
  #maySweep: Sweep = () => false
  #repairs: Repair[] = []
  #repairCount = 0
  #failing = new Map<string, Refusal>()

  constructor(o: StewardOptions) {
    this.#o = o
    this.#isPossible = possibleWith(o.kernel.features)
    this.desired = new Desired(this.#isPossible)
  }

  /** Follows the kernel until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    for await (const change of this.#o.kernel.watch(this.#o.scope, signal)) this.#see(change)
  }

  #see(change: Change): void {
    if (change.verb === 'overrun') {
      this.#o.log.warn({}, 'kernel notifications were lost: comparing everything again')
      this.#dumpDue = true
      this.#o.onDrift()
    } else this.#learn(() => this.desired.observe(change) && this.#o.onDrift())
  }

  /** The next pass reads everything back first. */
  distrust(): void {
    this.#dumpDue = true
  }

  /** One pass. What it returns counts operations: 0 done and 0 failed means that all was right. */
  async pass(maySweep: Sweep): Promise<{ readonly done: number; readonly failed: number }> {
    this.#maySweep = maySweep
    let done = 0
    let failed: Outcome[] = []
    for (let round = 0; round < ROUNDS && failed.length === 0; round++) {
      if (this.#dumpDue) await this.#dump()
      const ops = this.desired.pending(this.#maySweep)
      if (ops.length === 0) break
      for (let at = 0; at < ops.length; at += CHUNK) {
        const outcomes = await this.#apply(ops.slice(at, at + CHUNK))
        failed = [...failed, ...outcomes.filter((outcome) => outcome.error)]
      }
      done += ops.length - failed.length
    }
    this.#settle(failed)
    return { done, failed: failed.length }
  }

  /** Reads everything back, and says how many ops are still due: 0 proves the data plane. */
  async verify(): Promise<number> {
    this.#dumpDue = true
    await this.#dump()
    return this.desired.pending(this.#maySweep).length
  }

  /** What a pass would do to the kernel as it is now. */
  async plan(): Promise<PlannedOp[]> {
    return this.desired.planAgainst(await this.#o.kernel.dump(this.#scope()), this.#maySweep)
  }

  /** Carries out `ops` at once, ahead of any pass, and keeps `wanted` for `owner` from then on. */
  async commit(owner: string, wanted: readonly Item[], ops: readonly Op[]): Promise<Outcome[]> {
    const able = ops.filter(({ item }) => this.#isPossible(item))
    const outcomes = able.length === 0 ? [] : await this.#o.kernel.apply(able)
    this.desired.setOwner(owner, wanted)
    this.#learn(() => this.desired.acknowledge(outcomes))
    return outcomes
  }

  /** Forgets `owner`, then carries out `ops`: nothing is repaired that is on its way out. */
  async release(owner: string, ops: readonly Op[]): Promise<Outcome[]> {
    this.desired.setOwner(owner, [])
    const outcomes = ops.length === 0 ? [] : await this.#o.kernel.apply(ops)
    this.#learn(() => this.desired.acknowledge(outcomes))
    return outcomes
  }

  /** The MAC of a device of the node; undefined if there is none of that name. */
  async linkMac(name: string): Promise<string | undefined> {
    return (await this.#o.kernel.host()).links.find((link) => link.name === name)?.mac
  }

  get repairs(): { readonly total: number; readonly recent: readonly Repair[] } {
    return { total: this.#repairCount, recent: this.#repairs }
  }

  /** What the kernel refused in the last pass. */
  get failing(): readonly Refusal[] {
    return [...this.#failing.values()]
  }

  async #dump(): Promise<void> {
    this.#dumpDue = false
    const meanwhile: (() => void)[] = []
    this.#meanwhile = meanwhile
    try {
      this.desired.reset(await this.#o.kernel.dump(this.#scope()))
    } catch (error) {
      this.#dumpDue = true
      throw error
    } finally {
      this.#meanwhile = undefined
    }
    for (const fact of meanwhile) fact()
  }

  #learn(fact: () => void): void {
    fact()
    this.#meanwhile?.push(fact)
  }

  /** The scope, with what is only known from what is wanted: sysctls of devices that were not there at the start, and flows. */
  #scope(): Scope {
    const { scope } = this.#o
    return { ...scope, sysctls: [...new Set([...scope.sysctls, ...this.desired.sysctls()])], flows: this.desired.flows() }
  }

  async #apply(ops: readonly Op[]): Promise<Outcome[]> {
    const drifts = ops.map((op) => this.desired.driftOf(op))
    for (const op of ops) {
      const reason = this.desired.reasonOf(op)
      if (reason !== undefined) this.#o.log.warn({ op: showOp(op), reason }, 'a device is made anew')
    }
    const outcomes = await this.#o.kernel.apply(ops)
    this.desired.acknowledge(outcomes)
    for (const [i, outcome] of outcomes.entries()) if (!outcome.error && drifts[i]) this.#journal(outcome.op, drifts[i])
    return outcomes
  }

  #journal(op: Op, drift: Drift): void {
    const by = [drift.by?.process, drift.by?.pid === undefined ? undefined : `pid ${drift.by.pid}`].filter((part) => part !== undefined)
    const found = drift.verb === 'del' ? 'deleted' : op.verb === 'del' ? 'added' : 'changed'
    const repair: Repair = {
      at: this.#o.date().toISOString(),
      op: showOp(op),
      owner: op.item.owner ?? '',
      found,
      ...(by.length > 0 && { by: by.join(' ') }),
    }
    this.#repairCount++
    this.#repairs = [...this.#repairs.slice(1 - JOURNAL), repair]
    this.#o.log.warn({ op: repair.op, owner: repair.owner, found, by: repair.by }, 'repaired')
  }

  /** Logs a refusal once, and again when its reason changes. */
  #settle(failed: readonly Outcome[]): void {
    const failing = new Map(
      failed.map(({ op, error }) => [showOp(op), { op: showOp(op), owner: op.item.owner ?? '', error: messageOf(error) }]),
    )
    for (const [op, refusal] of failing)
      if (this.#failing.get(op)?.error !== refusal.error) this.#o.log.error(refusal, 'the kernel refused')
    for (const op of this.#failing.keys()) if (!failing.has(op)) this.#o.log.info({ op }, 'no longer refused')
    this.#failing = failing
  }
}
