/** Doing without what a kernel lacks. */
import type { Feature, Item } from '#model/kernel.ts'

/** Which items can be on a kernel with `features`: without IPv6 (`ipv6.disable=1`) there is nothing to switch off in it. */
export function possibleWith(features: readonly Feature[]): (item: Item) => boolean {
  const noIpv6 = features.some(({ name, present }) => name === 'ipv6' && !present)
  return (item) => !(noIpv6 && item.kind === 'sysctl' && item.path.startsWith('net/ipv6/'))
}
