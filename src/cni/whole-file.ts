/**
 * Files that are there whole or not at all: written beside under a name of their own, then renamed into place. Not synced: what is
 * kept this way speaks of network namespaces, which end with the power.
 * @module
 */
import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'

const TEMP = '.tmp-'
const tempOf = (path: string): string => `${dirname(path)}/${TEMP}${basename(path)}`

/** Writes `content` to `path`, mode 0600. A write that failed (a full disk) leaves nothing. */
export function writeWhole(path: string, content: string): void {
  const temp = tempOf(path)
  try {
    writeFileSync(temp, content, { mode: 0o600 })
    renameSync(temp, path)
  } catch (error) {
    rmSync(temp, { force: true })
    throw error
  }
}

/** Removes what writers that were killed left half written in `dir`.
 * @param olderThanMs  Others who write there need no longer for it. */
export function sweepHalfWritten(dir: string, olderThanMs = 0): void {
  for (const path of namesIn(dir).flatMap((name) => (name.startsWith(TEMP) ? `${dir}/${name}` : []))) {
    const since = olderThanMs === 0 ? 0 : statSync(path, { throwIfNoEntry: false })?.mtimeMs
    if (since !== undefined && Date.now() - since >= olderThanMs) rmSync(path, { force: true })
  }
}

/** Names of what is whole in `dir`; none if there is no such directory. */
export const wholeFiles = (dir: string): string[] => namesIn(dir).filter((name) => !name.startsWith(TEMP))

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
