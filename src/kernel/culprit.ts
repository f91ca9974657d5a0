/** Who caused an rtnetlink notification: its port id is a pid, for the first netlink socket of a process. @module */
import { readFileSync } from 'node:fs'
import { isOwnPort } from '#kernel/socket.ts'
import type { Culprit } from '#model/kernel.ts'
import type { Message } from '#wire/netlink.ts'

/** PID_MAX_LIMIT of Linux. A larger port id is one that the kernel made up, for a process's second socket. */
const PID_MAX = 1 << 22

/** As a part of a `Change`: empty for changes of the kernel's own and of ours; the name is there while the process lives. */
export function culpritOf({ pid: port }: Message): { by?: Culprit } {
  if (port === 0 || isOwnPort(port)) return {}
  if (port > PID_MAX) return { by: { port } }
  // A pid of another namespace that happens to be ours as well: it was not us.
  if (port === process.pid) return { by: { pid: port } }
  try {
    return { by: { pid: port, process: readFileSync(`/proc/${port}/comm`, 'utf8').trim() } }
  } catch {
    return { by: { pid: port } }
  }
}
