/**
 * One case, played on one side: a node and pods as namespaces of their own, the plugins called as a runtime calls them, and
 * everything a person could see afterwards as one value.
 * @module
 */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { type CniServer, startCniServer } from '#cni/server.ts'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { lockFile } from '#kernel/lock.ts'
import { withNetns } from '#kernel/netns.ts'
import { type TempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { Kernel, Op } from '#model/kernel.ts'

export interface Answer {
  readonly exit: number | null
  readonly text: string
}

/** What a runtime passes in the environment. */
export interface Call {
  readonly plugin: string
  readonly command: string
  readonly id: string
  readonly ifname: string
  readonly args?: string
  /** stdin. */
  readonly conf: string
  /** Overrides; an empty value takes the variable away. */
  readonly env?: Readonly<Record<string, string>>
}

export type Json = Record<string, unknown>

/** A node with its pods. */
export abstract class Side {
  readonly dir: string
  readonly node: TempNetns
  readonly #pods = new Map<string, TempNetns>()

  constructor(dir: string) {
    this.dir = dir
    mkdirSync(dir, { recursive: true })
    this.node = tempNetns()
    // Or the view of the node would change for a second after each ADD.
    withNetns(this.node.path, () => writeFileSync('/proc/sys/net/ipv6/conf/default/accept_dad', '0'))
  }

  /** Directory of the plugins. */
  protected abstract readonly bin: string
  protected abstract readonly env: Readonly<Record<string, string>>

  /** Path of the namespace of pod `id`. */
  pod(id: string): string {
    const one = this.#pods.get(id) ?? tempNetns()
    this.#pods.set(id, one)
    return one.path
  }

  call(call: Call): Promise<Answer> {
    return this.callIn(this.bin, call)
  }

  /** Calls a plugin of another directory. */
  callIn(bin: string, call: Call): Promise<Answer> {
    const env: Record<string, string> = {
      PATH: process.env.PATH!,
      CNI_COMMAND: call.command,
      CNI_CONTAINERID: call.id,
      CNI_NETNS: this.pod(call.id),
      CNI_IFNAME: call.ifname,
      CNI_PATH: bin,
      ...(call.args === undefined ? {} : { CNI_ARGS: call.args }),
      ...this.env,
      ...call.env,
    }
    for (const [name, value] of Object.entries(env)) if (value === '') delete env[name]
    return run(this.node.path, [join(bin, call.plugin)], call.conf.replaceAll('@DIR@', this.dir), env)
  }

  /** What is there now, with what differs by design or chance between any two runs masked. */
  async view(): Promise<{ node: View; pods: readonly View[]; files: Readonly<Record<string, string>> }> {
    const pods = [...this.#pods.values()]
    const [node, ...inside] = await Promise.all([this.node, ...pods].map(({ path }) => viewOf(path)))
    const files = Object.fromEntries(
      filesBelow(join(this.dir, 'networks')).map((path) => [path, readFileSync(join(this.dir, 'networks', path), 'utf8')]),
    )
    return { node: node!, pods: inside, files }
  }

  /** `text` with names of this side alone replaced, so that two sides may compare. */
  mask(text: string): string {
    let out = text
    for (const [id, { path }] of this.#pods) out = out.replaceAll(path, `POD-${id}`)
    return masked(out.replaceAll(this.dir, '@DIR@'))
  }

  close(): Promise<void> {
    for (const one of [this.node, ...this.#pods.values()]) one.remove()
    return Promise.resolve()
  }
}

/** The reference plugins of one maker. */
export class Theirs extends Side {
  protected readonly bin: string
  protected readonly env = {}
  constructor(dir: string, bin: string) {
    super(dir)
    this.bin = bin
  }
}

/** The shim and the agent's CNI half on the real kernel. The main thread is in the node's namespace while it is open. */
export class Ours extends Side {
  protected readonly bin: string
  protected readonly env: Readonly<Record<string, string>>
  #server: CniServer | undefined
  #kernel: Kernel | undefined

  constructor(dir: string, bin: string) {
    super(dir)
    this.bin = bin
    this.env = { TWILL_CNI_SOCKET: join(dir, 'run/cni.sock') }
  }

  /** @param enter  Puts the main thread into the namespace at the path. */
  async open(enter: (path: string) => void): Promise<void> {
    enter(this.node.path)
    const kernel = await openLinux()
    this.#kernel = kernel
    this.#server = await startCniServer({
      runDir: join(this.dir, 'run'),
      kernel: {
        commit: (_owner, _wanted, ops: readonly Op[]) => kernel.apply(ops),
        release: (_owner, ops: readonly Op[]) => kernel.apply(ops),
        deviceTo: async (ip) => (await kernel.routeTo(ip))?.dev,
        host: (netns) => kernel.host(netns),
      },
      takeLock: (path) => lockFile(path, systemClock),
      clock: systemClock,
      log: silentLog,
      flannel: { subnetFile: join(this.dir, 'subnet.env'), dataDir: join(this.dir, 'flannel') },
      networksDir: join(this.dir, 'networks'),
      resultsDir: join(this.dir, 'results'),
    })
  }

  override async close(): Promise<void> {
    await this.#server?.close()
    await this.#kernel?.close()
    await super.close()
  }
}

/** Puts the main thread into the network namespace at `path`. */
export function enter(path: string): void {
  const fd = openSync(path, 'r')
  sys.setns(fd, CLONE_NEWNET)
  closeSync(fd)
}

/** Runs `argv` in the namespace at `netns`; stderr is dropped (the reference plugins log to it). */
export function run(
  netns: string,
  argv: readonly string[],
  input = '',
  env: Readonly<Record<string, string>> = process.env as Record<string, string>,
): Promise<Answer> {
  // A child is born where the main thread is: one exec less than by nsenter, a dozen times a case.
  const child = withNetns(netns, () => spawn(argv[0]!, argv.slice(1), { env, stdio: ['pipe', 'pipe', 'ignore'] }))
  child.stdin.on('error', () => {}) // it may end before it has read
  child.stdin.end(input)
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  return new Promise((resolve) => child.once('close', (exit) => resolve({ exit, text })))
}

/** Directories of random or per-run names and MACs. */
const masked = (text: string): string =>
  text
    .replace(/veth[0-9a-f]{8}/g, 'VETH')
    .replace(/(?<![0-9a-f:])[0-9a-f]{2}(:[0-9a-f]{2}){5}(?![0-9a-f:])/g, (mac) => (mac === 'ff:ff:ff:ff:ff:ff' ? mac : 'MAC'))

/** Keys of `ip -d -j` that tell of the moment, or of identity: indexes, timers, bridge identifiers made from MACs. */
const transient = new Set([
  'nodad', // ours skips duplicate detection by the address's own flag too: the gateway on a new bridge answers at once
  ...['ifindex', 'link_index', 'link_netnsid', 'valid_life_time', 'preferred_life_time', 'tentative', 'optimistic', 'stable-privacy'],
  ...['hello_timer', 'tcn_timer', 'topology_change_timer', 'gc_timer', 'message_age_timer', 'forward_delay_timer', 'hold_timer'],
  ...['bridge_id', 'root_id', 'designated_bridge', 'designated_root', 'designated_port', 'root_port', 'root_path_cost', 'topology_change'],
  ...['topology_change_detected', 'topology_change_ack', 'config_pending', 'fdb_n_learned', 'port_no', 'port_id', 'id', 'no'],
  ...['num_tx_queues', 'num_rx_queues'], // ours ask for the one queue that a veth has; the reference leaves room for one a CPU
  'txqlen', // of a veth Debian's plugins set 0; later ones leave the kernel's 1000, as ours do
])

/** A namespace, less what is masked. */
export interface View {
  readonly links: readonly Json[]
  readonly routes: Json
  readonly vlans: unknown
  readonly sysctls: Json
}

/** Everything a person could see of a namespace, less what is of the moment. */
export async function viewOf(netns: string): Promise<View> {
  const { text } = await run(netns, ['ip', '-d', '-j', '-b', '-'], 'addr show\nroute show table all\n')
  const [links, routes] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Json[])
  const vlans = links!.some((link) => JSON.stringify(link).includes('"vlan_filtering":1'))
    ? (JSON.parse((await run(netns, ['bridge', '-j', 'vlan'])).text) as unknown)
    : []
  const sysctls = sysctlsOf(netns)
  for (const link of links!) if (isIdleBridge(link, links!)) forgetIdle(link, routes!, sysctls)
  const view = { links: links!.map(plain), routes: byName(routes!.map(plain) as Json[]), vlans, sysctls }
  return JSON.parse(masked(JSON.stringify(view))) as View
}

const isIdleBridge = (link: Json, all: readonly Json[]): boolean =>
  JSON.stringify(link).includes('"info_kind":"bridge"') && all.every(({ master }) => master !== link.ifname)

/** A bridge of ours keeps its MTU when its last port leaves; the reference's goes back to 1500. And the kernel tells of the lost
 * carrier up to a second later. */
function forgetIdle(link: Json, routes: readonly Json[], sysctls: Json): void {
  delete link.mtu
  delete (sysctls[`net/ipv6/conf/${String(link.ifname)}`] as Json | undefined)?.mtu
  delete link.operstate
  link.flags = (link.flags as string[]).filter((flag) => flag !== 'NO-CARRIER' && flag !== 'LOWER_UP')
  for (const route of routes) if (route.dev === link.ifname) route.flags = []
}

/** By what a route is known by; what is left of it. */
function byName(routes: readonly Json[]): Json {
  return Object.fromEntries(routes.map(({ table, type, dst, dev, ...rest }) => [[table, type, dst, dev].map(String).join(' '), rest]))
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== 'object') return value
  const one = value as Json
  return Object.fromEntries(
    Object.entries(one)
      .filter(([key]) => !transient.has(key))
      .map(([key, inner]) => [key, typeof inner === 'string' ? inner.replace(/^fe80::[0-9a-f:]+$/, 'LINK-LOCAL') : plain(inner)]),
  )
}

/** What plugins set, or what follows from it. Every setting of every device would be half a thousand files a look. */
const watched = {
  ipv4: ['forwarding', 'arp_notify', 'rp_filter', 'route_localnet', 'proxy_arp', 'accept_local', 'arp_ignore', 'promote_secondaries'],
  ipv6: ['forwarding', 'accept_dad', 'accept_ra', 'enhanced_dad', 'disable_ipv6', 'keep_addr_on_down', 'addr_gen_mode', 'mtu', 'proxy_ndp'],
}

/** The settings of both families for every device. */
function sysctlsOf(netns: string): Json {
  return withNetns(netns, () => {
    const found: Json = { 'net/ipv4/ip_forward': readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() }
    for (const [family, keys] of Object.entries(watched)) {
      const conf = `/proc/sys/net/${family}/conf`
      for (const dev of readdirSync(conf)) {
        const values = keys.flatMap((key) => {
          const path = join(conf, dev, key)
          return existsSync(path) ? [[key, readFileSync(path, 'utf8').trim()]] : []
        })
        found[`net/${family}/conf/${dev.replace(/^veth[0-9a-f]{8}$/, 'VETH')}`] = Object.fromEntries(values)
      }
    }
    return found
  })
}

export function filesBelow(dir: string): string[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name).slice(dir.length + 1))
    .toSorted()
}
