/**
 * Carries out rtnetlink ops in one namespace: as few sends as order allows, one outcome an op, on past failures.
 *
 * A send ends where the next op needs the index of a device that the pending ones make; nothing else splits a batch but
 * its size. Where `put` meets an object that is there but different, and the kernel cannot replace it in one message (a
 * link, an IPv4 address), the writer reads it back and turns it into what is wanted.
 * @module
 */
import { closeSync, openSync } from 'node:fs'
import { devicesOf, encodeOp, isMade, type RouteSideOp, toNewLink, toVxlan } from '#kernel/encode.ts'
import { kernelError } from '#kernel/errors.ts'
import { SyscallError } from '#kernel/ffi.ts'
import type { LinkTable } from '#kernel/links.ts'
import { EEXIST, refusalOf } from '#kernel/refusal.ts'
import type { NetlinkSocket, Reply } from '#kernel/socket.ts'
import { type AddressItem, type LinkItem, showOp } from '#model/kernel.ts'
import type { Request } from '#wire/netlink.ts'
import { decodeAddress, deleteAddress, dumpAddresses, newAddress } from '#wire/rtnetlink/address.ts'
import { decodeLink, deleteLink, getLink, type Link, type LinkChange, newLink, setLink } from '#wire/rtnetlink/link.ts'

/** Messages in one send: their acks fit into the receive buffer many times over, and the rtnl lock is let go in between. */
const BATCH = 300

export interface Site {
  readonly socket: NetlinkSocket
  /** Devices of the socket's namespace. */
  readonly links: LinkTable
  /** The namespace's path; absent for the agent's own. */
  readonly netns: string | undefined
}

export interface Home {
  /** Devices of the namespace at a path, as far as this apply knows; of the agent's own without one. */
  linksOf(netns: string | undefined): LinkTable
  /** The agent's own namespace, as a descriptor: where the host ends of pods' veths are born. */
  readonly netnsFd: number
  /** Called with the number of mutating messages sent. */
  count(messages: number): void
}

interface Step {
  readonly at: number
  readonly requests: readonly Request[]
  /** Namespace of a veth's peer, opened for this message. */
  readonly opened?: number
}

export class RouteWriter {
  readonly #site: Site
  readonly #home: Home
  #ops: readonly RouteSideOp[] = []
  #errors: (Error | undefined)[] = []
  #steps: Step[] = []
  #pending = 0

  constructor(site: Site, home: Home) {
    this.#site = site
    this.#home = home
  }

  /** @returns an error, or undefined, an op, in order. Deleting links one by one waits 16 ms each: see reaper.ts. */
  async apply(ops: readonly RouteSideOp[]): Promise<(Error | undefined)[]> {
    this.#ops = ops
    this.#errors = ops.map(() => undefined)
    for (const [at, op] of ops.entries()) {
      if (this.#unknown([op]).length > 0) await this.#flush()
      if (this.#unknown([op]).length > 0) await this.#lookUp(this.#unknown(ops.slice(at)))
      const [dev] = this.#unknown([op])
      if (dev !== undefined) {
        // What stands on a device dies with it, so there is nothing left to delete.
        if (op.verb === 'put') this.#errors[at] = kernelError.ERR_DEVICE_MISSING({ op: showOp(op), dev })
        continue
      }
      this.#push(at, op)
      if (this.#pending >= BATCH || this.#mayMoveIndex(op)) await this.#flush()
    }
    await this.#flush()
    return this.#errors
  }

  #makes({ verb, item }: RouteSideOp): boolean {
    return verb === 'put' && item.kind === 'link' && isMade(item)
  }

  /** A device of this name may exist and be made anew. A veth is not: what follows may go along, by name. */
  #mayMoveIndex(op: RouteSideOp): boolean {
    return this.#makes(op) && op.item.kind === 'link' && op.item.peer === undefined
  }

  #index = (name: string): number => this.#site.links.index(name) ?? 0

  #unknown(ops: readonly RouteSideOp[]): string[] {
    const names = new Set(ops.flatMap(devicesOf))
    return [...names].filter((name) => this.#site.links.index(name) === undefined)
  }

  #push(at: number, op: RouteSideOp): void {
    try {
      const opened = this.#openPeerNetns(op)
      const fd = opened ?? (this.#peerAtHome(op) ? this.#home.netnsFd : undefined)
      const requests = encodeOp(op, this.#index, fd)
      // The new device's index, and its peer's, come back in the same send.
      if (this.#makes(op)) requests.push(getLink((op.item as LinkItem).name))
      this.#steps.push({ at, requests, ...(opened !== undefined && { opened }) })
      this.#pending += requests.length
    } catch (error) {
      this.#errors[at] = error as Error
    }
  }

  #peerAtHome({ item }: RouteSideOp): boolean {
    return item.kind === 'link' && item.peer !== undefined && item.peer.netns === undefined && this.#site.netns !== undefined
  }

  #openPeerNetns({ item }: RouteSideOp): number | undefined {
    const path = item.kind === 'link' ? item.peer?.netns : undefined
    if (path === undefined || path === this.#site.netns) return undefined
    try {
      return openSync(path, 'r')
    } catch (error) {
      throw kernelError.ERR_NETNS({ path }, error)
    }
  }

  async #flush(): Promise<void> {
    const steps = this.#steps
    if (steps.length === 0) return
    this.#steps = []
    this.#pending = 0
    const replies = await this.#request(steps.flatMap((step) => step.requests))
    let next = 0
    for (const { at, requests, opened } of steps) {
      await this.#settle(at, replies.slice(next, next + requests.length))
      next += requests.length
      if (opened !== undefined) closeSync(opened)
    }
  }

  /** A send that fails as a whole is an answer to each of its messages. */
  async #request(requests: readonly Request[]): Promise<Reply[]> {
    this.#home.count(requests.filter(({ type }) => !isGet(type)).length)
    try {
      return await this.#site.socket.request(requests)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return requests.map(() => ({ errno: error.errno, message: 'the batch was not sent', messages: [] }))
    }
  }

  async #settle(at: number, replies: readonly Reply[]): Promise<void> {
    const op = this.#ops[at]!
    const { item } = op
    const refused = replies.find(({ errno }) => errno !== 0)
    const made = item.kind === 'link' && this.#makes(op)
    if (op.verb === 'put' && refused?.errno === EEXIST && (made || item.kind === 'address')) {
      this.#errors[at] = await (item.kind === 'link' ? this.#reshape(op, item, replies) : this.#readdress(op, item as AddressItem))
      return
    }
    if (made && !refused) this.#learn(item, replies)
    this.#errors[at] = refused ? refusalOf(op, refused) : await this.#setBridgeMtu(op)
  }

  async #setBridgeMtu(op: RouteSideOp): Promise<Error | undefined> {
    const { item } = op
    if (op.verb === 'del' || item.kind !== 'link' || item.type !== 'bridge' || item.mtu === undefined) return undefined
    const [reply] = await this.#request([setLink(item.name, { mtu: item.mtu })])
    return refusalOf(op, reply!)
  }

  /** Notes the index of a device just made, and of its peer where the peer was born. */
  #learn(item: LinkItem, replies: readonly Reply[]): void {
    const link = linkIn(replies)
    if (!link) return
    this.#site.links.learn(item.name, link.index)
    if (!item.peer || link.peer === undefined) return
    const born = item.peer.netns === this.#site.netns ? this.#site.links : this.#home.linksOf(item.peer.netns)
    born.learn(item.peer.name, link.peer)
  }

  /** True if `link`'s other end is the device that `peer` names; also where that namespace is not in view. */
  #isPeer(peer: NonNullable<LinkItem['peer']>, link: Link): boolean {
    if (peer.netns === undefined) return this.#home.linksOf(undefined).index(peer.name) === link.peer
    return peer.netns !== this.#site.netns || this.#site.links.index(peer.name) === link.peer
  }

  /** The name is taken: change in place what can be, make anew a VXLAN device of other settings, leave a foreign device alone. */
  async #reshape(op: RouteSideOp, item: LinkItem, replies: readonly Reply[]): Promise<Error | undefined> {
    const link = linkIn(replies)
    // The device's name is free: it is its peer's, or another VXLAN device with this VNI and port, that exists.
    if (!link) return kernelError.ERR_NAME_TAKEN({ op: showOp(op) })
    if (link.kind !== item.type)
      return kernelError.ERR_DEVICE_FOREIGN({ name: item.name, found: link.kind ?? 'hardware', wanted: item.type })
    // A pair is made whole or not at all: a device of this name with another peer is someone else's.
    if (item.peer && !this.#isPeer(item.peer, link)) return kernelError.ERR_NAME_TAKEN({ op: showOp(op) })
    this.#learn(item, replies)
    const again =
      item.vxlan && !sameVxlan(item, link, this.#index)
        ? [deleteLink(item.name), newLink(toNewLink(item, this.#index)), getLink(item.name)]
        : [setLink(link.index, differences(item, link))]
    const results = await this.#request(again)
    const refused = results.find(({ errno }) => errno !== 0)
    if (!refused) this.#learn(item, results)
    return refused && refusalOf(op, refused)
  }

  /** The address is there: right, or with another broadcast address, which only a new one changes. */
  async #readdress(op: RouteSideOp, item: AddressItem): Promise<Error | undefined> {
    const index = this.#index(item.dev)
    const found = (await this.#site.socket.dump(dumpAddresses(index)))
      .map(decodeAddress)
      .find((a) => a?.index === index && a.cidr === item.cidr)
    if (found?.broadcast === item.broadcast) return undefined
    const address = { ...item, index }
    const refused = (await this.#request([deleteAddress(address), newAddress(address)])).find(({ errno }) => errno !== 0)
    return refused && refusalOf(op, refused)
  }

  async #lookUp(names: readonly string[]): Promise<void> {
    const replies = await this.#request(names.map(getLink))
    for (const [i, name] of names.entries()) {
      const link = linkIn([replies[i]!])
      if (link) this.#site.links.learn(name, link.index)
    }
  }
}

/** RTM_GET* are the third of every four (NEW, DEL, GET, SET). */
const isGet = (type: number): boolean => (type & 3) === 2

function linkIn(replies: readonly Reply[]): Link | undefined {
  const message = replies.flatMap(({ messages }) => messages)[0]
  return message && decodeLink(message)
}

function sameVxlan(item: LinkItem, { vxlan: have }: Link, index: (name: string) => number): boolean {
  const want = toVxlan(item.vxlan!, index)
  return (
    have !== undefined &&
    have.vni === want.vni &&
    have.port === want.port &&
    have.local === want.local &&
    have.uplink === want.uplink &&
    have.learning === want.learning &&
    have.gbp === want.gbp
  )
}

/** Only what differs: a MAC that is set, even to what it was, is announced to the whole bridge. */
function differences(item: LinkItem, link: Link): LinkChange {
  return {
    up: item.up,
    ...(item.mac !== undefined && item.mac !== link.mac && { mac: item.mac }),
    ...(item.mtu !== undefined && item.mtu !== link.mtu && { mtu: item.mtu }),
    ...(item.promisc !== undefined && item.promisc !== link.promisc && { promisc: item.promisc }),
  }
}
