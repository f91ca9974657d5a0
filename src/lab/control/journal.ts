/**
 * The store's memory over a kill: one file, rewritten whole and put in place by rename, soon after each change.
 *
 * A control plane killed with -9 loses at most the last fifth of a second. So that nobody who saw more than what was saved mistakes the
 * past for the present, a restarted store leaps ahead with its resourceVersions: every older watch gets 410 and lists again.
 * @module
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '#base/errors.ts'
import type { MemoryStore, Snapshot } from '#lab/control/store.ts'

const saveAfterMs = 200
const leap = 100_000

export interface Journal {
  /** Whether a former life was found. */
  readonly restored: boolean
  /** Saves now and no more. */
  close(): void
}

/** Restores `store` from `dir`, if something is there, and keeps saving it there. */
export function openJournal(store: MemoryStore, dir: string): Journal {
  const file = join(dir, 'cluster.json')
  const restored = existsSync(file)
  if (restored) {
    const { resourceVersion, objects } = JSON.parse(readFileSync(file, 'utf8')) as Snapshot
    store.restore({ resourceVersion: resourceVersion + leap, objects })
  }
  let timer: NodeJS.Timeout | undefined
  let saving = false
  const later = () => {
    timer ??= setTimeout(() => void save(), saveAfterMs).unref()
  }
  const text = () => JSON.stringify(store.snapshot())
  async function save(): Promise<void> {
    timer = undefined
    if (saving) return later()
    saving = true
    try {
      await writeFile(`${file}.new`, text(), { mode: 0o600 })
      await rename(`${file}.new`, file)
    } catch (error) {
      // The cluster lives in memory: a full disk takes away its second life, not this one.
      process.emitWarning(`The lab's cluster could not be saved in ${file}: ${messageOf(error)}`)
    } finally {
      saving = false
    }
  }
  store.onChange = later
  return {
    restored,
    close() {
      clearTimeout(timer)
      store.onChange = undefined
      writeFileSync(`${file}.last`, text(), { mode: 0o600 })
      renameSync(`${file}.last`, file)
    },
  }
}
