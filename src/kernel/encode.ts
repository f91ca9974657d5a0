/**
 * From an op to the messages that carry it out, once the indexes of its devices are known. No socket, no decision: what to do
 * when the kernel says no is the writer's.
 * @module
 */
import type { AddressItem, FdbItem, LinkItem, NeighborItem, Op, PortItem, RouteItem } from '#model/kernel.ts'
import { randomMac } from '#net/mac.ts'
import type { Request } from '#wire/netlink.ts'
import { deleteAddress, newAddress } from '#wire/rtnetlink/address.ts'
import { deleteLink, type NewLink, newLink, setLink, setPort, type VxlanLink } from '#wire/rtnetlink/link.ts'
import { deleteFdb, deleteNeighbor, replaceFdb, replaceNeighbor } from '#wire/rtnetlink/neighbor.ts'
import { deleteRoute, replaceRoute } from '#wire/rtnetlink/route.ts'

/** The items that rtnetlink carries. */
export type RouteSideItem = LinkItem | PortItem | AddressItem | RouteItem | NeighborItem | FdbItem
export type RouteSideOp = Op & { readonly item: RouteSideItem }

export const isRouteSide = (op: Op): op is RouteSideOp => ['link', 'port', 'address', 'route', 'neighbor', 'fdb'].includes(op.item.kind)

/** True for a device that `put` may have to make; others (lo, a veth whose other end made it) exist or the op fails. */
export const isMade = (item: LinkItem): boolean => item.type === 'vxlan' || item.type === 'bridge' || item.peer !== undefined

/** Names of the devices whose indexes the op's messages hold. */
export function devicesOf({ verb, item }: RouteSideOp): readonly string[] {
  switch (item.kind) {
    case 'link':
      return verb === 'put' && item.vxlan ? [item.vxlan.uplink] : []
    case 'port':
      return verb === 'put' ? [item.bridge] : []
    case 'route':
      return item.dev === undefined ? [] : [item.dev]
    default:
      return [item.dev]
  }
}

/** The messages of `op`. `index` answers for every name in `devicesOf`; `peerNetnsFd` is where a veth's peer is born. */
export function encodeOp({ verb, item }: RouteSideOp, index: (name: string) => number, peerNetnsFd?: number): Request[] {
  const put = verb === 'put'
  switch (item.kind) {
    case 'link':
      if (!put) return [deleteLink(item.name)]
      return [isMade(item) ? newLink(toNewLink(item, index, peerNetnsFd)) : setLink(item.name, item)]
    case 'port':
      if (!put) return [setLink(item.dev, { master: 0 })]
      return [setLink(item.dev, { master: index(item.bridge) }), setPort(item.dev, item)]
    case 'address': {
      const address = { ...item, index: index(item.dev) }
      return [put ? newAddress(address) : deleteAddress(address)]
    }
    case 'route': {
      const route = { ...item, index: item.dev === undefined ? undefined : index(item.dev) }
      return [put ? replaceRoute(route) : deleteRoute(route)]
    }
    case 'neighbor': {
      const entry = { index: index(item.dev), ip: item.ip, mac: item.mac }
      return [put ? replaceNeighbor(entry) : deleteNeighbor(entry)]
    }
    case 'fdb': {
      const entry = { index: index(item.dev), ip: item.vtep, mac: item.mac }
      return [put ? replaceFdb(entry) : deleteFdb(entry)]
    }
  }
}

/** A MAC is always set at creation: what udev (MACAddressPolicy) or a bridge's first port would choose later cannot be announced. */
export function toNewLink(item: LinkItem, index: (name: string) => number, peerNetnsFd?: number): NewLink {
  const { name, type, up, promisc, mtu, vxlan, peer } = item
  const mac = item.mac ?? randomMac(Math.random)
  return {
    name,
    kind: type as NewLink['kind'],
    mac,
    up,
    promisc,
    // A bridge's MTU follows its ports' unless it is set once the bridge is there (br_change_mtu): the writer does.
    mtu: type === 'bridge' ? undefined : mtu,
    vxlan: vxlan && toVxlan(vxlan, index),
    ...(peer && { peer: { name: peer.name, mac: peer.mac ?? randomMac(Math.random), mtu: peer.mtu, netnsFd: peerNetnsFd } }),
  }
}

export const toVxlan = (vxlan: NonNullable<LinkItem['vxlan']>, index: (name: string) => number): VxlanLink => ({
  ...vxlan,
  uplink: index(vxlan.uplink),
})
