/**
 * One history: a cluster, a kernel and an agent under a seed. Things happen to all three; then peace comes, and what must be true is
 * checked (docs/simulation.md names each invariant). Some are checked at every operation.
 * @module
 */
import { type Log, silentLog } from '#base/log.ts'
import { openCluster } from '#cluster/cluster.ts'
import type { Flags } from '#config/flags.ts'
import { parseNetConf } from '#config/net-conf.ts'
import { parseCommandLine } from '#config/parse.ts'
import { Agent } from '#daemon/agent.ts'
import { FakeKernel } from '#kernel/fake.ts'
import { type HostView, type Item, keyOf, type Op, show, showOp, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'
import { STOCK_CONFLIST } from '#plan/files.ts'
import { SimApi } from './api.ts'
import { Chance, SimClock } from './clock.ts'
import { faults } from './faults.ts'
import { type KernelFaults, kernelOf, type Life } from './kernel.ts'
import {
  DEVICE,
  keysNeeded,
  type Mode,
  NETWORK,
  type NodeObject,
  OWN,
  OWN_IP,
  OWN_SUBNET,
  PREFIX,
  verdictOf,
  type Wanted,
  wantedOf,
} from './truth.ts'

const SUBNETS = ['10.244.0.0/24', '10.244.2.0/24', '10.244.3.0/24', '10.244.4.0/24', '10.244.5.0/24', '10.244.6.0/24']
const NAMES = ['k8s-ctr', 'k8s-w2', 'k8s-w3', 'k8s-w4', 'k8s-w5', 'k8s-w6']
const SUBNET_FILE = '/sim/subnet.env'
const CONFLIST = '/sim/10-flannel.conflist'
/** Longer than all back-offs (30 s; 60 s for a feud), and a comparison with the kernel where there is one (60 s). */
const PEACE_MS = 130_000

const flagsWith = (resyncSeconds: number): Flags =>
  parseCommandLine(
    ['--kube-subnet-mgr', '--ip-masq', '--iface=eth1', `--subnet-file=${SUBNET_FILE}`, `--resync-seconds=${resyncSeconds}`],
    {},
  ).flags
/** Most agents get no help from the slow comparison: what they are told, and their own retries, must do. */
const FLAGS = [flagsWith(3600), flagsWith(3600), flagsWith(60)]
const confs = new Map(
  (['vxlan', 'direct', 'host-gw'] as const).map((mode) => {
    const backend = mode === 'host-gw' ? { Type: 'host-gw' } : { Type: 'vxlan', DirectRouting: mode === 'direct' }
    return [mode, parseNetConf(JSON.stringify({ Network: NETWORK, Backend: backend }), 'net-conf.json', backends)] as const
  }),
)

/** Things of others that must be there at the end, byte for byte. */
const FOREIGN: readonly Item[] = [
  { kind: 'route', dst: '172.30.0.0/16', via: '192.168.10.1', dev: 'eth1', protocol: 3 },
  { kind: 'neighbor', dev: 'eth1', ip: '192.168.10.1', mac: '02:00:00:00:00:01' },
  { kind: 'nft-table', family: 'ip', table: 'kube-proxy' },
  { kind: 'nft-map', family: 'ip', table: 'kube-proxy', name: 'ours', key: ['ipv4_addr'] },
  { kind: 'nft-element', family: 'ip', table: 'kube-proxy', map: 'ours', key: ['10.96.0.1'] },
]
const foreignKeys = new Map(FOREIGN.map((item) => [keyOf(item), show(item)]))

const hostWith = (up: boolean): HostView => ({
  links: [
    { index: 1, name: 'lo', mtu: 65536, mac: '00:00:00:00:00:00', up: true },
    { index: 2, name: 'eth1', mtu: 1500, mac: '02:00:00:00:0e:01', up },
  ],
  addresses: [{ dev: 'eth1', cidr: `${OWN_IP}/24`, scope: 'global', permanent: true, temporary: false, deprecated: false }],
  routes: up
    ? [
        { dst: '192.168.10.0/24', hops: [{ dev: 'eth1' }], metric: 0 },
        { dst: '0.0.0.0/0', hops: [{ dev: 'eth1', via: '192.168.10.1' }], metric: 0 },
      ]
    : [],
})

/** A pass that is under way acts on what was known when it began. */
const PASS_MS = 500

export class Violation extends Error {}

export interface Outcome {
  readonly events: number
  readonly faults: readonly string[]
  readonly simulatedMs: number
}

export class World {
  readonly chance: Chance
  readonly clock = new SimClock()
  readonly api: SimApi
  readonly fake: FakeKernel
  readonly mode: Mode
  readonly kernelFaults: KernelFaults = { refusals: 0, poisoned: undefined, deaf: 0, failingDumps: 0, lagMs: 0 }
  life: Life | undefined
  agent: Agent | undefined
  linkUp = true
  readonly #flags: Flags
  readonly #trace: ((line: string) => void) | undefined
  readonly #happened = new Set<string>()
  #lives = 0
  /** Operations on objects that are judged. */
  #judged = 0
  #uid = 0
  #wanted = new Map<string, Wanted>()
  /** Versions of each node that the agent was told in this life, and when. */
  readonly #told = new Map<string, { readonly version: number; readonly atMs: number }[]>()
  /** Keys that a Node that cannot be read had before: what is kept of them is not judged. */
  readonly #doubtful = new Set<string>()
  readonly #ever = new Map<string, Set<string>>()
  #peace = false
  #violation: Error | undefined

  constructor(seed: number, trace?: (line: string) => void) {
    this.#trace = trace
    this.chance = new Chance(seed)
    this.#flags = this.chance.one(FLAGS)
    this.mode = this.chance.one(['vxlan', 'vxlan', 'direct', 'host-gw'])
    this.api = new SimApi(this.clock, this.chance, ({ name, resourceVersion }) => this.#hear(name, Number(resourceVersion)))
    this.api.trace = (line) => this.trace(line)
    this.api.onChange = () => this.#truthChanged()
    this.fake = new FakeKernel({ host: hostWith(true), items: [...FOREIGN, ...this.#leftovers()] })
    this.putNode(OWN, { spec: { podCIDR: OWN_SUBNET, podCIDRs: [OWN_SUBNET] }, annotations: {} })
    for (const name of NAMES) if (this.chance.yes(0.6)) this.putPeer(name)
  }

  trace(line: string): void {
    this.#trace?.(`${(this.clock.nowMs / 1000).toFixed(3).padStart(9)}  ${line}`)
  }

  // ---- what may happen to the cluster

  putNode(name: string, { spec, annotations }: { spec: NodeObject['spec']; annotations: Record<string, string> }): void {
    const uid = this.api.nodes.get(name)?.metadata.uid ?? `uid-${this.#uid++}`
    const conditions = this.api.nodes.get(name)?.status.conditions ?? []
    const prefixed = Object.fromEntries(Object.entries(annotations).map(([key, value]) => [PREFIX + key, value]))
    this.trace(`cluster: ${name} ${JSON.stringify(spec.podCIDRs)} ${JSON.stringify(annotations)}`)
    this.api.put({ metadata: { name, uid, resourceVersion: '', annotations: prefixed }, spec, status: { conditions } })
  }

  /** A peer as its agent would announce it; seldom with something wrong. */
  putPeer(name: string): void {
    const { chance } = this
    const i = NAMES.indexOf(name)
    const number = chance.yes(0.9) ? i : chance.below(NAMES.length)
    const cidr = chance.yes(0.95) ? SUBNETS[number]! : chance.one(['10.99.1.0/24', OWN_SUBNET, 'no-cidr'])
    const mac = `02:00:00:00:00:${(10 + number + (chance.yes(0.1) ? 16 : 0)).toString(16).padStart(2, '0')}`
    const type = this.mode === 'host-gw' ? 'host-gw' : 'vxlan'
    const annotations: Record<string, string> = {
      'backend-data': type === 'host-gw' ? 'null' : `{"VNI":1,"VtepMAC":"${mac}"}`,
      'backend-type': type,
      'kube-subnet-manager': 'true',
      'public-ip': `${chance.yes(0.7) ? '192.168.10' : '192.168.20'}.${110 + (chance.yes(0.95) ? number : chance.below(6))}`,
    }
    const wrong = chance.below(40)
    if (wrong === 0) annotations['public-ip'] = chance.one(['', '192.168.10.300', 'here', 'fd00::1'])
    if (wrong === 1) annotations['backend-data'] = chance.one(['{', '', '7', '{"VtepMAC":"ff:ff:ff:ff:ff:ff"}', '{"VNI":1}'])
    if (wrong === 2) annotations['backend-type'] = chance.one(['wireguard', 'host-gw', 'vxlan', ''])
    if (wrong === 3) delete annotations['kube-subnet-manager']
    this.putNode(name, { spec: chance.yes(0.97) ? { podCIDR: cidr, podCIDRs: [cidr] } : {}, annotations })
  }

  /** One ordinary change: nodes join, leave, change; most often they only beat. */
  live(): void {
    const { chance, api } = this
    const name = chance.one(NAMES)
    const known = api.nodes.get(name)
    if (!known) this.putPeer(name)
    else if (chance.yes(0.35)) this.#beat(chance.yes(0.2) ? OWN : name)
    else if (chance.yes(0.4)) {
      this.trace(`cluster: ${name} leaves`)
      api.remove(name)
      // Made again at once, under another uid and perhaps another pod CIDR.
      if (chance.yes(0.3)) this.putPeer(name)
    } else this.putPeer(name)
  }

  #beat(name: string): void {
    const node = this.api.nodes.get(name)
    if (!node) return
    this.trace(`cluster: ${name} beats`)
    const beat = { type: 'Ready', status: 'True', lastHeartbeatTime: String(this.clock.nowMs) }
    const conditions = [...node.status.conditions.filter(({ type }) => type !== 'Ready'), beat]
    this.api.put({ ...node, status: { conditions } })
  }

  /** Nobody doubts what the node's uplink is; only whether it is up. */
  setLink(up: boolean): void {
    if (this.linkUp === up) return
    this.trace(`host: eth1 goes ${up ? 'up' : 'down'}`)
    this.linkUp = up
    // The kernel drops the routes of a device that goes down, and foreign ones with them: those are put back by whoever made them.
    if (!up) {
      const gone = this.fake.observe().filter((item) => item.kind === 'route' && item.dev === 'eth1' && !foreignKeys.has(keyOf(item)))
      this.fake.meddle(gone.map((item) => ({ verb: 'del', item })))
    }
    this.fake.rehost(hostWith(up))
  }

  #truthChanged(): void {
    this.#wanted = wantedOf(this.api.nodes.values(), this.mode, this.#wanted, this.api.version)
    for (const node of this.api.nodes.values()) {
      const ever = this.#keysOf(node.metadata.name)
      for (const key of keysNeeded(node, this.mode)) ever.add(key)
      if (verdictOf(node, this.mode) === 'unreadable') for (const key of ever) this.#doubtful.add(key)
    }
  }

  /** Keys that a node ever needed. */
  #keysOf(name: string): Set<string> {
    const keys = this.#ever.get(name) ?? new Set()
    this.#ever.set(name, keys)
    return keys
  }

  // ---- what may happen to the kernel

  /** What a dead predecessor, or Flannel, left. */
  #leftovers(): Item[] {
    const { chance } = this
    const dev = chance.yes(0.5) && this.mode !== 'host-gw' ? DEVICE : 'eth1'
    const items: Item[] = []
    if (dev === DEVICE) {
      const vxlan = { vni: 1, port: 8472, local: OWN_IP, uplink: 'eth1', learning: false, gbp: false }
      items.push({ kind: 'link', name: DEVICE, type: 'vxlan', up: chance.yes(0.8), mac: '02:00:00:00:01:01', mtu: 1450, vxlan })
      if (chance.yes(0.5)) items.push({ kind: 'fdb', dev, mac: '02:00:00:00:00:7f', vtep: '192.168.10.77' })
      if (chance.yes(0.5)) items.push({ kind: 'route', dst: '10.244.77.0/24', via: '10.244.77.0', dev, onlink: true, protocol: 3 })
    }
    if (chance.yes(0.5)) {
      items.push({ kind: 'route', dst: '10.244.78.0/24', via: '192.168.10.78', dev: 'eth1', protocol: TWILL_ROUTE_PROTOCOL })
    }
    return items
  }

  /** Somebody else deletes or changes an object of ours. */
  meddle(): void {
    const ours = this.fake.observe().filter((item) => !foreignKeys.has(keyOf(item)))
    if (ours.length === 0) return
    const item = this.chance.one(ours)
    const op: Op = this.chance.yes(0.7) ? { verb: 'del', item } : { verb: 'put', item: this.#bent(item) }
    this.trace(`somebody: ${showOp(op)}`)
    this.fake.meddle([op], this.chance.yes(0.5) ? { process: 'somebody', pid: 7 } : undefined)
  }

  #bent(item: Item): Item {
    switch (item.kind) {
      case 'link':
        return { ...item, up: false }
      case 'route':
        return { ...item, via: '192.168.10.66' }
      case 'neighbor':
        return { ...item, mac: '02:00:00:00:00:66' }
      case 'fdb':
        return { ...item, vtep: '192.168.10.66' }
      case 'sysctl':
        return { ...item, value: item.value === '0' ? '1' : '0' }
      case 'file':
        return { ...item, content: item.content.slice(0, this.chance.below(item.content.length)) }
      default:
        return item
    }
  }

  /** A file as a crash in the middle of writing would leave it, had it been written in place. */
  tear(): void {
    const files = this.fake.observe().filter((item) => item.kind === 'file')
    if (files.length === 0) return
    const file = this.chance.one(files)
    this.trace(`somebody: ${file.path} is torn`)
    this.fake.meddle([{ verb: 'put', item: this.#bent(file) }])
  }

  poisonOne(): void {
    const keys = [...this.#wanted.keys()]
    this.kernelFaults.poisoned = keys.length === 0 ? undefined : this.chance.one(keys)
    if (this.kernelFaults.poisoned) this.trace(`kernel: refuses ${this.kernelFaults.poisoned} from now on`)
  }

  // ---- the agent's lives

  start(): void {
    const life: Life = { number: ++this.#lives, stop: new AbortController(), dead: false, opsLeft: undefined, mutations: 0 }
    this.trace(`agent ${life.number}: starts`)
    this.life = life
    this.#told.clear()
    const clock = this.clock.of(life, this.chance)
    const log = this.#trace ? this.#traceLog(life) : silentLog
    const { fake, chance, kernelFaults } = this
    const kernel = kernelOf(
      {
        fake,
        clock: this.clock,
        chance,
        faults: kernelFaults,
        trace: (line) => this.trace(line),
        judge: (op) => this.#judge(op),
        between: () => this.#peace || (chance.yes(0.5) ? this.meddle() : this.live()),
        kill: (one) => this.kill(one),
      },
      life,
    )
    const agent = new Agent({
      flags: this.#flags,
      conf: confs.get(this.mode)!,
      prefix: PREFIX,
      env: { NODE_NAME: OWN },
      log,
      clock,
      cluster: openCluster({ env: {}, annotationPrefix: PREFIX, services: false, log, clock, client: this.api.clientOf(life) }),
      openKernel: async () => kernel,
      openDoor: async () => ({ count: () => 0, close: async () => {} }),
      conflist: { kind: 'file', path: CONFLIST, content: STOCK_CONFLIST, mode: 0o644 },
      sinceExecMs: () => 1,
    })
    this.agent = agent
    agent.run(life.stop.signal).then(
      () => life.stop.signal.aborted || this.#fail(`the agent ended by itself`),
      (error: unknown) => life.dead || life.stop.signal.aborted || this.#fail(`the agent died: ${(error as Error).stack}`),
    )
  }

  /** SIGKILL: nothing it had in hand goes on. */
  kill(life: Life): void {
    this.trace(`agent ${life.number}: killed`)
    life.dead = true
    this.clock.kill(life)
    if (this.life === life) this.life = undefined
    // Its sockets are closed by the kernel.
    life.stop.abort()
    this.clock.kill(life)
  }

  async stop(): Promise<void> {
    const { life } = this
    if (!life) return
    this.trace(`agent ${life.number}: stops`)
    life.stop.abort()
    this.life = undefined
    await this.clock.pass(50)
    life.dead = true
    this.clock.kill(life)
  }

  #traceLog(life: Life): Log {
    const say =
      (level: string) =>
      (fields: object, text: string): void =>
        this.trace(`agent ${life.number}: ${level} ${text} ${JSON.stringify(fields).slice(0, 300)}`)
    return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') } as Log
  }

  #hear(name: string, version: number): void {
    const heard = this.#told.get(name) ?? []
    this.#told.set(name, heard)
    const newest = heard.at(-1)?.version ?? 0
    if (version > newest) heard.push({ version, atMs: this.clock.awakeMs })
  }

  // ---- what must be true

  #fail(text: string): void {
    this.#violation ??= new Violation(text)
    this.trace(`VIOLATION: ${text}`)
  }

  /** At every operation of the agent. */
  #judge(op: Op): void {
    const key = keyOf(op.item)
    if (foreignKeys.has(key)) this.#fail(`foreign-untouched: ${showOp(op)}`)
    if (!this.#doubtful.has(key)) this.#judged++
    const wanted = this.#wanted.get(key)
    if (op.verb === 'put' || !wanted || this.#doubtful.has(key)) return
    const told = this.#told.get(wanted.node)?.findLast(({ atMs }) => atMs < this.clock.awakeMs - PASS_MS)
    if (told && told.version >= wanted.since) {
      this.#fail(`valid-kept: ${showOp(op)}, which ${wanted.node} needs since version ${wanted.since} (told ${told.version})`)
    }
  }

  #check(): void {
    const { fake, agent } = this
    const actual = new Map(fake.observe().map((item) => [keyOf(item), item]))
    for (const [key, line] of foreignKeys) {
      const item = actual.get(key)
      if (!item || show(item) !== line) this.#fail(`foreign-untouched: ${line} is now ${item ? show(item) : 'gone'}`)
    }
    const poisoned = this.kernelFaults.poisoned
    for (const [key, { line }] of this.#wanted) {
      if (this.#doubtful.has(key) || key === poisoned) continue
      const item = actual.get(key)
      if (!item || show(item) !== line) this.#fail(`converged: want ${line}, have ${item ? show(item) : 'nothing'}`)
    }
    for (const [key, item] of actual) {
      const isPeers = (item.kind === 'route' || item.kind === 'neighbor' || item.kind === 'fdb') && !foreignKeys.has(key)
      if (isPeers && !this.#wanted.has(key) && !this.#doubtful.has(key) && key !== poisoned)
        this.#fail(`converged: ${show(item)} is nobody's`)
    }
    this.#checkNode(actual)
    if (agent!.phase !== 'serving') this.#fail(`serving: the agent is ${agent!.phase}`)
    this.#checkFindings(agent!)
  }

  /** The node's own objects and what it announces. */
  #checkNode(actual: ReadonlyMap<string, Item>): void {
    const mtu = this.mode === 'host-gw' ? 1500 : 1450
    const env = `FLANNEL_NETWORK=${NETWORK}\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=${mtu}\nFLANNEL_IPMASQ=true\n`
    const file = actual.get(`file ${SUBNET_FILE}`)
    if (file?.kind !== 'file' || file.content !== env) this.#fail(`converged: subnet.env is ${file ? show(file) : 'gone'}`)
    const conflist = actual.get(`file ${CONFLIST}`)
    if (conflist?.kind !== 'file' || conflist.content !== STOCK_CONFLIST) this.#fail('converged: the conflist is not whole')
    const link = actual.get(`link ${DEVICE}`)
    if (this.mode !== 'host-gw' && !(link?.kind === 'link' && link.up && link.mtu === 1450)) this.#fail('converged: flannel.1 is not right')
    if (!actual.has('table inet twill')) this.#fail('converged: our nftables table is gone')
    const own = this.api.nodes.get(OWN)!
    const data = this.mode === 'host-gw' ? 'null' : `{"VNI":1,"VtepMAC":"${link?.kind === 'link' ? link.mac : ''}"}`
    const said = own.metadata.annotations
    if (said[`${PREFIX}backend-data`] !== data || said[`${PREFIX}public-ip`] !== OWN_IP) this.#fail(`announced: ${JSON.stringify(said)}`)
  }

  /** A fault is told by name, and nothing else is. */
  #checkFindings(agent: Agent): void {
    const subjects = new Set(agent.findings.map(({ subject }) => subject))
    for (const node of this.api.nodes.values()) {
      const { name } = node.metadata
      if (name === OWN) continue
      const verdict = verdictOf(node, this.mode)
      const wrong = verdict === 'faulty' || verdict === 'unreadable'
      if (wrong && !subjects.has(`node ${name}`)) this.#fail(`faults-named: ${name} is ${verdict} and nobody says so`)
    }
    for (const { id, text } of agent.findings) if (id.startsWith('api-') || id === 'pass-failed') this.#fail(`peace: ${id}: ${text}`)
  }

  /** A new agent on a node that is right does nothing. */
  async #checkIdleRestart(): Promise<void> {
    await this.stop()
    const { patches } = this.api
    const judged = this.#judged
    this.start()
    await this.clock.pass(20_000)
    if (this.#judged > judged) this.#fail(`idle-restart: ${this.#judged - judged} operations`)
    if (this.api.patches > patches) this.#fail(`idle-restart: ${this.api.patches - patches} patches`)
    if (this.agent!.phase !== 'serving') this.#fail(`idle-restart: the agent is ${this.agent!.phase}`)
  }

  /** Work and memory are bounded: no loop runs hot, nothing piles up. */
  #checkBounds(what: string, before: { requests: number; mutations: number }, limits: { requests: number; mutations: number }): void {
    const requests = this.api.requests - before.requests
    const mutations = (this.life?.mutations ?? 0) - before.mutations
    if (requests > limits.requests) this.#fail(`bounded: ${requests} requests ${what}`)
    if (mutations > limits.mutations) this.#fail(`bounded: ${mutations} operations ${what}`)
    if (this.life && this.clock.countOf(this.life) > 20) this.#fail(`bounded: ${this.clock.countOf(this.life)} timers ${what}`)
  }

  // ---- a whole history

  async run(): Promise<Outcome> {
    const { chance, clock, api } = this
    this.start()
    const steps = 8 + chance.below(24)
    // Most histories know few kinds of fault, so that their effects meet; some know all.
    const kinds = Object.keys(faults).filter(() => chance.yes(0.35))
    for (let step = 0; step < steps && !this.#violation; step++) {
      await clock.pass(chance.yes(0.3) ? chance.below(60) : chance.below(8000))
      if (kinds.length > 0 && chance.yes(0.4)) await this.#strike(chance.one(kinds))
      else this.live()
      if (!this.life && chance.yes(0.6)) this.start()
    }
    await this.#makePeace()
    const before = { requests: api.requests, mutations: this.life?.mutations ?? 0 }
    await clock.pass(PEACE_MS)
    this.#check()
    this.#checkBounds('in peace', before, { requests: 40, mutations: this.kernelFaults.poisoned ? 400 : 200 })
    const still = { requests: api.requests, mutations: this.life?.mutations ?? 0 }
    await clock.pass(40_000)
    this.#checkBounds('once all was right', still, { requests: 2, mutations: this.kernelFaults.poisoned ? 40 : 0 })
    if (!this.kernelFaults.poisoned) await this.#checkIdleRestart()
    await this.stop()
    if (this.#violation) throw this.#violation
    return { events: api.version, faults: [...this.#happened], simulatedMs: clock.nowMs }
  }

  async #strike(kind: string): Promise<void> {
    this.#happened.add(kind)
    this.trace(`fault: ${kind}`)
    await faults[kind]!(this)
  }

  async #makePeace(): Promise<void> {
    this.trace('peace')
    this.#peace = true
    Object.assign(this.kernelFaults, { refusals: 0, deaf: 0, failingDumps: 0, lagMs: 0 })
    this.setLink(true)
    this.api.heal()
    if (!this.api.nodes.has(OWN)) this.putNode(OWN, { spec: { podCIDR: OWN_SUBNET, podCIDRs: [OWN_SUBNET] }, annotations: {} })
    if (this.life) this.life.opsLeft = undefined
    else this.start()
  }
}

/** Runs the history of `seed`. @throws {Violation} naming the invariant. */
export const simulate = (seed: number, trace?: (line: string) => void): Promise<Outcome> => new World(seed, trace).run()
