/** What the kernel, or our place in it, may lack, and what is done then. Reads only: an idle restart changes nothing. @module */
import { closeSync, existsSync, readlinkSync } from 'node:fs'
import { NETLINK_ROUTE, openNetlink, raiseBuffers } from '#kernel/socket.ts'
import type { Feature } from '#model/kernel.ts'

/** Inode of the initial pid namespace (PROC_PID_INIT_INO, linux/proc_ns.h). */
const HOST_PID_NAMESPACE = 'pid:[4026531836]'

/** Asks once; nothing of it changes while the agent lives. */
export function probeFeatures(): readonly Feature[] {
  return [
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
