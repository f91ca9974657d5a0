/**
 * Keeps the kernel as wanted: holds wanted and actual, runs passes, follows notifications, journals what it repaired.
 * It decides nothing: what is wanted comes from the planners, what may be swept from the caller.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import { Journal } from '#daemon/journal.ts'
import {
  type Change,
  type Courier,
  type HostView,
  type Item,
  type Kernel,
  keyOf,
  type Op,
  type Outcome,
  type Scope,
  showOp,
} from '#model/kernel.ts'
import type { Repair } from '#model/status.ts'
import { Desired, type Flight, type PlannedOp, type Sweep } from '#plan/desired.ts'
import { possibleWith } from '#plan/features.ts'
import { type Feud, Feuds } from '#plan/feuds.ts'

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
  readonly clock: Clock
  /** Others changed something of ours, or may be answered again: a pass is due. */
  readonly onDrift: () => void
  /** A pass put these right. */
  readonly onRepaired: (repairs: readonly Repair[]) => void
}

export class Steward {
  readonly #o: StewardOptions
  readonly desired: Desired
  readonly #isPossible: (item: Item) => boolean
  /** What is learned while a dump is under way: told again after it, as the dump may be older. */
  #meanwhile: (() => void)[] | undefined
  #dumpDue = true
  #stopped: AbortSignal | undefined
  #maySweep: Sweep = () => false
  readonly journal: Journal
  readonly #feuds = new Feuds()
  /** When the next held object is due, if somebody waits for that already. */
  #wakeMs = Number.POSITIVE_INFINITY
  #failing = new Map<string, Refusal>()

  constructor(o: StewardOptions) {
    this.#o = o
    this.#isPossible = possibleWith(o.kernel.features)
    this.desired = new Desired(this.#isPossible)
    this.journal = new Journal(o.log, o.clock.date)
  }

  /** Follows the kernel until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    this.#stopped = signal
    for await (const change of this.#o.kernel.watch(this.#o.scope, signal)) this.#see(change)
  }

  #see(change: Change): void {
    if (change.verb === 'overrun') {
      this.#o.log.info({}, 'the kernel did not tell all that changed: comparing everything')
      this.#dumpDue = true
      this.#o.onDrift()
      return
    }
    const { clock, onDrift } = this.#o
    const drifted = this.#learn(() => this.desired.observe(change))
    if (!drifted) return
    this.#feuds.broken(keyOf(change.item), change.by, clock.now())
    onDrift()
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
      const ops = this.#pending()
      if (ops.length === 0) break
      for (let at = 0; at < ops.length; at += CHUNK) {
        const outcomes = await this.#apply(ops.slice(at, at + CHUNK))
        failed = [...failed, ...outcomes.filter((outcome) => outcome.error)]
      }
      done += ops.length - failed.length
    }
    this.#settle(failed)
    this.#wakeWhenDue()
    return { done, failed: failed.length }
  }

  /** Reads everything back, and says how many ops are still due: 0 proves the data plane. */
  async verify(): Promise<number> {
    this.#dumpDue = true
    await this.#dump()
    return this.#pending().length
  }

  #pending(): Op[] {
    const nowMs = this.#o.clock.now()
    return this.desired.pending(this.#maySweep, (key) => this.#feuds.isHeld(key, nowMs))
  }

  /** Sees to it that a pass comes when an object that is held may be put right. */
  #wakeWhenDue(): void {
    const { clock, onDrift } = this.#o
    const inMs = this.#feuds.dueInMs(clock.now())
    if (inMs === undefined) return
    const dueMs = clock.now() + inMs
    if (dueMs >= this.#wakeMs) return
    this.#wakeMs = dueMs
    void clock.sleep(inMs, this.#stopped).then(() => {
      if (this.#wakeMs === dueMs) this.#wakeMs = Number.POSITIVE_INFINITY
      onDrift()
    })
  }

  /** What a pass would do to the kernel as it is now. */
  async plan(): Promise<PlannedOp[]> {
    return this.desired.planAgainst(await this.#o.kernel.dump(this.#scope()), this.#maySweep)
  }

  /** Carries out `ops` at once, ahead of any pass, and keeps `wanted` for `owner` from then on. */
  async commit(owner: string, wanted: readonly Item[], ops: readonly Op[], courier?: Courier): Promise<Outcome[]> {
    const able = ops.filter(({ item }) => this.#isPossible(item))
    const { flight, outcomes } = await this.#send(able, courier)
    this.desired.setOwner(owner, wanted)
    this.#learn(() => this.desired.acknowledge(outcomes, flight))
    return outcomes
  }

  /** Forgets `owner`, then carries out `ops`: nothing is repaired that is on its way out. */
  async release(owner: string, ops: readonly Op[]): Promise<Outcome[]> {
    this.desired.setOwner(owner, [])
    const { flight, outcomes } = await this.#send(ops)
    this.#learn(() => this.desired.acknowledge(outcomes, flight))
    return outcomes
  }

  /** What the node, or the namespace at `netns`, has. */
  host(netns?: string): Promise<HostView> {
    return this.#o.kernel.host(netns)
  }

  /** The node's device by which packets to `ip` leave; undefined if there is no route. */
  async deviceTo(ip: string): Promise<string | undefined> {
    return (await this.#o.kernel.routeTo(ip))?.dev
  }

  /** Objects that others keep changing. */
  get feuds(): readonly Feud[] {
    return this.#feuds.list(this.#o.clock.now())
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

  #learn<T>(fact: () => T): T {
    this.#meanwhile?.push(fact)
    return fact()
  }

  /** The scope, with what is only known from what is wanted: sysctls of devices that were not there at the start, and flows. */
  #scope(): Scope {
    const { scope } = this.#o
    return { ...scope, sysctls: [...new Set([...scope.sysctls, ...this.desired.sysctls()])], flows: this.desired.flows() }
  }

  async #send(ops: readonly Op[], courier?: Courier): Promise<{ flight: Flight; outcomes: Outcome[] }> {
    const flight = this.desired.depart()
    try {
      return { flight, outcomes: ops.length === 0 ? [] : await this.#o.kernel.apply(ops, courier) }
    } catch (error) {
      this.desired.acknowledge([], flight)
      throw error
    }
  }

  async #apply(ops: readonly Op[]): Promise<Outcome[]> {
    const drifts = ops.map((op) => this.desired.driftOf(op))
    for (const op of ops) {
      const reason = this.desired.reasonOf(op)
      if (reason !== undefined) this.#o.log.warn({ op: showOp(op), reason }, 'a device is made anew')
    }
    const { flight, outcomes } = await this.#send(ops)
    this.desired.acknowledge(outcomes, flight)
    const repaired = outcomes.flatMap(({ op, error }, i) => (!error && drifts[i] ? [{ op, drift: drifts[i] }] : []))
    if (repaired.length > 0) this.#o.onRepaired(this.journal.note(repaired))
    return outcomes
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
