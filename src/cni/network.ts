/**
 * Makes and removes attachments: the bridge plugin and host-local in one, over the kernel's door.
 *
 * Order is what makes a cut at any point harmless. ADD: address, note of the attachment, kernel; DEL: kernel, address, note.
 * What an ADD could not finish it takes back itself, in reverse.
 * @module
 */
import { createHash } from 'node:crypto'
import { readFileSync, statfsSync } from 'node:fs'
import type { Clock } from '#base/clock.ts'
import { TwillError } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Attachments, Entry } from '#cni/attachments.ts'
import { type BridgeConf, parseBridgeConf } from '#cni/bridge.ts'
import type { JsonObject } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { ipamDataDir, parseIpam, parseResolvConf } from '#cni/ipam.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { type CniCall, parseArgs } from '#cni/request.ts'
import type { CniResult } from '#cni/result.ts'
import { AddressStore, type Owner, type Reservation, type TakeLock } from '#cni/store.ts'
import { Turns } from '#cni/turns.ts'
import type { Op, Outcome } from '#model/kernel.ts'
import type { Attachment } from '#model/pod.ts'
import { addressOf, familyOf, prefixOf } from '#net/ip.ts'
import { randomMac } from '#net/mac.ts'
import { attachOps, type BridgePlan, bridgeItems, bridgeOwner, detachByPodEnd, detachOps, macOfIp, podItems, podOwner } from '#plan/pod.ts'

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
type Target = Pick<CniCall, 'network' | 'containerId' | 'ifname' | 'netns' | 'args'>

export class Network {
  readonly #o: NetworkOptions
  readonly #stores = new Map<string, AddressStore>()
  readonly #bridges = new Map<string, BridgePlan>()
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
    for (const a of attachments.list()) {
      await this.#ensureBridge(a, [])
      await kernel.commit(podOwner(a), podItems(a), [])
    }
  }

  /** ADD of the bridge plugin: `conf` is its configuration. An attachment of ours under the same ID and name is replaced.
   * @param signal  Aborts when no one waits for the answer any more; what was made is then taken back. */
  async add(target: Target, conf: JsonObject, signal: AbortSignal): Promise<CniResult> {
    const bridge = parseBridgeConf(conf, target.args)
    const ipam = parseIpam(conf, bridge.ipam, target.args, this.#o.dataDir)
    requireNetns(target.netns)
    const old = this.#o.attachments.get(target)
    if (old) await this.#takeBack(old)

    const reservations = await this.#store(ipam.dataDir, target.network).allocate(ipam, target)
    const attachment = this.#plan(target, bridge, reservations, ipam.routes)
    const entry: Entry = { attachment, dataDir: ipam.dataDir }
    try {
      this.#o.attachments.begin(entry)
      await this.#ensureBridge(attachment)
      await this.#attach(attachment)
    } catch (error) {
      await this.#forget(entry)
      throw error
    }
    try {
      if (signal.aborted) throw new CniError(cniCode.tryAgainLater, 'the runtime went away during ADD')
      this.#o.attachments.finish(entry)
    } catch (error) {
      await this.#takeBack(entry)
      throw error
    }
    const dns = Object.keys(bridge.dns).length > 0 ? bridge.dns : resolvConfOf(ipam.resolvConf)
    return this.#result(attachment, reservations, dns)
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
    const got = await this.#store(parsed.dataDir, target.network).allocate(parsed, target)
    return { interfaces: [], ips: got, routes: parsed.routes, dns: resolvConfOf(parsed.resolvConf) }
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

  /** CHECK of the bridge plugin: the attachment is ours and still has its addresses. Its devices are repaired all the time. */
  async requireAttached(target: Target): Promise<void> {
    const entry = this.#o.attachments.get(target)
    if (!entry)
      throw new CniError(cniCode.generic, `container ${target.containerId} has no interface ${target.ifname} in network ${target.network}`)
    const kept = await this.#store(entry.dataDir, target.network).lookup(target)
    for (const cidr of entry.attachment.pod.addresses) {
      if (!kept.includes(addressOf(cidr)))
        throw new CniError(cniCode.generic, `host-local does not hold ${cidr} for container ${target.containerId}`)
    }
  }

  async #takeBack(entry: Entry): Promise<void> {
    demand(await this.#o.kernel.release(podOwner(entry.attachment), detachOps(entry.attachment)))
    await this.#forget(entry)
  }

  async #forget({ attachment: a, dataDir }: Entry): Promise<void> {
    await this.#store(dataDir, a.network).release(a)
    this.#o.attachments.remove(a)
  }

  /** Makes the pair and wires it up, whole or not at all. A bridge that someone deleted meanwhile is made anew. */
  async #attach(a: Attachment): Promise<void> {
    const attempt = (): Promise<readonly Outcome[]> => this.#o.kernel.commit(podOwner(a), podItems(a), attachOps(a))
    let outcomes = await attempt()
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
      outcomes = await attempt()
    }
    try {
      demand(outcomes)
    } catch (refused) {
      demand(await this.#o.kernel.release(podOwner(a), detachOps(a)))
      throw refused
    }
  }

  /** @param ops  What to do for a new bridge; by default everything it needs. */
  #ensureBridge(a: Attachment, ops?: readonly Op[]): Promise<void> {
    return this.#bridgeTurns.run(a.bridge, () => this.#ensureBridgeAlone(a, ops))
  }

  async #ensureBridgeAlone(a: Attachment, ops?: readonly Op[]): Promise<void> {
    const known = this.#bridges.get(a.bridge)
    const same = known && known.mtu === a.mtu && String(known.gateways) === String(a.gateways)
    if (same) return
    const mac = known?.mac ?? (await this.#o.kernel.linkMac(a.bridge)) ?? this.#newBridgeMac(a)
    const bridge: BridgePlan = { name: a.bridge, mac, mtu: a.mtu, gateways: a.gateways }
    const items = bridgeItems(bridge)
    demand(await this.#o.kernel.commit(bridgeOwner(a.bridge), items, ops ?? items.map((item): Op => ({ verb: 'put', item }))))
    this.#bridges.set(a.bridge, bridge)
  }

  /** Belongs to the gateway's address, so that a bridge made anew is still known to its pods' ARP entries. */
  #newBridgeMac(a: Attachment): string {
    return a.gateways.length > 0 ? macOfIp(addressOf(a.gateways[0]!)) : randomMac(this.#o.clock.random)
  }

  #plan(target: Target, conf: BridgeConf, got: readonly Reservation[], ipamRoutes: CniResult['routes']): Attachment {
    const gateways = conf.isGateway ? got.map((one) => `${one.gateway}/${prefixOf(one.address)}`) : []
    const routes = ipamRoutes.map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { via: gw }) }))
    if (conf.isDefaultGateway) {
      for (const { gateway } of got) {
        const dst = familyOf(gateway) === 4 ? '0.0.0.0/0' : '::/0'
        if (!routes.some((route) => route.dst === dst && route.via !== undefined)) routes.push({ dst, via: gateway })
      }
    }
    const podName = podNameOf(target.args)
    return {
      network: target.network,
      containerId: target.containerId,
      ifname: target.ifname,
      ...(podName === undefined ? {} : { podName }),
      netns: target.netns,
      bridge: conf.bridge,
      hairpin: conf.hairpin,
      mtu: conf.mtu,
      host: { name: this.#hostName(target), mac: randomMac(this.#o.clock.random) },
      pod: { mac: conf.mac ?? macOfIp(addressOf(got[0]!.address)), addresses: got.map((one) => one.address) },
      gateways,
      routes,
    }
  }

  /** `veth` and 8 hex digits, always the same for one attachment unless another one has that name. */
  #hostName(owner: Owner): string {
    for (let attempt = 0; ; attempt++) {
      const hash = createHash('sha256').update(`${owner.containerId}/${owner.ifname}/${attempt}`).digest('hex')
      const name = `veth${hash.slice(0, 8)}`
      if (!this.#o.attachments.hasHostEnd(name)) return name
    }
  }

  #result(a: Attachment, reservations: readonly Reservation[], dns: JsonObject): CniResult {
    return {
      interfaces: [
        { name: a.bridge, mac: this.#bridges.get(a.bridge)!.mac },
        { name: a.host.name, mac: a.host.mac },
        { name: a.ifname, mac: a.pod.mac, sandbox: a.netns },
      ],
      ips: reservations.map(({ address, gateway }) => ({ interface: 2, address, gateway })),
      routes: a.routes.map(({ dst, via }) => ({ dst, ...(via === undefined ? {} : { gw: via }) })),
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

const resolvConfOf = (path: string | undefined): JsonObject => (path === undefined ? {} : parseResolvConf(readFileSync(path, 'utf8')))
