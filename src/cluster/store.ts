/**
 * The objects of one kind as the watch tells of them: lists replace, events change, and an owner is touched only when a record
 * that planners read became another. Events may come twice or late; one bad object is named and skipped, and what was known of
 * it before is kept.
 * @module
 */
import { isDeepStrictEqual } from 'node:util'
import { messageOf, TwillError } from '#base/errors.ts'
import { decodeMeta, type Meta, nameIn } from '#cluster/decode.ts'
import type { KindName } from '#cluster/types.ts'
import type { Finding } from '#model/cluster.ts'

/** What makes one kind different from another. */
export interface Kind<T> {
  readonly name: KindName
  /** Singular, for people: node. */
  readonly noun: string
  /** API path of the list, and what narrows it on the server. */
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  /** There is always one: the node that asks. */
  readonly isNeverEmpty?: boolean
  /** Undefined for an object that is none of our business. Throws for one that is wrong. */
  decode(raw: unknown): T | undefined
  /** Whom a change of this record concerns: `node k8s-w1`. */
  owner(record: T): string
}

/** Deletions are remembered until the next list, so that a late event does not raise the dead; this many at most. */
const maxTombstones = 4096

export class KindStore<T> {
  readonly kind: Kind<T>
  readonly records = new Map<string, T>()
  /** Findings about bad objects, by key. */
  readonly bad = new Map<string, Finding>()
  synced = false
  readonly #touch: (owner: string) => void
  readonly #versions = new Map<string, string>()
  readonly #tombstones = new Map<string, string>()
  #listVersion = ''

  constructor(kind: Kind<T>, touch: (owner: string) => void) {
    this.kind = kind
    this.#touch = touch
  }

  /**
   * Starts a full list. Nothing changes before `finish`: a list that breaks off half-way says nothing about what it lacks. `finish`
   * gives false for an empty list that cannot be true; then nothing changes at all.
   */
  beginList(): { add(raw: unknown): void; finish(resourceVersion: string): boolean } {
    const records = new Map<string, T>()
    const versions = new Map<string, string>()
    const bad = new Map<string, Finding>()
    return {
      add: (raw) => {
        const read = this.#read(raw, bad)
        if (!read) return
        versions.set(read.key, read.meta?.resourceVersion ?? '')
        const record = read.bad ? this.records.get(read.key) : read.record
        if (record !== undefined) records.set(read.key, record)
      },
      finish: (resourceVersion) => {
        // Somebody runs this agent, and what was there does not all go without a word.
        const isEmpty = versions.size === 0 && bad.size === 0
        if (isEmpty && (this.kind.isNeverEmpty || this.records.size > 0)) return false
        for (const key of [...this.records.keys()]) if (!records.has(key)) this.#remove(key)
        for (const [key, record] of records) this.#set(key, record)
        replace(this.#versions, versions)
        for (const key of new Set([...this.bad.keys(), ...bad.keys()])) this.#judge(key, bad.get(key))
        this.#tombstones.clear()
        this.#listVersion = resourceVersion
        this.synced = true
        return true
      },
    }
  }

  /** An ADDED or MODIFIED event. */
  put(raw: unknown): void {
    const bad = new Map<string, Finding>()
    const read = this.#read(raw, bad)
    if (!read?.meta) {
      for (const [key, finding] of bad) this.#judge(key, finding)
      return
    }
    const { key, meta, record } = read
    if (!this.#isNews(key, meta.resourceVersion)) return
    this.#versions.set(key, meta.resourceVersion)
    this.#tombstones.delete(key)
    this.#judge(key, bad.get(key))
    // Of a bad object the former record stays.
    if (read.bad) return
    if (record === undefined) this.#remove(key)
    else this.#set(key, record)
  }

  /** What is wrong with an object now; that it changed is news, also where the record did not. */
  #judge(key: string, finding: Finding | undefined): void {
    if (this.bad.get(key)?.text === finding?.text) return
    if (finding) this.bad.set(key, finding)
    else this.bad.delete(key)
    this.#touch(`object ${key}`)
  }

  /** A DELETED event. */
  delete(raw: unknown): void {
    const read = this.#read(raw, new Map())
    if (!read?.meta) {
      // Without a version nobody can tell of which one: what is known stays, but one that never was any good is gone.
      const key = read?.key ?? '?'
      if (!this.records.has(key)) this.#judge(key, undefined)
      return
    }
    const { key, meta } = read
    if (isOlder(meta.resourceVersion, this.#lastOf(key))) return // of an object that was since made anew
    this.#judge(key, undefined)
    this.#versions.delete(key)
    this.#tombstones.set(key, meta.resourceVersion)
    if (this.#tombstones.size > maxTombstones) this.#tombstones.delete(this.#tombstones.keys().next().value!)
    this.#remove(key)
  }

  /** Something came that is no object at all. */
  noteUnreadable(found: string): void {
    this.#judge(
      '?',
      this.#finding('?', `the watch of ${this.kind.path} sent ${found}`, 'Look at the API server’s log; the next list clears this.'),
    )
  }

  #isNews(key: string, version: string): boolean {
    const known = this.#lastOf(key)
    return known !== version && !isOlder(version, known)
  }

  /** The newest version that was told of `key`, alive or dead. */
  #lastOf(key: string): string {
    return this.#versions.get(key) ?? this.#tombstones.get(key) ?? this.#listVersion
  }

  /** Without `meta` the object is known by its name alone; undefined if it has not even that. */
  #read(raw: unknown, bad: Map<string, Finding>): { key: string; meta?: Meta; record?: T | undefined; bad: boolean } | undefined {
    let meta: Meta
    try {
      meta = decodeMeta(raw)
    } catch (error) {
      const key = nameIn(raw)
      bad.set(key ?? '?', this.#finding(key ?? '?', messageOf(error), error instanceof TwillError ? error.remedy : ''))
      return key === undefined ? undefined : { key, bad: true }
    }
    const key = meta.namespace === '' ? meta.name : `${meta.namespace}/${meta.name}`
    try {
      const record = this.kind.decode(raw)
      bad.delete(key)
      return { key, meta, record, bad: false }
    } catch (error) {
      bad.set(key, this.#finding(key, messageOf(error), error instanceof TwillError ? error.remedy : ''))
      return { key, meta, bad: true }
    }
  }

  #finding(key: string, text: string, remedy = ''): Finding {
    return { id: 'bad-object', severity: 'warning', subject: `${this.kind.noun} ${key}`, text, remedy }
  }

  #set(key: string, record: T): void {
    const before = this.records.get(key)
    if (before !== undefined && isDeepStrictEqual(before, record)) return
    this.records.set(key, record)
    const owner = this.kind.owner(record)
    this.#touch(owner)
    // An endpoint slice may change hands: its former service lost it.
    if (before !== undefined && this.kind.owner(before) !== owner) this.#touch(this.kind.owner(before))
  }

  #remove(key: string): void {
    const before = this.records.get(key)
    if (before === undefined) return
    this.records.delete(key)
    this.#touch(this.kind.owner(before))
  }
}

/** True if resource version `a` came before `b`. They are numbers in all API servers (and by contract since Kubernetes 1.35);
 * of anything else the order is not known, and no event is dropped for it. */
export function isOlder(a: string, b: string): boolean {
  if (!/^\d+$/.test(a) || !/^\d+$/.test(b)) return false
  return a.length === b.length ? a < b : a.length < b.length
}

function replace<V>(map: Map<string, V>, next: ReadonlyMap<string, V>): void {
  map.clear()
  for (const [key, value] of next) map.set(key, value)
}
