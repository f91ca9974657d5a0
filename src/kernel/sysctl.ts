/**
 * Sysctls by path below /proc/sys. /proc/sys/net shows the namespace of the thread that opens it, so all of it is synchronous.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { kernelError } from '#kernel/errors.ts'
import { sys } from '#kernel/ffi.ts'
import { withNetns } from '#kernel/netns.ts'
import type { SysctlItem } from '#model/kernel.ts'

/** The value, its inner whitespace single blanks; undefined if there is no such sysctl. */
export function readSysctl(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim().replace(/\s+/g, ' ')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes each item, all of one namespace in one visit. One error (or undefined) an item, in order. */
export function writeSysctls(netns: string | undefined, items: readonly SysctlItem[]): (Error | undefined)[] {
  return withNetns(netns, () =>
    items.map(({ path, value }) => {
      try {
        write(`/proc/sys/${path}`, value)
        return undefined
      } catch (error) {
        return kernelError.ERR_SYSCTL({ path, value }, error)
      }
    }),
  )
}

const MS_REMOUNT = 32
const MS_BIND = 4096

/** An unprivileged container finds /proc/sys mounted read-only over itself. With CAP_SYS_ADMIN that mount, which is this mount
 * namespace's own, can be opened again; nothing outside of the container changes. */
function write(path: string, value: string): void {
  try {
    writeFileSync(path, value)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EROFS') throw error
    sys.mount('none', '/proc/sys', '', MS_REMOUNT | MS_BIND, '')
    writeFileSync(path, value)
  }
}
