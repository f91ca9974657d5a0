/**
 * Makes and removes attachments: the bridge plugin and host-local in one, over the kernel's door.
 *
 * Order is what makes a cut at any point harmless. ADD: note of the attachment, then kernel and address, side by side; DEL:
 * kernel, address, note.
 * What an ADD could not finish it takes back itself, in reverse.
 * @module
 */
import { createHash } from 'node:crypto'
import { readFileSync, statfsSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '#base/clock.ts'
import { messageOf, TwillError } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Attachments, Entry } from '#cni/attachments.ts'
import { type BridgeConf, displaced, parseBridgeConf } from '#cni/bridge.ts'
import { checkAttached } from '#cni/check.ts'
import type { JsonObject } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import { ipamDataDir, parseIpam, parseResolvConf } from '#cni/ipam.ts'
import type { Caller, PodKernel } from '#cni/kernel.ts'
import { type Given, givenByOther, otherIpam } from '#cni/other-ipam.ts'
import { callOther } from '#cni/others.ts'
import { type CniCall, parseArgs } from '#cni/request.ts'
import { type CniResult, passedOn, type ResultRoute } from '#cni/result.ts'
import { AddressStore, type Held, type Owner, type Reservation, type TakeLock } from '#cni/store.ts'
import { Turns } from '#cni/turns.ts'
import type { Op, Outcome } from '#model/kernel.ts'
import type { Attachment, PodRoute } from '#model/pod.ts'
import { addressOf, familyOf, prefixOf } from '#net/ip.ts'
import { randomMac } from '#net/mac.ts'
import { attachOps, type BridgePlan, bridgeItems, bridgeOwner, detachByPodEnd, detachOps, macOfIp, podItems, podOwner } from '#plan/pod.ts'
import { masqSubnets, POD_MASQ_OWNER, podMasqBase } from '#plan/podmasq.ts'

export interface NetworkOptions {
  readonly kernel: PodKernel
  readonly attachments: Attachments
  readonly takeLock: TakeLock
  readonly clock: Clock
  readonly log: Log
  /** host-local's default: /var/lib/cni/networks. */
  readonly dataDir: string
}

/** The part of a call that names the interface. */
type Target = Pick<CniCall, 'network' | 'containerId' | 'ifname' | 'netns' | 'args' | 'version' | 'path' | 'depth'>

/** Where an attachment goes, and its addresses' files. */
interface Place {
  readonly bridge: BridgeConf
  readonly dataDir: string
}

export class Network {
  readonly #o: NetworkOptions
  readonly #stores = new Map<string, AddressStore>()
  readonly #bridges = new Map<string, BridgePlan>()
  readonly #masqSubnets: string[] = []
  /** First ADDs come in parallel: one of them makes the bridge. */
  readonly #bridgeTurns = new Turns(1)

  constructor(o: NetworkOptions) {
    this.#o = o
  }

  /** Takes over from the agent before: keeps what it attached, undoes what it began. */
  async resume(unfinished: readonly Entry[]): Promise<void> {
    const { kernel, attachments, log } = this.#o
    for (const entry of unfinished) {
      const { containerId, ifname } = entry.attachment
      log.warn({ containerId, ifname }, 'undoing an ADD that was cut off')
      await this.#takeBack(entry)
    }
    await this.#ensureMasquerade(attachments.list(), true)
    for (const entry of attachments.entries()) await this.#keepAddresses(entry)
    for (const a of attachments.list()) {
      await this.#ensureBridge(a, { idle: true })
      await kernel.commit(podOwner(a), podItems(a), [])
    }
  }

  /** Attachments of which a reboot left nothing but the notes and the addresses. */
  async bury(entries: readonly Entry[]): Promise<void> {
    for (const { attachment, dataDir } of entries) await this.#forget(attachment, dataDir)
  }

  /** Gives back the addresses of pods that are no more. */
  async giveBack(network: string, owners: readonly Owner[]): Promise<void> {
    for (const owner of owners) await this.#store(this.#o.dataDir, network).release(owner)
  }

  /** A pod that runs keeps its address, even if someone deleted or tore its file: no other pod may get it. */
  async #keepAddresses({ attachment, dataDir }: Entry): Promise<void> {
    const { network, containerId, ifname, netns, pod } = attachment
    if (pod.addresses.length === 0 || netnsProblem(netns) !== undefined) return
    const { missing, taken } = await this.#store(dataDir, network).keep(pod.addresses.map(addressOf), { containerId, ifname })
    const about = { containerId, ifname, pod: attachment.podName, network }
    if (missing.length > 0) this.#o.log.warn({ ...about, addresses: missing }, 'reserved the addresses of a running pod again')
    if (taken.length > 0) this.#o.log.error({ ...about, addresses: taken }, 'addresses of a running pod are reserved for another')
  }

  /** ADD of the bridge plugin: `conf` is its configuration. An attachment of ours under the same ID and name is replaced.
   * When the caller is gone before the end, what was made is taken back.
   * @param meanwhile  Something else that must be done, or the ADD fails: while the kernel works there is time for it. */
  async add(target: Target, conf: JsonObject, caller: Caller, meanwhile = () => {}): Promise<CniResult> {
    const bridge = parseBridgeConf(conf, target.args)
    const other = otherIpam(bridge.ipam)
    const ipam = bridge.layer3 && other === undefined ? parseIpam(conf, bridge.ipam, target.args, this.#o.dataDir) : undefined
    const ipamDns = resolvConfOf(ipam?.resolvConf)
    requireNetns(target.netns)
    const old = this.#o.attachments.get(target)
    if (old) await this.#takeBack(old)
    const place: Place = { bridge, dataDir: ipam?.dataDir ?? this.#o.dataDir }
    if (other === undefined) {
      const held = ipam ? await this.#store(ipam.dataDir, target.network).hold(ipam, target) : nothingHeld
      const { routes } = passedOn({ interfaces: [], ips: held.reservations, routes: ipam?.routes ?? [], dns: {} }, target.version)
      return this.#wire(target, place, held, { reservations: held.reservations, routes, dns: ipamDns }, caller, meanwhile)
    }
    try {
      if (old) await callOther(target, caller, other, 'DEL', conf)
      const given = await givenByOther(target, caller, other, conf, bridge)
      return await this.#wire(target, place, nothingHeld, given, caller, meanwhile)
    } catch (error) {
      await callOther(target, caller, other, 'DEL', conf).catch((why: unknown) => {
        this.#o.log.warn(
          { containerId: target.containerId, ipam: other, err: messageOf(why) },
          'an ADD failed, and its addresses were not given back',
        )
      })
      throw error
    }
  }

  /** The rest of ADD: addresses are chosen, not yet written. */
  async #wire(
    target: Target,
    { bridge, dataDir }: Place,
    held: Held,
    { reservations, routes: given, dns }: Given,
    caller: Caller,
    meanwhile: () => void,
  ): Promise<CniResult> {
    let entry: Entry
    let routes: readonly ResultRoute[]
    try {
      routes = bridge.isDefaultGateway ? withDefaults(given, reservations) : given
      entry = { attachment: this.#plan(target, bridge, reservations, routes), dataDir }
      this.#o.attachments.begin(entry)
      await this.#ensureBridge(entry.attachment, { force: bridge.forceAddress })
      await this.#ensureMasquerade([entry.attachment])
      const attached = this.#attach(entry.attachment, caller)
      const failed = attempt(() => {
        held.write()
        meanwhile()
      })
      held.end()
      await attached
      if (failed) {
        demand(await this.#o.kernel.release(podOwner(entry.attachment), detachOps(entry.attachment)))
        throw failed.error
      }
    } catch (error) {
      held.end()
      await this.#forget(target, dataDir)
      throw error
    }
    try {
      if (caller.gone.aborted) throw new CniError(cniCode.tryAgainLater, 'the runtime went away during ADD')
      this.#o.attachments.finish(entry)
    } catch (error) {
      await this.#takeBack(entry)
      throw error
    }
    return this.#result(entry.attachment, reservations, routes, Object.keys(bridge.dns).length > 0 ? bridge.dns : dns)
  }

  /** True if the interface is one of ours. */
  has(target: Target): boolean {
    return this.#o.attachments.get(target) !== undefined
  }

  /** DEL of the bridge plugin; succeeds when there is nothing (left) to do.
   * @param ipam  The `ipam` object of the configuration. */
  async del(target: Target, ipam: JsonObject): Promise<void> {
    const entry = this.#o.attachments.get(target)
    if (entry) return this.#takeBack(entry)
    if (target.netns !== '' && netnsProblem(target.netns) === undefined) {
      const owner = podOwner(target)
      demand(await this.#o.kernel.release(owner, detachByPodEnd(target.netns, target.ifname, owner)))
    }
    await this.#store(ipamDataDir(ipam, this.#o.dataDir), target.network).release(target)
  }

  /** ADD of host-local alone. */
  async reserve(target: Target, conf: JsonObject, ipam: JsonObject): Promise<CniResult> {
    const parsed = parseIpam(conf, ipam, target.args, this.#o.dataDir)
    const dns = resolvConfOf(parsed.resolvConf)
    const got = await this.#store(parsed.dataDir, target.network).allocate(parsed, target)
    return { interfaces: [], ips: got, routes: parsed.routes, dns }
  }

  /** DEL of host-local alone. */
  async unreserve(target: Target, ipam: JsonObject): Promise<void> {
    await this.#store(ipamDataDir(ipam, this.#o.dataDir), target.network).release(target)
  }

  /** CHECK of host-local: an address is kept for the container. */
  async requireReserved(target: Target, ipam: JsonObject): Promise<void> {
    const ips = await this.#store(ipamDataDir(ipam, this.#o.dataDir), target.network).lookup(target)
    if (ips.length === 0) throw new CniError(cniCode.generic, `host-local: Failed to find address added by container ${target.containerId}`)
  }

  /** CHECK of the bridge plugin: `conf` is its configuration, `prev` what ADD answered. */
  async check(target: Target, conf: JsonObject, prev: () => CniResult): Promise<void> {
    const bridge = parseBridgeConf(conf, target.args)
    requireNetns(target.netns)
    if (bridge.layer3 && otherIpam(bridge.ipam) === undefined) await this.requireReserved(target, bridge.ipam)
    const result = prev()
    const [node, pod] = await Promise.all([this.#o.kernel.host(), this.#o.kernel.host(target.netns)])
    const { ifname, netns } = target
    checkAttached({ bridge: bridge.bridge, promisc: bridge.promisc, ifname, netns, prev: result, node, pod })
  }

  /** GC: takes back every attachment and address of the network `name` that is not `valid`. All are tried; the first failure is told.
   * @param ipam  The `ipam` object of the configuration.
   * @param before  Takes away what leads to an attachment. */
  async collect(name: string, ipam: JsonObject, valid: readonly Owner[], before: (a: Attachment) => Promise<unknown>): Promise<void> {
    const gone = this.#o.attachments.list().filter((a) => a.network === name && !isAmong(a, valid))
    const one = async (a: Attachment): Promise<void> => {
      await before(a)
      await this.#takeBack(this.#o.attachments.get(a)!)
    }
    const done = await Promise.allSettled(gone.map(one))
    await this.collectAddresses(name, ipam, valid)
    for (const one of done) if (one.status === 'rejected') throw one.reason
  }

  /** GC of host-local alone. */
  async collectAddresses(name: string, ipam: JsonObject, valid: readonly Owner[]): Promise<void> {
    await this.#store(ipamDataDir(ipam, this.#o.dataDir), name).retain((one) => isAmong(one, valid))
  }

  async #takeBack(entry: Entry): Promise<void> {
    demand(await this.#o.kernel.release(podOwner(entry.attachment), detachOps(entry.attachment)))
    await this.#forget(entry.attachment, entry.dataDir)
  }

  async #forget(key: Pick<Target, 'network' | 'containerId' | 'ifname'>, dataDir: string): Promise<void> {
    await this.#store(dataDir, key.network).release(key)
    this.#o.attachments.remove(key)
  }

  /** The rules that pods of `all` with ipMasq need, for all subnets so far. */
  #ensureMasquerade(all: readonly Attachment[], idle = false): Promise<void> {
    return this.#bridgeTurns.run(POD_MASQ_OWNER, async () => {
      const subnets = masqSubnets(all).filter((subnet) => !this.#masqSubnets.includes(subnet))
      if (subnets.length === 0) return
      const items = podMasqBase([...this.#masqSubnets, ...subnets])
      demand(await this.#o.kernel.commit(POD_MASQ_OWNER, items, idle ? [] : items.map((item): Op => ({ verb: 'put', item }))))
      this.#masqSubnets.push(...subnets)
    })
  }

  /** Makes the pair and wires it up, whole or not at all. A bridge that someone deleted meanwhile is made anew. */
  async #attach(a: Attachment, { courier }: Caller): Promise<void> {
    const commit = (): Promise<readonly Outcome[]> => this.#o.kernel.commit(podOwner(a), podItems(a), attachOps(a), courier)
    let outcomes = await commit()
    const error = outcomes[0]?.error
    if (error) {
      await this.#o.kernel.release(podOwner(a), [])
      if (!(error instanceof TwillError) || error.code !== 'ERR_NAME_TAKEN') throw error
      throw new CniError(cniCode.generic, `container veth name provided (${a.ifname}) already exists`, `host end ${a.host.name}`)
    }
    if (outcomes.some((outcome) => outcome.error && outcome.op.item.kind === 'port')) {
      demand(await this.#o.kernel.release(podOwner(a), detachOps(a)))
      this.#bridges.delete(a.bridge)
      await this.#ensureBridge(a)
      outcomes = await commit()
    }
    try {
      demandPod(outcomes)
    } catch (refused) {
      demand(await this.#o.kernel.release(podOwner(a), detachOps(a)))
      throw refused
    }
  }

  /** @param o  force: other addresses give way. idle: only wish for it, as at a restart. */
  #ensureBridge(a: Attachment, o: { force?: boolean; idle?: boolean } = {}): Promise<void> {
    return this.#bridgeTurns.run(a.bridge, () => this.#ensureBridgeAlone(a, o))
  }

  async #ensureBridgeAlone(a: Attachment, { force = false, idle = false }: { force?: boolean; idle?: boolean }): Promise<void> {
    const known = this.#bridges.get(a.bridge)
    const has = (one: string): boolean => known?.gateways.includes(one) ?? false
    if (known && known.mtu === a.mtu && a.gateways.every(has) && (known.promisc || !a.promisc)) return
    const { links, addresses } = await this.#o.kernel.host()
    const there = links.find(({ name }) => name === a.bridge)
    if (there && there.kind !== 'bridge') {
      const name = JSON.stringify(a.bridge)
      throw new CniError(cniCode.generic, `failed to create bridge ${name}: ${name} already exists but is not a bridge`)
    }
    const have = addresses
      .filter(({ dev, cidr, scope }) => dev === a.bridge && (familyOf(cidr) === 4 || scope !== 'link'))
      .map(({ cidr }) => cidr)
    const gone = idle ? [] : displaced(a.bridge, have, a.gateways, force)
    const gateways = [...new Set([...(known?.gateways ?? []), ...a.gateways])].filter((one) => !gone.includes(one))
    const mac = known?.mac ?? there?.mac ?? this.#newBridgeMac(a)
    const promisc = known?.promisc ?? a.promisc
    const bridge: BridgePlan = { name: a.bridge, mac, mtu: a.mtu, gateways, ...(promisc && { promisc }) }
    const items = bridgeItems(bridge)
    const dels = gone.map((cidr): Op => ({ verb: 'del', item: { kind: 'address', dev: a.bridge, cidr, owner: bridgeOwner(a.bridge) } }))
    const puts = items.map((item): Op => ({ verb: 'put', item }))
    const outcomes = await this.#o.kernel.commit(bridgeOwner(a.bridge), items, idle ? [] : [...dels, ...puts])
    const refused = outcomes.find(({ op, error }) => error && op.item.kind === 'link')
    if (refused) {
      const name = JSON.stringify(a.bridge)
      throw new CniError(cniCode.generic, `failed to create bridge ${name}: could not add ${name}: ${messageOf(refused.error)}`)
    }
    demand(outcomes)
    this.#bridges.set(a.bridge, bridge)
  }

  /** Belongs to the gateway's address, so that a bridge made anew is still known to its pods' ARP entries. */
  #newBridgeMac(a: Attachment): string {
    return a.gateways.length > 0 ? macOfIp(addressOf(a.gateways[0]!)) : randomMac(this.#o.clock.random)
  }

  #plan(target: Target, conf: BridgeConf, got: readonly Reservation[], routes: readonly ResultRoute[]): Attachment {
    const podName = podNameOf(target.args)
    return {
      network: target.network,
      containerId: target.containerId,
      ifname: target.ifname,
      ...(podName === undefined ? {} : { podName }),
      netns: target.netns,
      bridge: conf.bridge,
      hairpin: conf.hairpin,
      ...(conf.isolated && { isolated: true }),
      ...(conf.promisc && { promisc: true }),
      ...(conf.ipMasq && { masquerade: true }),
      ...(conf.dad && { dad: true }),
      ...(conf.containerDown && { containerDown: true }),
      mtu: conf.mtu,
      host: { name: this.#hostName(target), mac: randomMac(this.#o.clock.random) },
      pod: { mac: conf.mac ?? this.#podMac(got), addresses: got.map((one) => one.address) },
      gateways: conf.isGateway
        ? got.flatMap(({ address, gateway }) => (gateway === undefined ? [] : [`${gateway}/${prefixOf(address)}`]))
        : [],
      routes: podRoutes(routes, got, target.ifname),
    }
  }

  #podMac(got: readonly Reservation[]): string {
    return got.length > 0 ? macOfIp(addressOf(got[0]!.address)) : randomMac(this.#o.clock.random)
  }

  /** `veth` and 8 hex digits, always the same for one attachment unless another one has that name. */
  #hostName(owner: Owner): string {
    for (let attempt = 0; ; attempt++) {
      const hash = createHash('sha256').update(`${owner.containerId}/${owner.ifname}/${attempt}`).digest('hex')
      const name = `veth${hash.slice(0, 8)}`
      if (!this.#o.attachments.hasHostEnd(name)) return name
    }
  }

  #result(a: Attachment, reservations: readonly Reservation[], routes: CniResult['routes'], dns: JsonObject): CniResult {
    return {
      interfaces: [
        { name: a.bridge, mac: this.#bridges.get(a.bridge)!.mac },
        { name: a.host.name, mac: a.host.mac },
        { name: a.ifname, mac: a.pod.mac, sandbox: a.netns },
      ],
      ips: reservations.map(({ address, gateway }) => ({ interface: 2, address, ...(gateway === undefined ? {} : { gateway }) })),
      routes,
      dns,
    }
  }

  #store(dataDir: string, network: string): AddressStore {
    const dir = `${dataDir}/${network}`
    const known = this.#stores.get(dir)
    if (known) return known
    const store = new AddressStore(dir, this.#o.takeLock)
    this.#stores.set(dir, store)
    return store
  }
}

export const isAmong = (one: Owner, all: readonly Owner[]): boolean =>
  all.some(({ containerId, ifname }) => containerId === one.containerId && ifname === one.ifname)

/** `routes` and, for each family that has no default route by a gateway, one by the first address's. */
function withDefaults(routes: readonly ResultRoute[], got: readonly Reservation[]): ResultRoute[] {
  const all = [...routes]
  for (const { gateway } of got) {
    if (gateway === undefined) continue
    const dst = familyOf(gateway) === 4 ? '0.0.0.0/0' : '::/0'
    if (!all.some((route) => route.dst === dst && route.gw !== undefined)) all.push({ dst, gw: gateway })
  }
  return all
}

function podRoutes(routes: readonly ResultRoute[], got: readonly Reservation[], dev: string): PodRoute[] {
  const all: PodRoute[] = []
  for (const route of routes.map((one) => podRoute(one, got))) {
    if (all.some((one) => isDeepStrictEqual(one, route))) throw cannotRoute(route, dev, 'file exists')
    all.push(route)
  }
  return all
}

const cannotRoute = ({ dst, via }: PodRoute, dev: string | undefined, why: string): CniError =>
  new CniError(cniCode.generic, `failed to add route '${dst}${via === undefined ? '' : ` via ${via}`} dev ${dev}': ${why}`)

/** A route without a gateway of its own goes by the first of its family. */
function podRoute({ dst, gw, priority, table, scope }: ResultRoute, got: readonly Reservation[]): PodRoute {
  if (table !== undefined && table !== 254) throw unsupported('ipam.routes.table', table, 'routes of pods are in their main table (254)')
  if (scope !== undefined && scope !== 0 && scope !== 253)
    throw unsupported('ipam.routes.scope', scope, 'a route of a pod has scope 0 or 253')
  const via = gw ?? got.map(({ gateway }) => gateway).find((ip) => ip !== undefined && familyOf(ip) === familyOf(dst))
  return {
    dst,
    ...(via === undefined ? {} : { via }),
    ...(priority ? { metric: priority } : {}),
    ...(scope === 253 ? { scope: 'link' as const } : {}),
  }
}

/** As `demand`, in words for a pod's events. */
function demandPod(outcomes: readonly Outcome[]): void {
  const refused = outcomes.find(({ op, error }) => error && op.item.kind === 'route')
  if (refused?.op.item.kind === 'route') {
    throw cannotRoute(refused.op.item, refused.op.item.dev, messageOf(refused.error).replace(/^.*?: /s, ''))
  }
  demand(outcomes)
}

/** An interface without addresses. */
const nothingHeld: Held = { reservations: [], write: () => {}, end: () => {} }

/** What `fn` threw. */
function attempt(fn: () => void): { error: unknown } | undefined {
  try {
    fn()
    return undefined
  } catch (error) {
    return { error }
  }
}

/** Throws the first failure. IPv6 sysctls are best effort: a kernel or a pod may have no IPv6 at all. */
export function demand(outcomes: readonly Outcome[]): void {
  const failed = outcomes.find(({ op, error }) => error && !(op.item.kind === 'sysctl' && /^net\/ipv[46]\/conf\//.test(op.item.path)))
  if (failed) throw failed.error
}

const NSFS_MAGIC = 0x6e736673
const PROC_SUPER_MAGIC = 0x9fa0

/** Why `path` is no network namespace; undefined if it is one. A left-over mount point is a plain file. */
export function netnsProblem(path: string): string | undefined {
  try {
    const { type } = statfsSync(path)
    return type === NSFS_MAGIC || type === PROC_SUPER_MAGIC ? undefined : `unknown FS magic on "${path}": ${type.toString(16)}`
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or directory' : (error as Error).message
    return `failed to Statfs "${path}": ${why}`
  }
}

export function requireNetns(path: string): void {
  const problem = netnsProblem(path)
  if (problem !== undefined) throw new CniError(cniCode.generic, `failed to open netns "${path}": ${problem}`)
}

export function podNameOf(args: string): string | undefined {
  const pairs = parseArgs(args)
  const [namespace, name] = [pairs.get('K8S_POD_NAMESPACE'), pairs.get('K8S_POD_NAME')]
  return namespace && name ? `${namespace}/${name}` : undefined
}

function resolvConfOf(path: string | undefined): JsonObject {
  if (path === undefined) return {}
  try {
    return parseResolvConf(readFileSync(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new CniError(cniCode.generic, `open ${path}: no such file or directory`)
  }
}
