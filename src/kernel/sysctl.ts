/**
 * Sysctls by path below /proc/sys. /proc/sys/net shows the namespace of the thread that opens it, so all of it is synchronous.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { kernelError } from '#kernel/errors.ts'
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
        writeFileSync(`/proc/sys/${path}`, value)
        return undefined
      } catch (error) {
        return kernelError.ERR_SYSCTL({ path, value }, error)
      }
    }),
  )
}
