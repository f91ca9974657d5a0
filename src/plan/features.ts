/** Doing without what a kernel lacks. */
import type { Feature, Item } from '#model/kernel.ts'

/** Which items can be on a kernel with `features`: without IPv6 (`ipv6.disable=1`) there is nothing to switch off in it, and where tracked
 * connections cannot be listed there is nothing to hold them to. */
export function possibleWith(features: readonly Feature[]): (item: Item) => boolean {
  const lacks = (name: string): boolean => features.some((feature) => feature.name === name && !feature.present)
  const noIpv6 = lacks('ipv6')
  const noConnections = lacks('conntrack-list')
  return (item) =>
    !(noIpv6 && item.kind === 'sysctl' && item.path.startsWith('net/ipv6/')) &&
    !(noConnections && item.kind === 'flows' && item.memory === 'conntrack')
}
