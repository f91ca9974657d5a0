/**
 * Sysctls by path below /proc/sys. /proc/sys/net shows the namespace of the thread that opens it, so all of it is synchronous.
 * @module
 */
import { closeSync, constants, openSync, readFileSync, writeFileSync } from 'node:fs'
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
export function writeSysctls(netns: string, items: readonly SysctlItem[]): (Error | undefined)[] {
  return withNetns(netns, () => items.map((item) => writeAt(`/proc/sys/${item.path}`, item)))
}

/** Sysctls of the namespace that the main thread is in. Their directory is kept open: all namespaces' directories of one name lie
 * in one hash chain of the kernel (fs/proc/proc_sysctl.c), at whose far end the oldest is, so that with 200 pods each walk from
 * /proc/sys takes 0.2 ms. */
export class HomeSysctls {
  readonly #families = new Map<string, number>()

  write(items: readonly SysctlItem[]): (Error | undefined)[] {
    return items.map((item) => {
      try {
        return writeAt(this.#pathOf(item.path), item)
      } catch (error) {
        return kernelError.ERR_SYSCTL({ path: item.path, value: item.value }, error)
      }
    })
  }

  /** The same file, by way of the open directory of its address family. */
  #pathOf(path: string): string {
    const [, family, rest] = /^(net\/ipv[46])\/(.+)$/.exec(path) ?? []
    if (family === undefined || rest === undefined) return `/proc/sys/${path}`
    let fd = this.#families.get(family)
    if (fd === undefined) {
      fd = openSync(`/proc/sys/${family}`, constants.O_RDONLY | constants.O_DIRECTORY)
      this.#families.set(family, fd)
    }
    return `/proc/self/fd/${fd}/${rest}`
  }

  close(): void {
    for (const fd of this.#families.values()) closeSync(fd)
  }
}

function writeAt(file: string, { path, value }: SysctlItem): Error | undefined {
  try {
    write(file, value)
    return undefined
  } catch (error) {
    return kernelError.ERR_SYSCTL({ path, value }, error)
  }
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
