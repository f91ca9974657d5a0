/** Who caused an rtnetlink notification: its port id is a pid, for the first netlink socket of a process. @module */
import { readFileSync } from 'node:fs'
import { isOwnPort } from '#kernel/socket.ts'
import type { Culprit } from '#model/kernel.ts'
import type { Message } from '#wire/netlink.ts'

/** PID_MAX_LIMIT of Linux. A larger port id is one that the kernel made up, for a process's second socket. */
const PID_MAX = 1 << 22

/** As a part of a `Change`: empty for changes of the kernel's own and of ours; the name is there while the process lives. */
export function culpritOf({ pid }: Message): { by?: Culprit } {
  if (pid === 0 || isOwnPort(pid)) return {}
  if (pid > PID_MAX) return { by: {} }
  try {
    return { by: { pid, process: readFileSync(`/proc/${pid}/comm`, 'utf8').trim() } }
  } catch {
    return { by: { pid } }
  }
}
