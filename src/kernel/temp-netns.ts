/**
 * Network namespaces for tests, as a runtime makes them: a file below /run/netns that the namespace is mounted on. Names carry
 * the test's pid, so that what a killed run left is known and swept.
 * @module
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

const DIRECTORY = '/run/netns'
const PREFIX = 'twill-test'
const MS_BIND = 4096
const MNT_DETACH = 2
let made = 0

export interface TempNetns {
  readonly path: string
  remove(): void
}

/** A new, empty namespace: only lo, down. The caller removes it; `sweepTempNetns` removes those of dead processes. */
export function tempNetns(): TempNetns {
  mkdirSync(DIRECTORY, { recursive: true })
  const path = `${DIRECTORY}/${PREFIX}-${process.pid}-${made++}`
  writeFileSync(path, '')
  const home = openSync('/proc/thread-self/ns/net', 'r')
  try {
    sys.unshare(CLONE_NEWNET)
    sys.mount('/proc/thread-self/ns/net', path, '', MS_BIND, '')
  } finally {
    sys.setns(home, CLONE_NEWNET)
    closeSync(home)
  }
  return { path, remove: () => remove(path) }
}

function remove(path: string): void {
  sys.umount2(path, MNT_DETACH)
  rmSync(path)
}

/** Removes what killed test runs left. */
export function sweepTempNetns(): void {
  if (!existsSync(DIRECTORY)) return
  for (const name of readdirSync(DIRECTORY)) {
    const pid = new RegExp(`^${PREFIX}-(\\d+)-\\d+$`).exec(name)?.[1]
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue
    try {
      remove(`${DIRECTORY}/${name}`)
    } catch {
      rmSync(`${DIRECTORY}/${name}`, { force: true }) // it was killed before the mount
    }
  }
}
