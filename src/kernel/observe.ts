/** Reading back: everything in a scope, what the host is attached to, and which way a packet would go. @module */
import { readFileItem } from '#kernel/files.ts'
import { addressItem, linkItem, neighborItem, portItem, routeItem } from '#kernel/items.ts'
import { LinkTable } from '#kernel/links.ts'
import type { NetlinkSocket } from '#kernel/socket.ts'
import { readSysctl } from '#kernel/sysctl.ts'
import type { HostView, Item, Scope } from '#model/kernel.ts'
import { type Address, decodeAddress, dumpAddresses } from '#wire/rtnetlink/address.ts'
import { decodeLink, dumpLinks, type Link } from '#wire/rtnetlink/link.ts'
import { decodeNeighbor, dumpFdb, dumpNeighbors } from '#wire/rtnetlink/neighbor.ts'
import { decodeRoute, dumpRoutes, lookupRoute, type Route, RT_TABLE_MAIN } from '#wire/rtnetlink/route.ts'

/** There as long as br_netfilter is loaded. */
const BRIDGE_FILTER = 'net/bridge/bridge-nf-call-iptables'

const present = <T>(list: readonly (T | undefined)[]): T[] => list.filter((one) => one !== undefined)

async function links(socket: NetlinkSocket): Promise<LinkTable> {
  const table = new LinkTable()
  table.reset((await socket.dump(dumpLinks)).map(decodeLink))
  return table
}

const addresses = async (socket: NetlinkSocket): Promise<Address[]> => present((await socket.dump(dumpAddresses())).map(decodeAddress))

async function routes(socket: NetlinkSocket): Promise<Route[]> {
  const messages = [...(await socket.dump(dumpRoutes(4))), ...(await socket.dump(dumpRoutes(6)))]
  return present(messages.map(decodeRoute)).filter(({ table, cloned }) => table === RT_TABLE_MAIN && !cloned)
}

/** The rtnetlink side of a scope. */
export async function observeRouteSide(socket: NetlinkSocket, scope: Scope): Promise<Item[]> {
  const table = await links(socket)
  const all = [...table.all()]
  const ports = new Map(present(all.map((link) => portItem(link, table, scope.bridges))).map((port) => [port.dev, port]))
  const ours = all.filter(({ name }) => scope.links.includes(name))
  return [
    ...present(all.filter(({ name }) => scope.links.includes(name) || ports.has(name)).map((link) => linkItem(link, table))),
    ...ports.values(),
    ...present((await addresses(socket)).map((address) => addressItem(address, table))).filter(({ dev }) => scope.links.includes(dev)),
    ...present((await routes(socket)).map((route) => routeItem(route, table, scope))),
    ...(await neighbors(socket, ours, table)),
  ]
}

async function neighbors(socket: NetlinkSocket, devices: readonly Link[], table: LinkTable): Promise<Item[]> {
  const out: Item[] = []
  for (const { index, kind } of devices) {
    const messages = await socket.dump(dumpNeighbors(index))
    if (kind === 'vxlan') messages.push(...(await socket.dump(dumpFdb(index))))
    // Filtered again here: a kernel may ignore the filter of a dump.
    const found = messages.map(decodeNeighbor).filter((neighbor) => neighbor.index === index)
    out.push(...present(found.map((neighbor) => neighborItem(neighbor, table))))
  }
  return out
}

export function observeSysctls(paths: readonly string[]): Item[] {
  return paths.flatMap((path) => {
    const value = readSysctl(path)
    return value === undefined ? [] : [{ kind: 'sysctl' as const, path, value }]
  })
}

export const observeFiles = async (paths: readonly string[]): Promise<Item[]> => present(await Promise.all(paths.map(readFileItem)))

/** Links, addresses and routes of the node, for the choice of the interface. */
export async function observeHost(socket: NetlinkSocket): Promise<HostView> {
  const table = await links(socket)
  const name = (index: number): string => table.name(index) ?? ''
  return {
    bridgeFilter: readSysctl(BRIDGE_FILTER) !== undefined,
    links: [...table.all()].map(({ index, name, mtu, mac, up, promisc, kind, master, peer }) => ({
      index,
      name,
      mtu,
      mac,
      up,
      ...(promisc && { promisc }),
      ...(kind !== undefined && { kind }),
      ...(master !== undefined && { master: table.name(master) ?? '' }),
      ...(peer !== undefined && { peer }),
    })),
    addresses: (await addresses(socket)).map(({ index, cidr, scope, permanent, temporary, deprecated }) => ({
      dev: name(index),
      cidr,
      scope,
      permanent,
      temporary,
      deprecated,
    })),
    routes: (await routes(socket))
      .filter(({ type }) => type === 'unicast')
      .map(({ dst, hops, metric }) => ({
        dst,
        hops: hops.map(({ index, via }) => ({ dev: name(index), ...(via !== undefined && { via }) })),
        metric,
      })),
  }
}

/** The way a packet to `ip` would go; undefined if there is none. */
export async function observeRouteTo(
  socket: NetlinkSocket,
  ip: string,
  nameOf: (index: number) => string | undefined,
): Promise<{ readonly dev: string; readonly src?: string; readonly via?: string } | undefined> {
  const [reply] = await socket.request([lookupRoute(ip)])
  const route = reply?.messages[0] && decodeRoute(reply.messages[0])
  const hop = route?.hops[0]
  const dev = hop && nameOf(hop.index)
  if (dev === undefined) return undefined
  return { dev, ...(route?.src !== undefined && { src: route.src }), ...(hop?.via !== undefined && { via: hop.via }) }
}
