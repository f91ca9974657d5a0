/** What the kernel, or our place in it, may lack, and what is done then. Reads only: an idle restart changes nothing. @module */
import { closeSync, existsSync, readlinkSync } from 'node:fs'
import { release } from 'node:os'
import { SyscallError, sys } from '#kernel/ffi.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE, openNetlink, raiseBuffers } from '#kernel/socket.ts'
import type { Feature } from '#model/kernel.ts'
import { knowsConnections, statsOfConnections } from '#wire/conntrack/messages.ts'
import { decodeMessages, encodeRequests } from '#wire/netlink.ts'

/** Inode of the initial pid namespace (PROC_PID_INIT_INO, linux/proc_ns.h). */
const HOST_PID_NAMESPACE = 'pid:[4026531836]'
/** Nothing that Twill cannot do without is newer: docs/kernel.md lists what it uses, and since when that exists. */
const FLOOR = [5, 15] as const

/** Asks once; nothing of it changes while the agent lives. */
export function probeFeatures(): readonly Feature[] {
  return [
    {
      name: 'kernel-floor',
      what: `Linux ${FLOOR.join('.')} or later`,
      present: isAtLeast(release(), FLOOR),
      otherwise: 'older kernels are not tested; what this one refuses is named below',
    },
    {
      name: 'conntrack-list',
      what: 'tracked connections listed',
      present: canListConnections(),
      otherwise: 'UDP flows to an endpoint that is gone end when they time out (nf_conntrack_netlink is missing)',
    },
    {
      name: 'ipv6',
      what: 'IPv6',
      present: existsSync('/proc/sys/net/ipv6'),
      otherwise: 'settings of IPv6 are left out',
    },
    {
      name: 'large-buffers',
      what: 'large netlink buffers',
      present: canForceBuffers(),
      otherwise: 'buffers of net.core.rmem_max: more bursts of changes end in a full comparison',
    },
    {
      name: 'host-processes',
      what: 'names of the host’s processes',
      present: readlinkSync('/proc/self/ns/pid') === HOST_PID_NAMESPACE,
      otherwise: 'changes by rtnetlink are told with the port id alone; hostPID gives names',
    },
  ]
}

/** SO_RCVBUFFORCE needs CAP_NET_ADMIN in the initial user namespace. */
function canForceBuffers(): boolean {
  const fd = openNetlink(NETLINK_ROUTE)
  try {
    return raiseBuffers(fd)
  } finally {
    closeSync(fd)
  }
}

/** `release` is 6.1.0-50-amd64 or the like. */
export function isAtLeast(release: string, [major, minor]: readonly [number, number]): boolean {
  const [a = 0, b = 0] = release.split('.').map((part) => Number.parseInt(part, 10))
  return a > major || (a === major && b >= minor)
}

/** The kernel answers within send(). */
function canListConnections(): boolean {
  let fd: number | undefined
  try {
    fd = openNetlink(NETLINK_NETFILTER)
    sys.send(fd, encodeRequests([statsOfConnections], 1))
    const answer = new Uint8Array(4096)
    return decodeMessages(answer.subarray(0, Math.max(0, sys.recvNow(fd, answer)))).every(knowsConnections)
  } catch (error) {
    // Without nfnetlink there is no such socket; who needs more of it says so.
    if (error instanceof SyscallError) return false
    throw error
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}
