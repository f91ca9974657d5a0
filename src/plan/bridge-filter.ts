/**
 * Bridged packets through the firewall. A service's endpoint may be on its client's own node: the answer crosses the bridge without
 * being routed, and is translated back (to the address that the client asked) only if the bridge shows it to conntrack.
 */
import type { Finding } from '#model/cluster.ts'
import type { Item } from '#model/kernel.ts'

export const bridgeSysctls = ['net/bridge/bridge-nf-call-iptables', 'net/bridge/bridge-nf-call-ip6tables']

/** Items of owner `bridge-filter`, or the finding that says why there are none.
 * @param loaded  Whether the module br_netfilter is. A container cannot load it. */
export function bridgeFilter(node: string, loaded: boolean): { readonly items: Item[]; readonly findings: Finding[] } {
  if (loaded) return { items: bridgeSysctls.map((path) => ({ kind: 'sysctl', path, value: '1' })), findings: [] }
  const finding: Finding = {
    id: 'br-netfilter-missing',
    severity: 'error',
    subject: `node ${node}`,
    text: `There is no ${bridgeSysctls[0]}: the module br_netfilter is not loaded, so a service does not answer a pod on the node of its endpoint`,
    remedy: 'On the node: modprobe br_netfilter, and have it loaded at boot: echo br_netfilter > /etc/modules-load.d/k8s.conf',
  }
  return { items: [], findings: [finding] }
}
