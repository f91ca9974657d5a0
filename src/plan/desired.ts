/**
 * Wanted against last known actual, kept current event by event. Owners say what they want, the kernel says what there is; `pending`
 * looks only at keys that one of the two touched since they last agreed, so a pass after one event costs what that event changed.
 * @module
 */
import {
  type AddressItem,
  type Change,
  type Culprit,
  type FlowsItem,
  type Item,
  keyOf,
  type LinkItem,
  type NftTableItem,
  type Op,
  type Outcome,
  show,
} from '#model/kernel.ts'
import { familyOf } from '#net/ip.ts'
import { inOrder, matches, reasonToRemake, remade } from '#plan/diff.ts'

/** Two owners want different objects under one key; the older gets it, or the first by name. */
export interface Conflict {
  readonly key: string
  readonly winner: string
  readonly losers: readonly string[]
}

/** A change that others made to an object of ours. */
export interface Drift {
  /** What they did: put something else (or something new), or deleted it. */
  readonly verb: 'put' | 'del'
  readonly by?: Culprit
}

/** An op of the dry run. */
export interface PlannedOp extends Op {
  /** What `put` alone does not say: a device is made anew. */
  readonly reason?: string
}

/** Whether an object of ours that nobody wants may be deleted now. */
export type Sweep = (item: Item) => boolean

/** Keys that notifications told of while ops were under way. */
export type Flight = ReadonlySet<string>

interface Claim {
  readonly owner: string
  readonly since: string
  readonly item: Item
}

export class Desired {
  readonly #isPossible: (item: Item) => boolean
  readonly #claims = new Map<string, readonly Claim[]>()
  readonly #keys = new Map<string, ReadonlySet<string>>()
  readonly #actual = new Map<string, Item>()
  readonly #dirty = new Set<string>()
  readonly #contested = new Set<string>()
  readonly #drift = new Map<string, Drift>()
  readonly #flights = new Set<Set<string>>()

  /** @param isPossible  False for what this kernel has no word for: it is never wanted. */
  constructor(isPossible: (item: Item) => boolean = () => true) {
    this.#isPossible = isPossible
  }

  /**
   * `owner` wants exactly `items` from now on; none to want nothing.
   * @param since  When the object behind it was made (ISO 8601): a newcomer takes nothing from who has it. What the node needs itself
   *   has no date, and comes first.
   */
  setOwner(owner: string, items: readonly Item[], since = ''): void {
    const wanted = new Map(items.filter(this.#isPossible).map((item) => [keyOf(item), { ...item, owner }]))
    for (const key of this.#keys.get(owner) ?? []) if (!wanted.has(key)) this.#claim(key, owner, since, undefined)
    for (const [key, item] of wanted) this.#claim(key, owner, since, item)
    if (wanted.size === 0) this.#keys.delete(owner)
    else this.#keys.set(owner, new Set(wanted.keys()))
  }

  #claim(key: string, owner: string, since: string, item: Item | undefined): void {
    const before = this.#claims.get(key) ?? []
    if (before.length === 0 || (before.length === 1 && before[0]!.owner === owner)) {
      // Nearly every key has one claimant, who contests nothing.
      if (item) this.#claims.set(key, [{ owner, since, item }])
      else this.#claims.delete(key)
      this.#dirty.add(key)
      return
    }
    const after = before.filter((claim) => claim.owner !== owner)
    if (item) after.push({ owner, since, item })
    after.sort((a, b) => (a.since === b.since ? (a.owner < b.owner ? -1 : 1) : a.since < b.since ? -1 : 1))
    if (after.length === 0) this.#claims.delete(key)
    else this.#claims.set(key, after)
    if (after.some((claim) => show(claim.item) !== show(after[0]!.item))) this.#contested.add(key)
    else this.#contested.delete(key)
    this.#dirty.add(key)
  }

  /** What the kernel holds, whole: everything known before is forgotten. What was right and is no more has drifted unseen. */
  reset(actual: readonly Item[]): void {
    const before = new Map(this.#actual)
    this.#actual.clear()
    for (const item of actual) this.#know(item)
    for (const [key, item] of before) {
      this.#dirty.add(key)
      const wanted = this.#claims.get(key)?.[0]?.item
      const now = this.#actual.get(key)
      if (!wanted || !matches(wanted, item) || (now && matches(wanted, now))) continue
      // Who deleted a table took along what was in it, unsaid.
      const by =
        this.#drift.get(key)?.by ??
        basesOf(item)
          .map((base) => this.#drift.get(base)?.by)
          .find((one) => one !== undefined)
      this.#drift.set(key, { verb: now ? 'put' : 'del', ...(by && { by }) })
    }
    for (const key of this.#claims.keys()) this.#dirty.add(key)
  }

  /**
   * One change as the kernel reported it, our own included. An overrun is the caller's: only a dump helps.
   * @returns  True if it made something wrong that was right.
   */
  observe(change: Exclude<Change, { verb: 'overrun' }>): boolean {
    const { verb, item } = change
    const key = keyOf(item)
    for (const told of this.#flights) told.add(key)
    const before = this.#actual.get(key)
    if (verb === 'put' ? before !== undefined && show(before) === show(item) : before === undefined) return false
    const wanted = this.#claims.get(key)?.[0]?.item
    const wasRight = wanted ? before !== undefined && matches(wanted, before) : before === undefined
    const isRight = wanted ? verb === 'put' && matches(wanted, item) : verb === 'del'
    if (verb === 'put') this.#know(item)
    else this.#forget(key)
    const drifted = wasRight && !isRight
    // A device goes down before it goes away: the last step is what was done.
    const by = change.by ?? this.#drift.get(key)?.by
    if (drifted || (!isRight && this.#drift.has(key))) this.#drift.set(key, { verb, ...(by && { by }) })
    if (item.kind === 'link' && verb === 'del') this.#forgetOn(item.name)
    else if (item.kind === 'link' && !item.up) this.#forgetWantedOn(item.name)
    if (item.kind === 'address' && verb === 'del') this.#forgetRoutesWithout(item)
    return drifted
  }

  /** Ops are about to be carried out. */
  depart(): Flight {
    const told = new Set<string>()
    this.#flights.add(told)
    return told
  }

  /**
   * What became of ops that were carried out. Of what notifications told meanwhile they have the last word: they come in the
   * kernel's order, and who undid an op at once is among them.
   */
  acknowledge(outcomes: readonly Outcome[], flight: Flight = new Set()): void {
    this.#flights.delete(flight as Set<string>)
    for (const { op, error } of outcomes) {
      const { verb, item } = op
      const key = keyOf(item)
      const before = this.#actual.get(key)
      // What lives in a pod's namespace is the CNI request's business: nobody watches there, and nobody sweeps.
      if (item.netns !== undefined) continue
      this.#dirty.add(key)
      if (error || flight.has(key)) continue
      if (verb === 'put') this.#know(item)
      else this.#forget(key)
      if (item.kind === 'address' && verb === 'del') this.#forgetRoutesWithout(item)
      if (item.kind === 'link' && (verb === 'del' || remade(before?.kind === 'link' ? before : undefined, item))) this.#forgetOn(item.name)
    }
  }

  /**
   * The operations that lead from actual to wanted, in order. None if they agree.
   * @param isHeld  Keys of objects to leave as they are for now, and with them what would stand on those that are not there.
   */
  pending(maySweep: Sweep, isHeld: (key: string) => boolean = () => false): Op[] {
    const settled = (key: string): void => {
      this.#dirty.delete(key)
      this.#drift.delete(key)
    }
    return this.#compare([...this.#dirty], this.#actual, maySweep, settled).filter(
      ({ item }) => !isHeld(keyOf(item)) && !basesOf(item).some((base) => isHeld(base) && !this.#actual.has(base)),
    )
  }

  /** The dry run: what passes would do if the kernel held `actual`, with why where that is not plain. Changes nothing here. */
  planAgainst(actual: readonly Item[], maySweep: Sweep): PlannedOp[] {
    const known = new Map(actual.map((item) => [keyOf(item), item]))
    const reasons = new Map<string, string>()
    for (const [claim] of this.#claims.values()) {
      const reason = reasonToRemake(claim!.item, known.get(keyOf(claim!.item)))
      if (reason !== undefined) reasons.set(keyOf(claim!.item), reason)
    }
    // A device that is made anew takes along what stands on it.
    const remadeDevices = [...reasons.keys()].map((key) => known.get(key) as LinkItem)
    for (const [key, item] of known) if (remadeDevices.some(({ name }) => standsOn(item, name))) known.delete(key)
    const ops = this.#compare([...new Set([...known.keys(), ...this.#claims.keys()])], known, maySweep, () => {})
    return ops.map((op) => {
      const reason = op.verb === 'put' ? reasons.get(keyOf(op.item)) : undefined
      return { ...op, ...(reason !== undefined && { reason }) }
    })
  }

  /** Why the device of `op` must be made anew, as far as is known now. */
  reasonOf({ verb, item }: Op): string | undefined {
    return verb === 'put' ? reasonToRemake(item, this.#actual.get(keyOf(item))) : undefined
  }

  #compare(keys: readonly string[], actual: ReadonlyMap<string, Item>, maySweep: Sweep, settled: (key: string) => void): Op[] {
    const puts: Item[] = []
    const dels: Item[] = []
    for (const key of keys) {
      const wanted = this.#claims.get(key)?.[0]?.item
      const have = actual.get(key)
      if (wanted ? have !== undefined && matches(wanted, have) : have === undefined) settled(key)
      else if (wanted) {
        if (!this.#isGoneForGood(wanted, actual)) puts.push(wanted)
      } else if (maySweep(have!)) dels.push(have!)
    }
    return inOrder(puts, dels).map((op) => (op.verb === 'put' && actual.has(keyOf(op.item)) ? { ...op, replaces: true } : op))
  }

  /** A veth cannot be made anew without its pod's end: it went with the pod's namespace, and DEL is on its way. */
  #isGoneForGood(wanted: Item, actual: ReadonlyMap<string, Item>): boolean {
    const name = wanted.kind === 'link' ? wanted.name : wanted.kind === 'port' ? wanted.dev : undefined
    if (name === undefined) return false
    const key = linkKey(name)
    const link = this.#claims.get(key)?.[0]?.item
    return link?.kind === 'link' && link.type === 'veth' && !actual.has(key)
  }

  /** What others did to the object of `op` since it was last right; undefined if this op is no repair. */
  driftOf(op: Op): Drift | undefined {
    return this.#drift.get(keyOf(op.item))
  }

  conflicts(): Conflict[] {
    return [...this.#contested].toSorted().map((key) => {
      const [winner, ...losers] = this.#claims.get(key)!.map((claim) => claim.owner)
      return { key, winner: winner!, losers }
    })
  }

  /** Wanted objects by kind. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const [claim] of this.#claims.values()) counts[claim!.item.kind] = (counts[claim!.item.kind] ?? 0) + 1
    return counts
  }

  /** Paths of wanted sysctls of the node's own namespace. */
  sysctls(): string[] {
    return [...this.#claims.values()].flatMap(([claim]) => {
      const { item } = claim!
      return item.kind === 'sysctl' && item.netns === undefined ? [item.path] : []
    })
  }

  /** Wanted flows, to ask the kernel whether they hold. */
  flows(): FlowsItem[] {
    return [...this.#claims.values()].flatMap(([claim]) => (claim!.item.kind === 'flows' ? [claim!.item] : []))
  }

  #know(item: Item): void {
    const key = keyOf(item)
    this.#actual.set(key, item)
    this.#dirty.add(key)
  }

  #forget(key: string): void {
    this.#actual.delete(key)
    this.#dirty.add(key)
  }

  /** A device that loses its last IPv4 address loses its IPv4 routes (fib_disable_ip), of which the kernel tells nobody either. */
  #forgetRoutesWithout({ dev, cidr }: AddressItem): void {
    if (familyOf(cidr) === 6) return
    const on = [...this.#actual].filter(([, item]) => 'dev' in item && item.dev === dev && item.netns === undefined)
    if (on.some(([, item]) => item.kind === 'address' && familyOf(item.cidr) === 4)) return
    for (const [key, item] of on) if (item.kind === 'route' && familyOf(item.dst) === 4) this.#forget(key)
  }

  /** Forgets what stands on a device that is gone. */
  #forgetOn(name: string): void {
    for (const [key, item] of this.#actual) if (standsOn(item, name)) this.#forget(key)
  }

  /** A device that goes down takes routes and neighbors along and tells nobody, but not its FDB entries. So all that is wanted is put
   * again; what is nobody's stays known, to be deleted. */
  #forgetWantedOn(name: string): void {
    for (const [key, item] of this.#actual) if (standsOn(item, name) && this.#claims.has(key)) this.#forget(key)
  }
}

function standsOn(item: Item, device: string): boolean {
  if (item.netns !== undefined) return false
  if (item.kind === 'sysctl') return item.path.includes(`/conf/${device}/`)
  if (item.kind === 'port' && item.bridge === device) return true
  return 'dev' in item && item.dev === device
}

/** Keys of what an object cannot be without. */
function basesOf(item: Item): string[] {
  switch (item.kind) {
    case 'nft-map':
    case 'nft-chain':
      return [tableKey(item)]
    case 'nft-element':
      return [keyOf({ kind: 'nft-map', family: item.family, table: item.table, name: item.map, key: [] }), tableKey(item)]
    case 'port':
      return [linkKey(item.bridge), linkKey(item.dev)]
    default:
      return 'dev' in item && item.dev !== undefined ? [linkKey(item.dev)] : []
  }
}

const linkKey = (name: string): string => keyOf({ kind: 'link', name, type: 'veth', up: true })
const tableKey = ({ family, table }: Pick<NftTableItem, 'family' | 'table'>): string => keyOf({ kind: 'nft-table', family, table })
