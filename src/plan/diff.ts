/** The order of operations. Puts come first, so that an address in use is never bare; within each, what others stand on comes first. */
import { type Item, type LinkItem, type Op, show } from '#model/kernel.ts'

/**
 * A route needs its neighbor first: with none, the kernel broadcasts ARP into the tunnel. nftables comes before the devices, so that
 * no packet of a pod leaves unmasqueraded; a base chain comes after the maps and chains it refers to. A file tells others that all is there.
 */
export function layerOf(item: Item): number {
  switch (item.kind) {
    case 'nft-table':
      return 0
    case 'nft-map':
      return 1
    case 'nft-chain':
      return item.base ? 4 : 2
    case 'nft-element':
      return 3
    case 'link':
      return 5
    case 'sysctl':
      return 6
    case 'port':
      return 7
    case 'address':
      return 8
    case 'neighbor':
      return 9
    case 'fdb':
      return 10
    case 'route':
      return 11
    case 'file':
      return 12
    case 'flows':
      return 13
  }
}

/** Puts by layer, then deletions by layer reversed; within a layer by text, so that one state gives one plan. Flows come last: a
 * datagram between their end and the new rules would start a stale one again. */
export function inOrder(puts: readonly Item[], dels: readonly Item[]): Op[] {
  const sorted = (items: readonly Item[]): Item[] =>
    items
      .map((item) => ({ item, layer: layerOf(item), text: show(item) }))
      .sort((a, b) => a.layer - b.layer || (a.text < b.text ? -1 : 1))
      .map(({ item }) => item)
  const ops: Op[] = [
    ...sorted(puts).map((item): Op => ({ verb: 'put', item })),
    ...sorted(dels)
      .reverse()
      .map((item): Op => ({ verb: 'del', item })),
  ]
  return [...ops.filter(({ item }) => item.kind !== 'flows'), ...ops.filter(({ item }) => item.kind === 'flows')]
}

/** True if `have` is as `wanted` says. Fields of a link that `wanted` leaves out are not ours to judge. */
export function matches(wanted: Item, have: Item): boolean {
  return show(wanted) === show(wanted.kind === 'link' && have.kind === 'link' ? judged(wanted, have) : have)
}

function judged(wanted: LinkItem, { mac, mtu, promisc, vxlan, ...have }: LinkItem): LinkItem {
  return {
    ...have,
    ...(wanted.mac !== undefined && mac !== undefined && { mac }),
    ...(wanted.mtu !== undefined && mtu !== undefined && { mtu }),
    ...(wanted.promisc !== undefined && promisc !== undefined && { promisc }),
    ...(wanted.vxlan !== undefined && vxlan !== undefined && { vxlan }),
  }
}

/** Why the device `have` cannot become `wanted` in place: what differs of the settings that a VXLAN device has for life. */
export function reasonToRemake(wanted: Item, have: Item | undefined): string | undefined {
  if (wanted.kind !== 'link' || have?.kind !== 'link' || !wanted.vxlan || !have.vxlan) return undefined
  const [want, was] = [settingsOf(wanted), settingsOf(have)]
  const differing = Object.keys(want).filter((word) => want[word] !== was[word])
  return differing.length === 0 ? undefined : `made anew: ${differing.map((word) => `${word} is ${was[word]}`).join(', ')}`
}

/** In the words of `show`. */
function settingsOf({ vxlan }: LinkItem): Record<string, string | number | boolean> {
  const { vni: id, local, uplink: dev, port: dstport, learning, gbp } = vxlan!
  return { id, local, dev, dstport, learning, gbp }
}

/** True if a device that was `before` has lost what stood on it by the time it is `after`: made anew, or down in between. */
export function remade(before: LinkItem | undefined, after: LinkItem): boolean {
  return before === undefined || !before.up || reasonToRemake(after, before) !== undefined
}
