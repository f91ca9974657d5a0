/**
 * Puts the shim in place of the plugins. flannel, portmap and loopback are always ours; bridge and host-local, which other
 * networks of the node may use, only where there are none. Another maker's file is kept beside as `<name>.before-twill`.
 * Each file is written whole (temp, fsync, rename): a runtime that execs it at this moment gets the old one or the new one.
 * @module
 */
import { closeSync, existsSync, fsyncSync, linkSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { cniError } from '#cni/errors.ts'

const ours = ['flannel', 'portmap', 'loopback'] as const
const whereAbsent = ['bridge', 'host-local'] as const
/** In every shim of every version (shim/twill-cni.c, `marker`). */
const MARKER = Buffer.from('twill-cni shim ')
/** What another maker's file is called beside ours, after its name. */
export const SAVED = '.before-twill'

export interface Installed {
  readonly path: string
  /** `kept`: another maker's plugin stays, since other networks may need it. `current`: this shim was there already. */
  readonly action: 'installed' | 'updated' | 'replaced' | 'current' | 'kept'
  /** Where the file that was replaced is now. */
  readonly saved?: string
}

/** @param shim  The built binary (dist/shim/twill-cni).
 * @param binDir  /opt/cni/bin; made if absent.
 * @throws {TwillError} ERR_SHIM_MISSING */
export function installShim(shim: string, binDir: string): Installed[] {
  const done = planShim(shim, binDir)
  const binary = readFileSync(shim)
  mkdirSync(binDir, { recursive: true, mode: 0o755 })
  for (const { path, action, saved } of done) {
    if (saved !== undefined) {
      rmSync(saved, { force: true }) // an older original: the file that is in use now is the one to go back to
      linkSync(path, saved)
    }
    if (action !== 'current' && action !== 'kept') writeWhole(path, binary)
  }
  syncDirectory(binDir)
  return done
}

/** What `installShim` would do. */
export function planShim(shim: string, binDir: string): Installed[] {
  const binary = readOrNothing(shim)
  if (!binary?.includes(MARKER)) throw cniError.ERR_SHIM_MISSING({ path: shim })
  return [
    ...ours.map((name) => planOne(binary, `${binDir}/${name}`, true)),
    ...whereAbsent.map((name) => planOne(binary, `${binDir}/${name}`, false)),
  ]
}

function planOne(binary: Buffer, path: string, replace: boolean): Installed {
  const there = readOrNothing(path)
  if (there === undefined) return { path, action: 'installed' }
  if (there.equals(binary)) return { path, action: 'current' }
  if (there.includes(MARKER)) return { path, action: 'updated' }
  return replace ? { path, action: 'replaced', saved: `${path}${SAVED}` } : { path, action: 'kept' }
}

/** True if the plugin at `path` is a shim of ours, of whatever version. */
export const isOurShim = (path: string): boolean => readOrNothing(path)?.includes(MARKER) ?? false

/** Takes the shim away and puts back what it replaced. Another maker's files are left alone. */
export function uninstallShim(binDir: string): void {
  for (const name of [...ours, ...whereAbsent]) {
    const path = `${binDir}/${name}`
    if (!isOurShim(path)) continue
    if (existsSync(`${path}${SAVED}`)) renameSync(`${path}${SAVED}`, path)
    else rmSync(path)
  }
  if (existsSync(binDir)) syncDirectory(binDir)
}

function writeWhole(path: string, binary: Buffer): void {
  const temp = `${path}.twill-tmp`
  rmSync(temp, { force: true })
  writeFileSync(temp, binary, { mode: 0o755, flush: true })
  renameSync(temp, path)
}

function syncDirectory(dir: string): void {
  const fd = openSync(dir, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function readOrNothing(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
