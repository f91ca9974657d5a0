/**
 * The node agent's life: find out which node this is and what it may hold, make the data plane right, tell the cluster, then let pods
 * in. What may pass by itself (no pod CIDR yet, API not reachable) is waited for, with the reason in status, log and Events.
 *
 *     kernel, API ─ interface, lease ─ first pass, read back ─ annotations ─ CNI ─ conflist ─ loop
 *
 * No decisions of its own: planners give items, the steward carries them out.
 * @module
 */
import { backoffMs } from '#base/backoff.ts'
import { Bell } from '#base/bell.ts'
import type { Clock } from '#base/clock.ts'
import { messageOf, TwillError } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Cluster } from '#cluster/cluster.ts'
import type { PodKernel } from '#cni/kernel.ts'
import type { Flags } from '#config/flags.ts'
import type { NetConf } from '#config/net-conf.ts'
import type { Environment } from '#config/parse.ts'
import { Announcer } from '#daemon/announce.ts'
import { daemonError } from '#daemon/errors.ts'
import { reconcile } from '#daemon/loop.ts'
import { Plans } from '#daemon/plans.ts'
import { deriveSelf, type SelfResult } from '#daemon/self.ts'
import { Steward } from '#daemon/steward.ts'
import { Teller } from '#daemon/tell.ts'
import type { Finding, NodeRecord } from '#model/cluster.ts'
import { type FileItem, type HostView, type Kernel, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { Phase } from '#model/status.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { nodeItems } from '#plan/node.ts'
import { POD_BRIDGE, scopeOf, sweepOf } from '#plan/sweep.ts'

/** The open door for CNI requests. */
export interface PodDoor {
  /** Attachments that are up. */
  count(): number
  close(): Promise<void>
}

export interface AgentParts {
  readonly flags: Flags
  readonly conf: NetConf<Backend>
  /** Normalised annotation prefix. */
  readonly prefix: string
  readonly env: Environment
  readonly log: Log
  readonly clock: Clock
  readonly cluster: Cluster
  openKernel(): Promise<Kernel>
  /** Answers CNI requests from the moment it resolves. Absent with --cni=false. */
  readonly openDoor?: (pods: PodKernel) => Promise<PodDoor>
  /** What tells the kubelet that pods can come; absent with --cni=false. */
  readonly conflist?: FileItem
  /** Tells the service manager, in the words of sd_notify(3). Absent where there is none. */
  readonly notify?: (state: string) => void
  /** Milliseconds since the program was exec'd. */
  sinceExecMs(): number
  /** A burst of work is over: what it took may be given back. */
  readonly onQuiet?: () => void
}

const RETRY = { firstMs: 500, maxMs: 30_000 }

export class Agent {
  readonly parts: AgentParts
  readonly backend: Backend
  readonly announcer: Announcer
  phase: Phase = 'starting'
  waitingFor: Finding | undefined
  /** From exec to the data plane read back and found right. */
  startMs: number | undefined
  kernel: Kernel | undefined
  steward: Steward | undefined
  plans: Plans | undefined
  door: PodDoor | undefined
  #nodeName = ''
  #firstRecord: NodeRecord | undefined
  /** The record that the lease was last read from. */
  #basis: NodeRecord | undefined
  readonly #bell = new Bell()
  readonly #announceBell = new Bell()
  readonly #teller: Teller
  readonly #right = Promise.withResolvers<void>()
  /** CNI requests are answered: the conflist may be there. */
  #open = false

  constructor(parts: AgentParts) {
    const { cluster, log, clock, prefix, flags, conf } = parts
    this.parts = parts
    this.backend = conf.backend
    this.announcer = new Announcer({ cluster, log, clock, prefix, setCondition: flags['set-node-network-unavailable'] })
    this.#teller = new Teller(cluster, log, clock)
  }

  /** Our own Node as last heard of. */
  get node(): NodeRecord | undefined {
    return this.parts.cluster.snapshot.nodes.get(this.#nodeName) ?? this.#firstRecord
  }

  /** All that is wrong now. */
  get findings(): Finding[] {
    const theirs = this.parts.cluster.findings
    const waiting = this.waitingFor && !theirs.some(({ id }) => id === this.waitingFor?.id) ? [this.waitingFor] : []
    return [...waiting, ...(this.plans?.faults.list() ?? []), ...theirs]
  }

  get ready(): boolean {
    return this.phase === 'serving'
  }

  /** Runs until `signal` aborts; the data plane stays as it is. @throws {TwillError} what no waiting can mend. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const abort = (): void => stop.abort()
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    const running: Promise<unknown>[] = []
    try {
      await this.#live(stop.signal, (work) => {
        running.push(work.catch((error: unknown) => (stop.signal.aborted ? undefined : stop.abort(error))))
      })
      if (!signal.aborted) throw stop.signal.reason
    } finally {
      this.phase = 'stopping'
      this.parts.notify?.('STOPPING=1')
      stop.abort()
      signal.removeEventListener('abort', abort)
      await Promise.allSettled([this.door?.close(), ...running])
      await this.kernel?.close()
    }
  }

  async #live(signal: AbortSignal, background: (work: Promise<unknown>) => void): Promise<void> {
    const { cluster, flags, clock } = this.parts
    background(
      cluster
        .start((owner) => this.#touched(owner), signal)
        .then(
          () => this.#bell.ring('synced'),
          () => {},
        ),
    )
    const [kernel] = await Promise.all([this.parts.openKernel(), this.#findNode(signal)])
    this.kernel = kernel
    const devices = [this.backend.device(4) ?? [], POD_BRIDGE].flat()
    kernel.watchHost({ devices, routeProtocol: TWILL_ROUTE_PROTOCOL }, () => this.#bell.ring('host'), signal)
    const found = await this.#waitForSelf(kernel, signal)
    if (!found) return
    this.#adopt(found)
    background(this.#follow(signal))
    background(
      reconcile({
        bell: this.#bell,
        clock,
        signal,
        retryMs: RETRY.firstMs,
        resyncMs: flags['resync-seconds'] * 1000,
        settleMs,
        pass: (rung, resync) => this.#pass(rung, resync),
      }),
    )
    if (!(await settled(this.#right.promise, signal))) return
    const announced = Promise.withResolvers<void>()
    background(
      reconcile({
        bell: this.#announceBell,
        clock,
        signal,
        retryMs: RETRY.firstMs,
        resyncMs: RETRY.maxMs,
        settleMs,
        pass: async () => {
          const failed = await this.announcer.pass(this.plans!.self, this.backend, this.node!)
          if (this.announcer.done) announced.resolve()
          return failed
        },
      }),
    )
    if (!(await settled(announced.promise, signal))) return
    await this.#letPodsIn()
    await aborted(signal)
  }

  #touched(owner: string): void {
    this.#bell.ring(owner)
    if (owner === `node ${this.#nodeName}`) this.#announceBell.ring(owner)
  }

  /** Our own name, and the Node of that name. */
  async #findNode(signal: AbortSignal): Promise<void> {
    const { env, cluster } = this.parts
    const { NODE_NAME, POD_NAME, POD_NAMESPACE } = env
    if (!NODE_NAME && !(POD_NAME && POD_NAMESPACE)) throw daemonError.ERR_NODE_NAME({})
    await this.#until(signal, async () => {
      this.#nodeName = NODE_NAME || (await cluster.podNodeName(POD_NAMESPACE!, POD_NAME!))
      this.#firstRecord = await cluster.ownNode(this.#nodeName)
      return true
    })
  }

  async #waitForSelf(kernel: Kernel, signal: AbortSignal): Promise<Extract<SelfResult, { self: Self }> | undefined> {
    return await this.#until(signal, async () => {
      const result = await this.#derive(kernel)
      return 'missing' in result ? result.missing : result
    })
  }

  #derive(kernel: Kernel): Promise<SelfResult> {
    const { flags, conf, clock } = this.parts
    this.#basis = this.node
    return deriveSelf({ kernel, backend: this.backend, flags, conf, node: this.node!, random: clock.random, mac: this.plans?.self.mac })
  }

  /**
   * Tries until `attempt` gives something else than a finding; what it throws is a finding too, unless no waiting mends it. A ring
   * (our Node changed) brings the next try at once. Undefined if aborted.
   */
  async #until<T>(signal: AbortSignal, attempt: () => Promise<T | Finding>): Promise<T | undefined> {
    for (let failures = 1; !signal.aborted; failures++) {
      const result = await attempt().catch((error: unknown) => asFinding(error))
      if (!isFinding(result)) {
        this.waitingFor = undefined
        this.#teller.tell(this.findings, this.node)
        return result
      }
      this.phase = 'waiting'
      this.waitingFor = result
      // Whoever waits for READY waits on: to be killed and started again would not help.
      this.parts.notify?.(`STATUS=waiting: ${result.text.replaceAll('\n', ' ')}\nEXTEND_TIMEOUT_USEC=${2 * RETRY.maxMs * 1000}`)
      this.#teller.tell(this.findings, this.node)
      await this.#bell.wait(backoffMs(failures, RETRY, this.parts.clock), this.parts.clock, signal)
    }
    return undefined
  }

  /** Plans with what was found out about this node, all of it anew. */
  #adopt({ self, host }: { self: Self; host: HostView }): void {
    const { flags, conf, conflist, log, clock } = this.parts
    const { name, address, why } = self.uplink
    log.info(
      { interface: name, address, publicIp: self.uplink.publicIp, why, subnet: self.subnet, backend: this.backend.type },
      'planning for this node',
    )
    this.steward ??= new Steward({
      kernel: this.kernel!,
      scope: scopeOf({
        device: this.backend.device(self.family),
        host,
        files: [flags['subnet-file'], ...(conflist ? [conflist.path] : [])],
        sysctls: nodeItems(self, this.backend, flags).flatMap((item) => (item.kind === 'sysctl' ? [item.path] : [])),
        tables: Plans.tables,
      }),
      log,
      clock,
      onDrift: () => this.#bell.ring('kernel'),
      onRepaired: (repairs) => this.#teller.repaired(repairs, this.node),
    })
    this.plans = new Plans({ self, host, conf, flags, desired: this.steward.desired })
    this.plans.planNode()
    this.plans.seeHost(host)
    this.#announceBell.ring('self')
  }

  async #follow(signal: AbortSignal): Promise<void> {
    for (let failures = 1; !signal.aborted; failures++) {
      await this.steward!.watch(signal).catch((error: unknown) =>
        this.parts.log.error({ err: messageOf(error) }, 'lost the kernel notifications'),
      )
      this.steward!.distrust()
      if (!signal.aborted) await this.parts.clock.sleep(backoffMs(failures, RETRY, this.parts.clock), signal)
    }
  }

  async #pass(rung: ReadonlySet<string>, resync: boolean): Promise<number> {
    const { cluster, log } = this.parts
    let passError: string | undefined
    try {
      if (resync) this.steward!.distrust()
      if (resync || rung.has('host') || !sameBasis(this.#basis, this.node)) await this.#lookAgain()
      const trust = this.plans!.plan(rung, cluster.snapshot, this.#open)
      const { done, failed } = await this.steward!.pass(sweepOf(trust))
      if (this.startMs === undefined && trust.nodes) await this.#prove(done)
      if (this.#open && this.phase !== 'serving') this.#serve()
      if (resync) this.parts.onQuiet?.()
      return failed
    } catch (error) {
      passError = messageOf(error)
      log.error({ err: passError }, 'a pass failed')
      return 1
    } finally {
      this.plans!.reportKernel({ refusals: this.steward!.failing, feuds: this.steward!.feuds, passError })
      this.#teller.tell(this.findings, this.node)
    }
  }

  /** The first time that everything known is in the kernel, read back: from now on this node can be announced. */
  async #prove(done: number): Promise<void> {
    const { log } = this.parts
    if (this.steward!.failing.some(({ owner }) => !isOthers(owner))) return
    const due = done === 0 ? 0 : await this.steward!.verify()
    if (due > this.steward!.failing.length) {
      log.warn({ due }, 'the kernel does not hold what it was given; trying again')
      this.#bell.ring('kernel')
      return
    }
    this.startMs = Math.round(this.parts.sinceExecMs())
    log.info({ ms: this.startMs, mutations: this.kernel!.mutations, peers: this.plans!.peers.size }, 'dataplane verified')
    this.#right.resolve()
  }

  /** Our own Node or the host may say other things than before. The last good lease stays while the new one is at fault. */
  async #lookAgain(): Promise<void> {
    const result = await this.#derive(this.kernel!)
    this.waitingFor = 'missing' in result ? result.missing : undefined
    if (!('self' in result)) return
    if (JSON.stringify(result.self) !== JSON.stringify(this.plans!.self)) this.#adopt(result)
    else this.plans!.seeHost(result.host)
  }

  /** Last of all: whoever reads the conflist may ask for a pod at once. From then on it is kept, like every object of ours. */
  async #letPodsIn(): Promise<void> {
    const { openDoor, conflist } = this.parts
    this.door = await openDoor?.(this.steward!)
    this.steward!.desired.setOwner('cni', conflist ? [conflist] : [])
    this.#open = true
    this.#bell.ring('cni')
  }

  /** The pass that found or put the conflist is over: pods can come. */
  #serve(): void {
    if (this.steward!.failing.some(({ owner }) => owner === 'cni')) return
    this.phase = 'serving'
    this.parts.notify?.('READY=1\nSTATUS=serving')
    this.parts.log.info({ ms: Math.round(this.parts.sinceExecMs()) }, 'serving')
    this.parts.onQuiet?.()
  }
}

/** True if both give the same lease and public IP. */
const sameBasis = (a: NodeRecord | undefined, b: NodeRecord | undefined): boolean =>
  a === b || (a?.podCIDRs.join() === b?.podCIDRs.join() && a?.annotations['node-public-ip'] === b?.annotations['node-public-ip'])

/** The kernel tells of one change in several steps, and a step is not the end. An event of the cluster is whole. */
const settleMs = (rung: ReadonlySet<string>): number => (rung.has('kernel') || rung.has('host') ? 20 : 0)

/** Owners whose trouble does not keep this node from serving; what is left of an earlier life has none. */
const isOthers = (owner: string): boolean => owner === '' || /^(peer|service|pod) /.test(owner)

const isFinding = (value: unknown): value is Finding => typeof value === 'object' && value !== null && 'id' in value && 'remedy' in value

/** What waiting may mend, as a finding; the rest is thrown on. */
function asFinding(error: unknown): Finding {
  if (!(error instanceof TwillError) || !/^ERR_(API_|POD_UNSCHEDULED|CREDENTIAL_PLUGIN|OBJECT_SHAPE)/.test(error.code)) throw error
  if (error.code === 'ERR_OBJECT_SHAPE') {
    return { id: 'bad-object', severity: 'error', subject: 'this node', text: messageOf(error), remedy: error.remedy }
  }
  return { id: 'api-unreachable', severity: 'error', subject: 'api', text: messageOf(error), remedy: error.remedy }
}

/** False if `signal` aborts before `promise` resolves. */
async function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  await Promise.race([promise, aborted(signal)])
  return !signal.aborted
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
