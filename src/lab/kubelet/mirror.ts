/** A copy of a collection of the API, kept by list and watch. */
import type { Api } from '#lab/api.ts'
import type { Meta } from '#lab/kubelet/types.ts'

export interface Stored {
  metadata: Meta
}

interface WatchEvent<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  object: T & { code?: number; message?: string }
}

/** A copy of a collection, kept by list and watch. `onChange` is called with each object that came, changed (new) or went (gone). */
export class Mirror<T extends Stored> {
  readonly objects = new Map<string, T>()
  #synced = false
  readonly #api: Api
  readonly #path: string
  readonly #onChange: (object: T, gone: boolean) => void
  readonly #onSync: () => void

  /** @param path  The collection with its selectors: /api/v1/pods?fieldSelector=… */
  constructor(api: Api, path: string, onChange: (object: T, gone: boolean) => void = () => {}, onSync: () => void = () => {}) {
    this.#api = api
    this.#path = path
    this.#onChange = onChange
    this.#onSync = onSync
  }

  /** The first list has arrived. */
  get synced(): boolean {
    return this.#synced
  }

  get(namespace: string, name: string): T | undefined {
    return this.objects.get(`${namespace}/${name}`)
  }

  /** Lists, watches, and does so again after each end, until abort. `onTrouble` hears why the API could not be reached. */
  async run(signal: AbortSignal, onTrouble: (error: unknown) => void): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        const version = await this.#list()
        failures = 0
        await this.#follow(version, signal)
      } catch (error) {
        if (signal.aborted) return
        onTrouble(error)
        await new Promise((resolve) => setTimeout(resolve, Math.min(100 * 2 ** failures++, 2000) * (0.5 + Math.random() / 2)))
      }
    }
  }

  async #list(): Promise<string> {
    const list = await this.#api.get<{ metadata: { resourceVersion: string }; items: T[] }>(this.#path)
    const now = new Set<string>()
    for (const object of list.items) {
      now.add(this.#key(object))
      this.#put(object)
    }
    for (const [key, object] of this.objects) if (!now.has(key)) this.#drop(object)
    this.#synced = true
    this.#onSync()
    return list.metadata.resourceVersion
  }

  async #follow(version: string, signal: AbortSignal): Promise<void> {
    const and = this.#path.includes('?') ? '&' : '?'
    const path = `${this.#path}${and}watch=true&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=`
    for (let since = version; ; ) {
      let answered = false
      for await (const event of this.#api.watch<WatchEvent<T>>(path + since, signal, 620_000)) {
        answered = true
        if (event.type === 'ERROR') return // 410: what we knew is too old; list again
        since = event.object.metadata.resourceVersion ?? since
        if (event.type === 'DELETED') this.#drop(event.object)
        else if (event.type !== 'BOOKMARK') this.#put(event.object)
      }
      if (!answered) return
    }
  }

  #key = (object: T): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`

  #put(object: T): void {
    const key = this.#key(object)
    if (this.objects.get(key)?.metadata.resourceVersion === object.metadata.resourceVersion) return
    this.objects.set(key, object)
    this.#onChange(object, false)
  }

  #drop(object: T): void {
    if (this.objects.delete(this.#key(object))) this.#onChange(object, true)
  }
}
