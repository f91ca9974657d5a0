/**
 * Keeps one kind's store current: list in pages, watch with bookmarks from there, watch again where the last one ended, list
 * again when the server no longer remembers that far back (410). Never gives up; waits longer after each failure.
 * @module
 */
import { backoffMs } from '#base/backoff.ts'
import type { Clock } from '#base/clock.ts'
import { messageOf, TwillError } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import { clusterError } from '#cluster/errors.ts'
import type { Client } from '#cluster/http.ts'
import { lines, tooLong } from '#cluster/lines.ts'
import { isOlder, type KindStore } from '#cluster/store.ts'

export interface WatchState {
  watching: boolean
  lastContactMs?: number
  error?: TwillError
}

export interface WatchOptions {
  readonly client: Client
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
  /** Called after each full list. */
  readonly onList: () => void
}

const pageSize = 500
const backoff = { firstMs: 500, maxMs: 30_000 }
/** The server ends each watch after 5 to 10 minutes, so that watches spread over API servers; as client-go. */
const watchSeconds = { least: 300, spread: 300 }
/** So often a list that is older than what was known is asked for again before it is believed. */
const staleLists = 4
/** So many watches that the server refuses one after another, and the version they go on from is taken for wrong. */
const refusedWatches = 3
/** etcd takes 1.5 MB an object; JSON of it may be longer. */
const maxEventBytes = 8 << 20

/** Follows the kind of `store` until abort. Never rejects. */
export async function follow<T>(store: KindStore<T>, state: WatchState, o: WatchOptions): Promise<void> {
  let version: string | undefined
  let newest = ''
  let stale = 0
  let refused = 0
  /** @throws {TwillError} ERR_API_STALE for a list from the past, unless the server insists: then it was restored from a backup. */
  const believe = (listed: string): void => {
    if (isOlder(listed, newest) && ++stale < staleLists) {
      throw clusterError.ERR_API_STALE({ request: `GET ${store.kind.path}`, found: listed, known: newest })
    }
    stale = 0
  }
  let attempt = 0
  while (!o.signal.aborted) {
    try {
      if (version === undefined) {
        version = await list(store, believe, o)
        o.onList()
      }
      const watch = new Watch(store, state, version, o)
      try {
        await watch.run()
      } finally {
        state.watching = false
        version = watch.version
        newest = version
        // A watch that the server ends at once, over and over, must not become a busy loop.
        if (watch.lasted) attempt = refused = 0
      }
      if (!watch.lasted) attempt++
    } catch (error) {
      if (o.signal.aborted) break
      if (isRefusal(error)) refused++
      if (isGone(error) || refused >= refusedWatches) {
        version = undefined
        refused = 0
      }
      attempt++
      note(store, state, error, o)
    }
    if (attempt > 0) await o.clock.sleep(Math.max(backoffMs(attempt, backoff, o.clock), retryAfterMs(state.error)), o.signal)
  }
}

/** Lists everything, page by page. @returns The resource version to watch from. */
async function list<T>(store: KindStore<T>, believe: (version: string) => void, o: WatchOptions): Promise<string> {
  try {
    return await listPages(store, believe, o, pageSize)
  } catch (error) {
    // The server forgot the first page's version before the last page was read: take it in one piece.
    if (isGone(error)) return await listPages(store, believe, o, 0)
    throw error
  }
}

async function listPages<T>(store: KindStore<T>, believe: (version: string) => void, o: WatchOptions, limit: number): Promise<string> {
  const { kind } = store
  const pass = store.beginList()
  let more = ''
  for (;;) {
    const query = new URLSearchParams({ ...kind.query, ...(limit ? { limit: String(limit) } : {}), ...(more ? { continue: more } : {}) })
    const page = (await o.client.json({ method: 'GET', path: `${kind.path}?${query}`, signal: o.signal })) as {
      kind?: unknown
      items?: unknown
      metadata?: { resourceVersion?: unknown; continue?: unknown }
    } | null
    const items = page?.items ?? []
    const version = page?.metadata?.resourceVersion
    // Only a real list may say that an object is gone.
    if (!String(page?.kind).endsWith('List') || !Array.isArray(items) || typeof version !== 'string' || version === '') {
      throw clusterError.ERR_API_ANSWER({
        request: `GET ${kind.path}`,
        found: `kind ${page?.kind}`,
        allowed: 'a list with its resourceVersion',
      })
    }
    for (const item of items) pass.add(item)
    more = typeof page?.metadata?.continue === 'string' ? page.metadata.continue : ''
    if (more === '') {
      believe(version)
      if (!pass.finish(version)) throw clusterError.ERR_API_EMPTY({ request: `GET ${kind.path}` })
      return version
    }
  }
}

/** One watch request, from its start to its end. */
class Watch<T> {
  /** Where the next watch goes on. */
  version: string
  readonly #store: KindStore<T>
  readonly #state: WatchState
  readonly #o: WatchOptions
  #startMs = 0
  #events = 0

  constructor(store: KindStore<T>, state: WatchState, version: string, o: WatchOptions) {
    this.#store = store
    this.#state = state
    this.version = version
    this.#o = o
  }

  /** It told us something, or held for a second. */
  get lasted(): boolean {
    return this.#events > 0 || (this.#startMs > 0 && this.#o.clock.now() - this.#startMs > 1000)
  }

  async run(): Promise<void> {
    const { client, clock, signal, log } = this.#o
    const { kind } = this.#store
    const seconds = Math.round(watchSeconds.least + clock.random() * watchSeconds.spread)
    const query = { ...kind.query, watch: '1', allowWatchBookmarks: 'true', resourceVersion: this.version, timeoutSeconds: String(seconds) }
    const { body } = await client.open({ method: 'GET', path: `${kind.path}?${new URLSearchParams(query)}`, signal })
    this.#startMs = clock.now()
    this.#state.watching = true
    this.#state.lastContactMs = this.#startMs
    if (this.#state.error) log.info({ kind: kind.name }, 'the API server answers again')
    delete this.#state.error
    // The server ends the watch itself; if it does not, the connection is dead.
    const overdue = setTimeout(() => body.destroy(new Error(`a watch of ${seconds} s did not end`)), (seconds + 30) * 1000)
    try {
      for await (const line of lines(body, maxEventBytes)) this.#event(line)
    } catch (cause) {
      if (cause instanceof TwillError) throw cause
      throw clusterError.ERR_API_UNREACHABLE(
        { server: client.server ?? '?', request: `the watch of ${kind.path}`, found: messageOf(cause) },
        cause,
      )
    } finally {
      clearTimeout(overdue)
      body.destroy()
    }
  }

  #event(line: string | typeof tooLong): void {
    this.#state.lastContactMs = this.#o.clock.now()
    this.#events++
    if (line === '') return
    if (line === tooLong) {
      this.#store.noteUnreadable(`an event of more than ${maxEventBytes} bytes`)
      return
    }
    let event: { type?: unknown; object?: unknown } | null
    try {
      event = JSON.parse(line) as typeof event
    } catch {
      this.#store.noteUnreadable(`a line that is no JSON: ${line.slice(0, 40)}`)
      return
    }
    if (event?.type === 'ERROR') throw statusError(event.object, this.#store.kind.path)
    if (event?.type === 'ADDED' || event?.type === 'MODIFIED') this.#store.put(event.object)
    else if (event?.type === 'DELETED') this.#store.delete(event.object)
    else if (event?.type !== 'BOOKMARK') return
    const version = (event.object as { metadata?: { resourceVersion?: unknown } } | null)?.metadata?.resourceVersion
    if (typeof version === 'string' && version !== '' && !isOlder(version, this.version)) this.version = version
  }
}

function statusError(status: unknown, path: string): TwillError {
  const { code, reason, message } = (status ?? {}) as { code?: unknown; reason?: unknown; message?: unknown }
  return clusterError.ERR_API_STATUS({
    request: `the watch of ${path}`,
    status: Number(code) || 0,
    reason: String(reason ?? ''),
    message: String(message ?? ''),
  })
}

const isGone = (error: unknown): boolean => error instanceof TwillError && error.details.status === 410
/** Of the version that was asked for: 504 says that it lies in the future ("Too large resource version"). */
const isRefusal = (error: unknown): boolean => error instanceof TwillError && [400, 500, 504].includes(Number(error.details.status))
const retryAfterMs = (error: TwillError | undefined): number => Math.min(Number(error?.details.retryAfterMs) || 0, backoff.maxMs)

/** Keeps the failure for status; says it once, not at every attempt. */
function note<T>(store: KindStore<T>, state: WatchState, error: unknown, o: WatchOptions): void {
  const known =
    error instanceof TwillError
      ? error
      : clusterError.ERR_API_ANSWER({ request: store.kind.path, found: messageOf(error), allowed: 'a list or watch' }, error)
  if (isGone(known)) {
    o.log.info({ kind: store.kind.name }, 'the server no longer holds our resource version: listing again')
    return
  }
  if (state.error?.message !== known.message) o.log.warn({ kind: store.kind.name, code: known.code, remedy: known.remedy }, known.message)
  state.error = known
}
