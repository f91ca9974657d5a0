/** What the kernel may refuse, and the way out. `refusal.ts` picks among these by errno and by what was asked. @module */
import { errorTable } from '#base/errors.ts'

export const kernelError = errorTable({
  ERR_NETNS: {
    text: (d: { path: string }) => `Cannot enter the network namespace ${d.path}`,
    remedy: 'It is gone, or this process lacks CAP_SYS_ADMIN or does not see the path (in a container: mount /run/netns HostToContainer).',
  },
  ERR_NETLINK_SOCKET: {
    text: (d: { protocol: number }) => `Cannot open a netlink socket of protocol ${d.protocol}`,
    remedy: 'Protocol 0 is rtnetlink, 12 nf_tables (CONFIG_NF_TABLES). Raising the buffers needs CAP_NET_ADMIN.',
  },
  ERR_NETLINK_DUMP: {
    text: (d: { type: number; reason: string }) => `The kernel did not complete the dump of message type ${d.type}: ${d.reason}`,
    remedy: 'The next pass tries again. If it stays, compare with `ip`, `bridge` or `nft` on the node and report the kernel version.',
  },
})
