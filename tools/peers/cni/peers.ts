/**
 * The plugins that ours are held against: the distribution's (containernetworking-plugins), and v1.9 of the same project, built
 * with Go from the pinned module beside this file into the user's cache, once.
 * @module
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export interface Peer {
  readonly name: string
  /** Directory of its plugins. */
  readonly dir: string
  /** CNI versions it speaks. */
  readonly versions: readonly string[]
}

const upTo10 = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0']
const PINNED = 'v1.9.0'

/** Plugins 1.1.1 in Debian 12. */
export function debian(): Peer | undefined {
  const dir = '/usr/lib/cni'
  return existsSync(`${dir}/bridge`) ? { name: 'debian', dir, versions: upTo10 } : undefined
}

/** What tools/peers/cni/go.mod pins. Undefined where there is no Go, or the module cannot be had. */
export function pinned(): Peer | undefined {
  const dir = join(process.env.XDG_CACHE_HOME || `${process.env.HOME || homedir()}/.cache`, `twill/cni-plugins-${PINNED}`)
  if (!existsSync(dir) && !build(dir)) return undefined
  return { name: PINNED, dir, versions: [...upTo10, '1.1.0'] }
}

/** Builds beside `dir` and renames, so that what bears the name is whole. */
function build(dir: string): boolean {
  const half = `${dir}.${process.pid}`
  mkdirSync(half, { recursive: true })
  const { status } = spawnSync(
    'nice',
    ['-n', '10', 'go', 'build', '-trimpath', '-buildvcs=false', '-mod=readonly', '-o', `${half}/`, 'tool'],
    {
      cwd: import.meta.dirname,
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off' },
    },
  )
  if (status === 0 && !existsSync(dir)) renameSync(half, dir)
  rmSync(half, { recursive: true, force: true })
  return existsSync(dir)
}
