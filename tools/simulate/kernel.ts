/**
 * The kernel as one life of the agent meets it: the fake kernel behind a door that can be slow, refuse, lose notifications, and stand
 * still for good when the agent is killed between two operations. Every operation is held against what must never happen.
 * @module
 */
import { kernelError } from '#kernel/errors.ts'
import type { FakeKernel } from '#kernel/fake.ts'
import { type Change, type Item, type Kernel, keyOf, type Op, type Outcome, type Scope, showOp } from '#model/kernel.ts'
import type { Chance, SimClock } from './clock.ts'

const CODES = ['EBUSY', 'ENOBUFS', 'EEXIST', 'EINTR', 'ENOMEM', 'EAGAIN'] as const

/** One life of the agent. */
export interface Life {
  readonly number: number
  readonly stop: AbortController
  dead: boolean
  /** Operations until it is killed, if it is to be killed in the middle of them. */
  opsLeft: number | undefined
  /** Mutating operations it has carried out. */
  mutations: number
}

export interface KernelFaults {
  /** The next so many operations are refused. */
  refusals: number
  /** Operations on this key are refused, always. */
  poisoned: string | undefined
  /** The next so many notifications are lost; an overrun is told instead. */
  deaf: number
  /** The next so many dumps fail. */
  failingDumps: number
  /** Notifications come this late at most. */
  lagMs: number
}

export interface KernelWorld {
  readonly fake: FakeKernel
  readonly clock: SimClock
  readonly chance: Chance
  readonly faults: KernelFaults
  readonly trace: (line: string) => void
  /** Throws if the operation must not be. */
  readonly judge: (op: Op) => void
  /** Something that others do between two operations. */
  readonly between: () => unknown
  readonly kill: (life: Life) => void
}

const never = <T>(): Promise<T> => new Promise<T>(() => {})

export function kernelOf(world: KernelWorld, life: Life): Kernel {
  const { fake, clock, chance, faults, trace } = world
  const alive = <T>(value: T): T | Promise<T> => (life.dead ? never<T>() : value)
  const wait = async (ms: number): Promise<void> => {
    await clock.sleep(life, ms)
  }

  async function one(op: Op): Promise<Outcome> {
    world.judge(op)
    const refused = keyOf(op.item) === faults.poisoned ? 'EINVAL' : faults.refusals > 0 ? chance.one(CODES) : undefined
    if (refused !== undefined && refused !== 'EINVAL') faults.refusals--
    life.mutations++
    trace(`agent ${life.number}: ${showOp(op)}${refused ? `  refused ${refused}` : ''}`)
    if (refused !== undefined) return { op, error: kernelError.ERR_KERNEL_REFUSED({ op: showOp(op), code: refused, reason: '' }) }
    return (await fake.apply([op]))[0]!
  }

  return {
    features: fake.features,
    get mutations() {
      return life.mutations
    },
    async dump(scope: Scope): Promise<Item[]> {
      if (life.dead) return never()
      if (chance.yes(0.3)) await wait(chance.below(20))
      if (faults.failingDumps > 0) {
        faults.failingDumps--
        trace('kernel: a dump fails')
        throw kernelError.ERR_NETLINK_DUMP({ type: 26, reason: 'EINTR' })
      }
      const items = await fake.dump(scope)
      // What was read may be old when it arrives.
      if (chance.yes(0.2)) await wait(chance.below(20))
      return alive(items)
    },
    async apply(ops: readonly Op[]): Promise<Outcome[]> {
      if (life.dead) return never()
      if (chance.yes(0.3)) await wait(chance.below(10))
      const outcomes: Outcome[] = []
      for (const op of ops) {
        if (life.dead) return never()
        if (life.opsLeft !== undefined && life.opsLeft-- <= 0) {
          world.kill(life)
          return never()
        }
        outcomes.push(await one(op))
        if (chance.yes(0.03)) world.between()
        if (chance.yes(0.02)) await wait(chance.below(10))
      }
      if (chance.yes(0.2)) await wait(chance.below(10))
      return alive(outcomes)
    },
    async *watch(scope: Scope, signal: AbortSignal): AsyncGenerator<Change> {
      for await (const change of fake.watch(scope, signal)) {
        if (life.dead) return never()
        if (faults.lagMs > 0 && chance.yes(0.3)) await wait(chance.below(faults.lagMs))
        const lost = faults.deaf > 0
        if (lost) faults.deaf--
        yield lost ? { verb: 'overrun' } : change
      }
    },
    host: async () => alive(await fake.host()),
    watchHost: (filter, ring, signal) => fake.watchHost(filter, () => void (life.dead || ring()), signal),
    routeTo: async (ip) => alive(await fake.routeTo(ip)),
    async close() {},
  }
}
