/**
 * The API server of a simulation: nodes with versions, lists in pages, watches with history; and what goes wrong with it. It stands
 * where src/cluster/http.ts stands, so that decoding, stores and watches are the real ones.
 * @module
 */

import { clusterError } from '#cluster/errors.ts'
import type { Client } from '#cluster/http.ts'
import type { Chance, SimClock } from './clock.ts'
import { type NodeObject, OWN, PREFIX } from './truth.ts'

interface Event {
  readonly version: number
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: NodeObject
}

/** Hears of each version of a node that the agent is told. */
export type Told = (metadata: NodeObject['metadata']) => void

interface Snapshot {
  readonly version: number
  readonly nodes: readonly NodeObject[]
}

type Call = Parameters<Client['json']>[0]

/** What the next list does instead of telling the truth. */
export type ListFault = 'empty' | 'stale' | 'torn' | 'garbage'

export class SimApi {
  readonly nodes = new Map<string, NodeObject>()
  version = 10
  down = false
  /** Patches are refused with a 500. */
  refusesPatches = false
  /** Requests so far, by verb. */
  requests = 0
  patches = 0
  readonly listFaults: ListFault[] = []
  /** Called after each change of the truth. */
  onChange: () => void = () => {}
  trace: (line: string) => void = () => {}
  readonly #told: Told
  readonly #clock: SimClock
  readonly #chance: Chance
  #history: Event[] = []
  #oldest = 10
  #staleInARow = 0
  #snapshots: Snapshot[] = []
  /** Lists that are given out in pages, by the token to go on with. */
  readonly #begun = new Map<string, Snapshot>()
  #watches = new Set<Watch>()

  constructor(clock: SimClock, chance: Chance, told: Told) {
    this.#told = told
    this.#clock = clock
    this.#chance = chance
  }

  // ---- the truth changes

  put(node: Omit<NodeObject, 'kind'>): void {
    const { name } = node.metadata
    const type = this.nodes.has(name) ? 'MODIFIED' : 'ADDED'
    this.#record(type, { ...node, kind: 'Node', metadata: { ...node.metadata, resourceVersion: String(++this.version) } })
  }

  remove(name: string): void {
    const node = this.nodes.get(name)!
    this.#record('DELETED', { ...node, metadata: { ...node.metadata, resourceVersion: String(++this.version) } })
  }

  #record(type: Event['type'], object: NodeObject): void {
    if (this.#chance.yes(0.2)) this.#snapshots.push({ version: this.version - 1, nodes: [...this.nodes.values()] })
    if (this.#snapshots.length > 4) this.#snapshots.shift()
    if (type === 'DELETED') this.nodes.delete(object.metadata.name)
    else this.nodes.set(object.metadata.name, object)
    const event = { version: this.version, type, object }
    this.#history.push(event)
    this.onChange()
    for (const watch of this.#watches) watch.send(event)
  }

  // ---- what goes wrong

  /** Every watch breaks off. */
  cut(): void {
    for (const watch of this.#watches) watch.destroy(new Error('ECONNRESET'))
  }

  /** All is well again; events that were kept back arrive. */
  heal(): void {
    this.down = false
    this.refusesPatches = false
    this.listFaults.length = 0
    for (const watch of this.#watches) watch.flush()
  }

  /** Every watch ends as if its time were over. */
  end(): void {
    for (const watch of this.#watches) watch.finish()
  }

  /** The server forgets its history: whoever watches from before gets 410. */
  compact(): void {
    this.#history = []
    this.#oldest = this.version + 1
  }

  /** Sends events once more, or late, or in another order; or lines that are no events. */
  disturb(how: 'again' | 'old' | 'swap' | 'garbage' | 'too-old'): void {
    for (const watch of this.#watches) {
      if (how === 'garbage')
        watch.push(this.#chance.one(['{"type":"MODIFIED","object":{"metadata":7}}', 'not json', '{"type":"ADDED"}', 'null']))
      else if (how === 'too-old') watch.push('{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}')
      else if (how === 'swap') watch.held = 1
      else {
        const from = how === 'again' ? this.#history.slice(-3) : this.#history
        if (from.length > 0) for (let i = 0; i < 3; i++) watch.send(this.#chance.one(from))
      }
    }
  }

  // ---- what the agent asks

  /** For one life of the agent; `owner` holds its timers. */
  clientOf(owner: object): Client {
    return {
      server: 'https://simulated',
      open: async (call) => {
        await this.#begin(owner, call)
        const query = new URLSearchParams(call.path.slice(call.path.indexOf('?')))
        const from = Number(query.get('resourceVersion'))
        const watch = new Watch(this.#told, () => this.#watches.delete(watch))
        if (from + 1 < this.#oldest || from > this.version) this.#expired(watch)
        else for (const event of this.#history) if (event.version > from) watch.send(event)
        if (!watch.ended) this.#watches.add(watch)
        this.trace(`api: a watch from version ${from} of ${this.version}`)
        call.signal?.addEventListener('abort', () => watch.destroy(new Error('aborted')), { once: true })
        return { body: watch }
      },
      json: async (call) => {
        await this.#begin(owner, call)
        return this.#answer(call)
      },
      close: () => {},
    }
  }

  #expired(watch: Watch): void {
    watch.push('{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}')
    watch.finish()
  }

  async #begin(owner: object, call: Call): Promise<void> {
    this.requests++
    const request = `${call.method} ${call.path.replace(/\?.*/, '')}`
    if (this.#chance.yes(0.5)) await this.#clock.sleep(owner, this.#chance.below(30), call.signal)
    if (call.signal?.aborted) throw new Error('aborted')
    if (this.down) throw clusterError.ERR_API_UNREACHABLE({ server: 'simulated', request, found: 'ECONNREFUSED' })
  }

  #answer({ method, path, body }: Call): unknown {
    if (method === 'POST') return {}
    if (method === 'PATCH') return this.#patch(body!.value as Patch)
    if (/^\/api\/v1\/nodes\?/.test(path)) return this.#list(new URLSearchParams(path.slice(path.indexOf('?'))))
    const node = this.nodes.get(OWN)
    if (!node) throw this.#refusal(404, 'NotFound')
    return node
  }

  #refusal(status: number, reason: string): Error {
    return clusterError.ERR_API_STATUS({ request: 'simulated', status, reason, message: reason })
  }

  #list(query: URLSearchParams): unknown {
    const token = query.get('continue')
    const fault = token && this.listFaults[0] !== 'torn' ? undefined : this.listFaults.shift()
    if (fault) this.trace(`api: a list that is ${fault}`)
    if (fault === 'garbage')
      return this.#chance.one([null, { kind: 'Status' }, { kind: 'NodeList', items: 7, metadata: { resourceVersion: '1' } }])
    if (fault === 'empty') return { kind: 'NodeList', metadata: { resourceVersion: String(this.version) }, items: [] }
    // A token to go on with stands for the version that the list began with.
    // A server that insists was restored from a backup, and is believed (src/cluster/watch.ts).
    // A list that breaks off is no word against the past ones: the fourth of those would be believed.
    if (fault === 'stale') this.#staleInARow++
    else if (fault === undefined) this.#staleInARow = 0
    const stale = fault === 'stale' && this.#staleInARow < 4 ? this.#chance.one(this.#snapshots) : undefined
    const { version, nodes } = (token ? this.#begun.get(token) : stale) ?? { version: this.version, nodes: [...this.nodes.values()] }
    this.trace(`api: a list of version ${version} of ${this.version}${token ? ', second page' : ''}`)
    if (token && (fault === 'torn' || this.#chance.yes(0.1))) throw this.#refusal(410, 'Expired')
    const half = query.has('limit') && nodes.length > 3 && !token && (fault === 'torn' || this.#chance.yes(0.3))
    if (fault === 'torn' && half) this.listFaults.unshift('torn')
    if (half) this.#begun.set(String(version), { version, nodes })
    else for (const { metadata } of nodes) this.#told(metadata)
    const metadata = { resourceVersion: String(version), ...(half && { continue: String(version) }) }
    return { kind: 'NodeList', metadata, items: nodes.slice(token ? 2 : 0, half ? 2 : undefined) }
  }

  #patch(patch: Patch): unknown {
    const node = this.nodes.get(OWN)
    if (!node) throw this.#refusal(404, 'NotFound')
    if (this.refusesPatches) throw this.#refusal(500, 'InternalError')
    this.patches++
    const annotations = { ...node.metadata.annotations, ...patch.metadata?.annotations }
    for (const key of Object.keys(annotations)) if (!key.startsWith(PREFIX)) throw new Error(`a patch of ${key}`)
    const changed = patch.status?.conditions ?? []
    const kept = node.status.conditions.filter(({ type }) => !changed.some((one) => one.type === type))
    this.put({ ...node, metadata: { ...node.metadata, annotations }, status: { conditions: [...kept, ...changed] } })
    return this.nodes.get(OWN)
  }
}

interface Patch {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> }
  readonly status?: { readonly conditions?: NodeObject['status']['conditions'] }
}

/** One watch: lines out, until it is ended from either side. */
class Watch implements AsyncIterable<Buffer> {
  ended = false
  /** So many events are kept back until one more came: it overtakes them. */
  held = 0
  readonly #told: Told
  readonly #onEnd: () => void
  #lines: string[] = []
  #back: Event[] = []
  #error: Error | undefined
  #wake: () => void = () => {}

  constructor(told: Told, onEnd: () => void) {
    this.#told = told
    this.#onEnd = onEnd
  }

  send(event: Event): void {
    if (this.held > 0) {
      this.held--
      this.#back.push(event)
      return
    }
    this.#send(event)
    for (const late of this.#back.splice(0)) this.#send(late)
  }

  #send({ type, object }: Event): void {
    this.#told(object.metadata)
    this.push(JSON.stringify({ type, object }))
  }

  push(line: string): void {
    this.#lines.push(line)
    this.#wake()
  }

  flush(): void {
    this.held = 0
    for (const late of this.#back.splice(0)) this.#send(late)
  }

  finish(): void {
    this.flush()
    this.#end()
  }

  destroy(error?: Error): this {
    // What was overtaken is still delivered: a server reorders, it does not lose.
    this.flush()
    this.#error ??= error
    this.#end()
    return this
  }

  #end(): void {
    if (this.ended) return
    this.ended = true
    this.#onEnd()
    this.#wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const lines = this.#lines.splice(0)
      if (lines.length > 0) yield Buffer.from(`${lines.join('\n')}\n`)
      if (this.#lines.length > 0) continue
      if (this.ended) {
        if (this.#error) throw this.#error
        return
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}
