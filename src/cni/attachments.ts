/**
 * What this agent attached, one file a pod interface, so that the next agent knows its pods and can undo an ADD that the
 * last one did not live to finish.
 *
 *     <dir>/<containerID>-<ifname>.adding   written before the kernel is touched
 *     <dir>/<containerID>-<ifname>.json     renamed to this when everything is in place
 *
 * The directory lies below /run. Files are renamed into place but not synced: when the power fails, /run and the network
 * namespaces they speak of go together.
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { parseJson } from '#cni/json.ts'
import { sweepHalfWritten, writeWhole } from '#cni/whole-file.ts'
import type { Attachment } from '#model/pod.ts'

type Key = Pick<Attachment, 'containerId' | 'ifname'>

/** What is written: the attachment and where its addresses are kept. */
export interface Entry {
  readonly attachment: Attachment
  /** host-local's directory for all networks. */
  readonly dataDir: string
}

const nameOf = (key: Key): string => `${key.containerId}-${key.ifname}`

export class Attachments {
  readonly #dir: string
  readonly #entries = new Map<string, Entry>()

  /** Reads what is there. `unfinished` are the ADDs that were cut off; torn files are no one's and removed. */
  static open(dir: string): { attachments: Attachments; unfinished: Entry[] } {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    sweepHalfWritten(dir) // nothing had been made yet
    const attachments = new Attachments(dir)
    const unfinished: Entry[] = []
    for (const name of readdirSync(dir)) {
      const entry = /\.(json|adding)$/.test(name) ? parseEntry(readFileSync(`${dir}/${name}`, 'utf8')) : undefined
      if (entry === undefined) rmSync(`${dir}/${name}`, { force: true })
      else if (name.endsWith('.adding')) unfinished.push(entry)
      else attachments.#entries.set(nameOf(entry.attachment), entry)
    }
    return { attachments, unfinished }
  }

  private constructor(dir: string) {
    this.#dir = dir
  }

  get(key: Key): Entry | undefined {
    return this.#entries.get(nameOf(key))
  }

  entries(): Entry[] {
    return [...this.#entries.values()]
  }

  /** All that are in place. */
  list(): Attachment[] {
    return [...this.#entries.values()].map((entry) => entry.attachment)
  }

  /** True if a host end of this name belongs to one of them. */
  hasHostEnd(name: string): boolean {
    return this.list().some((one) => one.host.name === name)
  }

  /** Notes what is about to be made. */
  begin(entry: Entry): void {
    writeWhole(`${this.#dir}/${nameOf(entry.attachment)}.adding`, JSON.stringify(entry))
  }

  finish(entry: Entry): void {
    const path = `${this.#dir}/${nameOf(entry.attachment)}`
    renameSync(`${path}.adding`, `${path}.json`)
    this.#entries.set(nameOf(entry.attachment), entry)
  }

  remove(key: Key): void {
    const path = `${this.#dir}/${nameOf(key)}`
    rmSync(`${path}.adding`, { force: true })
    rmSync(`${path}.json`, { force: true })
    this.#entries.delete(nameOf(key))
  }
}

function parseEntry(content: string): Entry | undefined {
  const parsed = parseJson(content)
  const entry = 'value' in parsed ? (parsed.value as Partial<Entry> | null) : undefined
  return typeof entry?.attachment?.containerId === 'string' && typeof entry.dataDir === 'string' ? (entry as Entry) : undefined
}
