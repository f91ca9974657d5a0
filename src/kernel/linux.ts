/**
 * The real kernel behind the `Kernel` interface: sorts ops to who carries them out, one apply at a time.
 *
 * Ops keep their order. What lies next to each other and goes the same way goes together: the rtnetlink ops of one
 * namespace in few sends, the nf_tables ops in one transaction, deletions of links through one group.
 *
 * An apply that only deletes links of the agent's namespace follows the applies before it and holds up none after it, save those that
 * name its devices: so the pods of a burst go in groups, and wait for the kernel together (reaper.ts).
 * @module
 */
import { closeSync, openSync } from 'node:fs'
import { isRouteSide, type RouteSideOp } from '#kernel/encode.ts'
import { errandOf } from '#kernel/errand.ts'
import { kernelError } from '#kernel/errors.ts'
import { probeFeatures } from '#kernel/features.ts'
import { deleteFile, writeFileItem } from '#kernel/files.ts'
import { Flows } from '#kernel/flows.ts'
import { LinkTable } from '#kernel/links.ts'
import { Monitor } from '#kernel/monitor.ts'
import { openNft } from '#kernel/nft.ts'
import { observeFiles, observeHost, observeRouteSide, observeRouteTo, observeSysctls } from '#kernel/observe.ts'
import { deleteLinks, Reaper } from '#kernel/reaper.ts'
import { refusalOf } from '#kernel/refusal.ts'
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import { HomeSysctls, writeSysctls } from '#kernel/sysctl.ts'
import { changeStream, type Emit, type Reread, type Stop, watchFiles, watchSysctls } from '#kernel/watch.ts'
import { type Home, RouteWriter, type Site } from '#kernel/writer.ts'
import {
  type Change,
  type Courier,
  type FileItem,
  type HostFilter,
  type HostView,
  type Item,
  type Kernel,
  type Op,
  type Outcome,
  type Scope,
  type SysctlItem,
  showOp,
} from '#model/kernel.ts'
import { addressOf } from '#net/ip.ts'

/** NFNLGRP_NFTABLES. */
const NFT_GROUP = 7

/** How an op is carried out: neighbors in a list with equal lanes and namespaces go together. */
type Lane = 'route' | 'unlink' | 'nft' | 'sysctl' | 'file' | 'flows'

function laneOf(op: Op): Lane {
  const { kind } = op.item
  if (kind === 'link' && op.verb === 'del') return 'unlink'
  if (isRouteSide(op)) return 'route'
  return kind === 'sysctl' || kind === 'file' || kind === 'flows' ? kind : 'nft'
}

/** Opens the kernel of the network namespace that the main thread is in. */
export async function openLinux(): Promise<Kernel> {
  const reader = NetlinkSocket.open({ protocol: NETLINK_ROUTE })
  return new Linux(reader, await Monitor.open(reader))
}

class Linux implements Kernel {
  readonly features = probeFeatures()
  readonly #reader: NetlinkSocket
  readonly #monitor: Monitor
  readonly #writer = NetlinkSocket.open({ protocol: NETLINK_ROUTE })
  readonly #netfilter = NetlinkSocket.open({ protocol: NETLINK_NETFILTER })
  readonly #nft = openNft(this.#netfilter)
  readonly #flows: Flows
  readonly #reaper: Reaper
  readonly #sysctls = new HomeSysctls()
  readonly #rereaders = new Set<Reread>()
  readonly #home: Omit<Home, 'linksOf'>
  readonly #nftWatchers = new Set<Emit>()
  #nftNews: NetlinkSocket | undefined
  #closed: Promise<void> | undefined
  #sent = 0
  #turn: Promise<unknown> = Promise.resolve()

  constructor(reader: NetlinkSocket, monitor: Monitor) {
    const count = (messages: number): void => {
      this.#sent += messages
    }
    this.#reader = reader
    this.#monitor = monitor
    this.#reaper = new Reaper(monitor.links, count)
    const localAddresses = async (): Promise<ReadonlySet<string>> =>
      new Set((await this.host()).addresses.map(({ cidr }) => addressOf(cidr)))
    this.#flows = new Flows({ socket: this.#netfilter, nft: this.#nft, localAddresses, count })
    this.#home = { netnsFd: openSync('/proc/thread-self/ns/net', 'r'), count }
  }

  get mutations(): number {
    return this.#sent + this.#nft.mutations
  }

  async dump(scope: Scope): Promise<Item[]> {
    const items = [
      ...(await observeRouteSide(this.#reader, scope)),
      ...(await this.#nft.dump(scope.nftTables)),
      ...observeSysctls(scope.sysctls),
      ...(await observeFiles(scope.files)),
      ...(await this.#flows.observe(scope.flows ?? [])),
    ]
    for (const item of items) if (item.kind === 'route' && item.dev !== undefined) this.#monitor.carries(item.dev)
    return items
  }

  async apply(ops: readonly Op[], courier?: Courier): Promise<Outcome[]> {
    const errand = courier && (await this.#sendErrand(ops, courier))
    if (errand) return errand
    if (ops.length > 0 && ops.every(unlinksAtHome)) return this.#turn.then(() => this.#apply(ops))
    const result = this.#turn.then(() => this.#reaper.settled(devicesOf(ops))).then(() => this.#apply(ops))
    this.#turn = result.catch(() => {})
    return result
  }

  watch(scope: Scope, signal: AbortSignal): AsyncIterable<Change> {
    return changeStream(signal, (emit) => [
      this.#monitor.subscribe({ scope, emit }),
      ...watchFiles(scope.files, emit),
      ...watchSysctls(scope.sysctls, emit, this.#rereaders),
      ...this.#watchNft(scope, emit),
    ])
  }

  async host(netns?: string): Promise<HostView> {
    if (netns !== undefined) return this.#hostOf(netns)
    const view = await observeHost(this.#reader)
    this.#monitor.leads(view)
    return view
  }

  async #hostOf(netns: string): Promise<HostView> {
    const socket = NetlinkSocket.open({ protocol: NETLINK_ROUTE, netns })
    try {
      return await observeHost(socket)
    } finally {
      await socket.close()
    }
  }

  watchHost(ours: HostFilter, ring: () => void, signal: AbortSignal): void {
    const stop = this.#monitor.subscribeHost({ ours, ring })
    signal.addEventListener('abort', stop, { once: true })
  }

  routeTo(ip: string): ReturnType<Kernel['routeTo']> {
    return observeRouteTo(this.#reader, ip, (index) => this.#monitor.links.name(index))
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.#turn
    await this.#reaper.close()
    await this.#monitor.close()
    for (const socket of [this.#reader, this.#writer, this.#netfilter, this.#nftNews]) await socket?.close()
    closeSync(this.#home.netnsFd)
    this.#sysctls.close()
  }

  /** All watchers share one socket, since decoding follows transactions and so must see each message once. */
  #watchNft({ nftTables }: Scope, emit: Emit): Stop[] {
    if (nftTables.length === 0) return []
    const hear = (change: Change): void => {
      if (inTables(change, nftTables)) emit(change)
    }
    this.#nftWatchers.add(hear)
    this.#nftNews ??= this.#listenToNft()
    return [() => void this.#nftWatchers.delete(hear)]
  }

  #listenToNft(): NetlinkSocket {
    const socket = NetlinkSocket.open({ protocol: NETLINK_NETFILTER, groups: [NFT_GROUP] })
    socket.listen((notification) => {
      const changes: Change[] = notification === 'overrun' ? [{ verb: 'overrun' }] : notification.flatMap((m) => this.#nft.decodeChange(m))
      for (const change of changes) for (const hear of this.#nftWatchers) hear(change)
    })
    return socket
  }

  /** Has the courier carry out `ops`; undefined if it cannot, or could not do all of them. */
  async #sendErrand(ops: readonly Op[], courier: Courier): Promise<Outcome[] | undefined> {
    const { links } = this.#monitor
    const errand = errandOf(ops, (name) => links.index(name))
    const report = errand && (await courier(errand.program))
    if (report === undefined || !errand?.done(report)) return undefined
    const { left } = errand
    this.#home.count(ops.length - left.length)
    const errors = this.#writeSysctls(
      undefined,
      left.map(({ item }) => item as SysctlItem),
    )
    return ops.map((op) => {
      const error = errors[left.indexOf(op)]
      return { op, ...(error && { error }) }
    })
  }

  async #apply(ops: readonly Op[]): Promise<Outcome[]> {
    // Sockets into other namespaces live as long as this call: pods come and go.
    const sites = new Map<string, Site & { readonly netns: string }>()
    const tables = new Map<string, LinkTable>()
    const linksOf = (netns: string | undefined): LinkTable => {
      if (netns === undefined) return this.#monitor.links
      const links = tables.get(netns) ?? new LinkTable()
      tables.set(netns, links)
      return links
    }
    const siteOf = (netns: string | undefined): Site => {
      if (netns === undefined) return { socket: this.#writer, links: linksOf(netns), netns }
      const site = sites.get(netns) ?? { socket: NetlinkSocket.open({ protocol: NETLINK_ROUTE, netns }), links: linksOf(netns), netns }
      sites.set(netns, site)
      return site
    }
    const home: Home = { ...this.#home, linksOf }
    const unmade = new Set<string>()
    const outcomes: Outcome[] = []
    for (const run of runsOf(ops)) {
      const errors = await this.#tryRun(run, unmade, siteOf, home)
      for (const op of run) {
        const error = errors.get(op)
        outcomes.push({ op, ...(error && { error }) })
        const { item } = op
        if (error && op.verb === 'put' && item.kind === 'link' && item.peer) {
          unmade.add(deviceKey(item.netns, item.name)).add(deviceKey(item.peer.netns, item.peer.name))
        }
      }
    }
    for (const { socket } of sites.values()) await socket.close()
    return outcomes
  }

  /** The errors of one run. What stands on a pair that could not be made is left alone: a device of that name is another's. */
  async #tryRun(run: readonly Op[], unmade: ReadonlySet<string>, siteOf: (netns: string | undefined) => Site, home: Home) {
    const errors = new Map<Op, Error>()
    const able: Op[] = []
    for (const op of run) {
      const dev = standsOn(op)
      if (dev === undefined || !unmade.has(deviceKey(op.item.netns, dev))) able.push(op)
      else errors.set(op, kernelError.ERR_DEVICE_MISSING({ op: showOp(op), dev }))
    }
    try {
      const found = able.length === 0 ? [] : await this.#carryOut(able, siteOf, home)
      for (const [i, error] of found.entries()) if (error) errors.set(able[i]!, error)
    } catch (error) {
      for (const op of able) errors.set(op, error as Error)
    }
    return errors
  }

  async #carryOut(run: readonly Op[], siteOf: (netns: string | undefined) => Site, home: Home) {
    const { netns } = run[0]!.item
    const items = run.map(({ item }) => item)
    switch (laneOf(run[0]!)) {
      case 'route':
        return new RouteWriter(siteOf(netns), home).apply(run as RouteSideOp[])
      case 'unlink': {
        const names = items.map((item) => ('name' in item ? item.name : ''))
        const acks = netns === undefined ? this.#reaper.delete(names) : deleteLinks(siteOf(netns).socket, names, this.#home.count)
        return (await acks).map((ack, i) => refusalOf(run[i]!, ack))
      }
      case 'nft':
        return (await this.#nft.apply(run)).map(({ error }) => error)
      case 'flows':
        return this.#flows.apply(run)
      case 'sysctl':
        // A sysctl belongs to its device or to the kernel: there is nothing to delete.
        return run[0]!.verb === 'del' ? run.map(() => undefined) : this.#writeSysctls(netns, items as SysctlItem[])
      case 'file':
        return eachFile(run)
    }
  }

  #writeSysctls(netns: string | undefined, items: readonly SysctlItem[]): (Error | undefined)[] {
    this.#home.count(items.length)
    if (netns !== undefined) return writeSysctls(netns, items)
    const errors = this.#sysctls.write(items)
    for (const reread of this.#rereaders) reread(items.map(({ path }) => path))
    return errors
  }
}

/** Splits `ops` where the lane, the namespace or (for sysctls) the verb changes. */
function runsOf(ops: readonly Op[]): Op[][] {
  const runs: Op[][] = []
  let last = ''
  for (const op of ops) {
    const way = `${laneOf(op)} ${op.item.kind === 'sysctl' ? op.verb : ''} ${op.item.netns ?? ''}`
    if (way === last) runs.at(-1)!.push(op)
    else runs.push([op])
    last = way
  }
  return runs
}

const unlinksAtHome = (op: Op): boolean => laneOf(op) === 'unlink' && op.item.netns === undefined

/** The devices of the agent's namespace that `ops` make, change or stand on. */
const devicesOf = (ops: readonly Op[]): string[] =>
  ops.flatMap(({ item }) => [
    ...(item.netns === undefined ? [deviceOf(item) ?? []].flat() : []),
    ...(item.kind === 'link' && item.peer && item.peer.netns === undefined ? [item.peer.name] : []),
  ])

const deviceKey = (netns: string | undefined, name: string): string => `${netns ?? ''} ${name}`

/** The device a `put` stands on. If its pair could not be made, a device of that name is someone else's, or none. */
const standsOn = ({ verb, item }: Op): string | undefined => (verb === 'del' ? undefined : deviceOf(item))

function deviceOf(item: Item): string | undefined {
  const inPath = item.kind === 'sysctl' ? /\/conf\/([^/]+)\//.exec(item.path)?.[1] : undefined
  return item.kind === 'link' ? item.name : 'dev' in item ? item.dev : inPath
}

function inTables(change: Change, tables: Scope['nftTables']): boolean {
  if (change.verb === 'overrun') return true
  const { item } = change
  return 'table' in item && tables.some(({ family, table }) => item.family === family && item.table === table)
}

async function eachFile(run: readonly Op[]): Promise<(Error | undefined)[]> {
  const errors: (Error | undefined)[] = []
  for (const { verb, item } of run) {
    const done = verb === 'put' ? writeFileItem(item as FileItem) : deleteFile((item as FileItem).path)
    errors.push(
      await done.then(
        () => undefined,
        (error: Error) => error,
      ),
    )
  }
  return errors
}
