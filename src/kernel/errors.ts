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
  ERR_FEATURE_MISSING: {
    text: (d: { op: string; module: string }) => `Cannot ${d.op}: this kernel has no ${d.module} module`,
    remedy: 'Load it (modprobe) or install the kernel package that holds it, or set a Backend.Type in net-conf.json that this kernel has.',
  },
  ERR_NOT_PERMITTED: {
    text: (d: { op: string }) => `Cannot ${d.op}: not permitted`,
    remedy: 'Run as root or with CAP_NET_ADMIN in the namespace concerned; sysctls also need a writable /proc/sys.',
  },
  ERR_DEVICE_MISSING: {
    text: (d: { op: string; dev: string }) => `Cannot ${d.op}: there is no device ${d.dev}`,
    remedy: 'It vanished or was never made. The next pass makes what is ours; an uplink must be brought back (ip link).',
  },
  ERR_DEVICE_DOWN: {
    text: (d: { op: string; dev: string }) => `Cannot ${d.op}: device ${d.dev} is down`,
    remedy: 'Bring it up (ip link set dev … up). The next pass does so for devices that are ours.',
  },
  ERR_DEVICE_FOREIGN: {
    text: (d: { name: string; found: string; wanted: string }) =>
      `Cannot use the name ${d.name} for a ${d.wanted} device: a ${d.found} device has it`,
    remedy: 'It is not ours, so it stays. Rename or delete it (ip link), or choose another VNI or bridge name.',
  },
  ERR_NAME_TAKEN: {
    text: (d: { op: string }) => `Cannot ${d.op}: something with this identity exists already`,
    remedy:
      'For a veth its other end has the name of another device; for a VXLAN device another one has the same VNI and port. Delete that one.',
  },
  ERR_GATEWAY_UNREACHABLE: {
    text: (d: { op: string; via: string }) => `Cannot ${d.op}: the gateway ${d.via} is on no network that this host is attached to`,
    remedy: 'The nodes must share a layer 2 network for such routes (host-gw, DirectRouting). Else use the vxlan backend.',
  },
  ERR_ACK_LOST: {
    text: (d: { op: string }) => `Cannot tell what became of: ${d.op}. The kernel dropped its answer (receive buffer full)`,
    remedy: 'The next pass reads the state back and does what is missing.',
  },
  ERR_KERNEL_REFUSED: {
    text: (d: { op: string; code: string; reason: string }) => `Cannot ${d.op}: ${d.code}${d.reason === '' ? '' : `, ${d.reason}`}`,
    remedy: "The reason is the kernel's own. Try the same with `ip` or `bridge`; if it works there, report it with `uname -r`.",
  },
  ERR_SYSCTL: {
    text: (d: { path: string; value: string }) => `Cannot set the sysctl ${d.path} to ${d.value}`,
    remedy:
      'Without this entry the feature is not in the kernel; if /proc/sys is read-only, run the agent privileged or set it on the host.',
  },
  ERR_FILE: {
    text: (d: { verb: string; path: string }) => `Cannot ${d.verb} the file ${d.path}`,
    remedy: "See the cause: the directory must be writable, not full, and mounted into the agent's container from the host.",
  },
  ERR_OFFLOAD: {
    text: (d: { dev: string; reason: string }) => `Cannot change checksum offload of ${d.dev}: ${d.reason}`,
    remedy: 'Name a device of this node (ip link), as root. Linux 5.7 and later have this; `ethtool -K` asks older ones too.',
  },
  ERR_NFT_REFUSED: {
    text: (d: { op: string; reason: string }) => `The kernel refuses to ${d.op}: ${d.reason}`,
    remedy: 'The next pass tries again. If it stays, look at `nft list ruleset` on the node, and at the loaded nft_* modules.',
  },
  ERR_NFT_NO_MAP: {
    text: (d: { op: string; map: string }) => `Cannot ${d.op}: there is no map ${d.map}`,
    remedy: 'The next pass makes the map. If it stays, somebody keeps deleting it: `nft monitor` shows who.',
  },
  ERR_NFT_BUSY: {
    text: (d: { tries: number }) => `Cannot read the nftables tables in one piece: they changed during each of ${d.tries} tries`,
    remedy: 'Some program changes nftables all the time: `nft monitor` shows which. The next pass tries again.',
  },
  ERR_REFERENCE_RULES: {
    text: (d: { containerId: string; reason: string }) =>
      `Cannot handle the iptables or nft rules that the reference plugins made for container ${d.containerId}: ${d.reason}`,
    remedy:
      'The runtime repeats DEL. If it stays, see `iptables-save -t nat` for the chains CNI-DN-…, and whether another program holds them.',
  },
  ERR_LOCK_HELD: {
    text: (d: { path: string; seconds: number }) => `${d.path} is locked by another process, for ${d.seconds} s by now`,
    remedy: 'See who holds it (fuser -v on that file): a CNI plugin that hangs. End it, then run this again.',
  },
})
