/**
 * One node and one agent among thousands: a network namespace with an uplink, the stand-in API, the agent under test as a process, and
 * what the kernel says it did. Prints one JSON document.
 *
 *     node tools/bench/scale/world.ts '{"argv":["…"],"backend":"vxlan","nodes":5000,"dir":"…","status":true,"life":true}'
 *
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import { execFileSync, spawn } from 'node:child_process'
import { openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import { RTM_NEWNEIGH, RTM_NEWROUTE, RTNLGRP } from '#wire/rtnetlink/constants.ts'
import { decodeRoute, RT_TABLE_MAIN } from '#wire/rtnetlink/route.ts'
import { addressOf, type BackendType, NETWORK, nameOf, StandInApi, subnetOf, UNDERLAY_PREFIX } from './api.ts'

export interface World {
  /** The agent; {api}, {net-conf} and {dir} stand for what the world makes. */
  readonly argv: readonly string[]
  readonly backend: BackendType
  readonly nodes: number
  /** For the agent's files; exists. */
  readonly dir: string
  /** The agent says on {dir}/agent.sock how many mutating messages it sent. */
  readonly status?: boolean
  /** Go on with heartbeats, joins and leaves after the start. */
  readonly life: boolean
}

export interface Report {
  /** From fork to the last route, to the first, and the CPU time until the last. */
  readonly startMs: number
  readonly firstMs: number
  readonly startCpuMs: number
  /** Resident memory once all is quiet, what of it is anonymous, and the highest ever. */
  readonly rssMB: number
  readonly anonymousMB: number
  readonly peakMB: number
  readonly life?: {
    /** CPU in percent of a core, and messages, under 17 heartbeats a second. */
    readonly heartbeatCpu: number
    readonly heartbeatMessages: number
    readonly joinMs: readonly number[]
    readonly joinCpuMs: number
    /** Kernel notifications a join; the agent's own count of messages where it has one. */
    readonly joinNotifications: number
    readonly joinMessages?: number
    readonly leaveMs: readonly number[]
    readonly leaveCpuMs: number
    /** Resident memory after all of that. */
    readonly rssMB: number
  }
}

const HEARTBEATS_A_SECOND = 17
const HEARTBEAT_SECONDS = 20
const JOINS = 50
const DEADLINE_MS = 120_000

const o = JSON.parse(process.argv[2]!) as World
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8', maxBuffer: 1 << 28 })
const ip = (...args: string[]): string => run('ip', ...args)
const lines = (text: string, pattern: RegExp): number => text.split('\n').filter((line) => pattern.test(line)).length

/** What the kernel announced: routes into the pod network by destination, and how many announcements there were in all. */
class Kernel {
  readonly routes = new Set<string>()
  announced = 0
  firstMs: number | undefined
  #wake: () => void = () => {}
  readonly #socket = NetlinkSocket.open({ protocol: NETLINK_ROUTE, groups: [RTNLGRP.route4, RTNLGRP.neighbor] })

  constructor() {
    this.#socket.listen((notification) => {
      if (notification === 'overrun') throw new Error('the benchmark missed kernel notifications')
      for (const message of notification) {
        if (message.type >= RTM_NEWNEIGH) this.announced++
        else {
          const route = decodeRoute(message)
          if (!route?.dst.startsWith('10.') || route.table !== RT_TABLE_MAIN) continue
          this.announced++
          this.firstMs ??= performance.now()
          if (message.type === RTM_NEWROUTE) this.routes.add(route.dst)
          else this.routes.delete(route.dst)
        }
      }
      this.#wake()
    })
  }

  async until(what: string, done: () => boolean): Promise<number> {
    const end = performance.now() + DEADLINE_MS
    while (!done()) {
      if (performance.now() > end) throw new Error(`${what}: not within ${DEADLINE_MS} ms, ${this.routes.size} routes`)
      await Promise.race([sleep(1000, undefined, { ref: true }), new Promise<void>((resolve) => (this.#wake = resolve))])
    }
    return performance.now()
  }

  close(): Promise<void> {
    return this.#socket.close()
  }
}

/** CPU time of all threads so far, in milliseconds. */
function cpuMs(pid: number): number {
  let ns = 0
  for (const task of readdirSync(`/proc/${pid}/task`))
    ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0])
  return ns / 1e6
}

const megabytes = (pid: number, field: string): number =>
  (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024) / 1e6

/** Mutating messages so far, as the agent says. */
async function mutations(): Promise<number | undefined> {
  if (!o.status) return undefined
  const chunks: Buffer[] = []
  const response = await new Promise<AsyncIterable<Buffer>>((resolve, reject) =>
    get({ socketPath: `${o.dir}/agent.sock`, path: '/status' }, resolve).on('error', reject),
  )
  for await (const chunk of response) chunks.push(chunk)
  return (JSON.parse(Buffer.concat(chunks).toString()) as { kernel: { mutations: number } }).kernel.mutations
}

async function live(pid: number, api: StandInApi, kernel: Kernel): Promise<NonNullable<Report['life']>> {
  const quiet = { cpu: cpuMs(pid), announced: kernel.announced, sent: await mutations() }
  await sleep(500)
  quiet.cpu = cpuMs(pid)
  const began = performance.now()
  for (let beat = 0; beat < HEARTBEATS_A_SECOND * HEARTBEAT_SECONDS; beat++) {
    api.heartbeat(1 + ((beat * 37) % o.nodes))
    await sleep(Math.max(0, began + ((beat + 1) * 1000) / HEARTBEATS_A_SECOND - performance.now()))
  }
  const heartbeatCpu = ((cpuMs(pid) - quiet.cpu) / (performance.now() - began)) * 100
  const heartbeatMessages = quiet.sent === undefined ? kernel.announced - quiet.announced : (await mutations())! - quiet.sent

  const change = async (act: (i: number) => void, there: boolean) => {
    const took: number[] = []
    const before = { cpu: cpuMs(pid), announced: kernel.announced }
    for (let i = o.nodes + 1; i <= o.nodes + JOINS; i++) {
      const start = performance.now()
      act(i)
      took.push((await kernel.until(`node ${i}`, () => kernel.routes.has(subnetOf(i)) === there)) - start)
      await sleep(100)
    }
    return { took, cpuMs: (cpuMs(pid) - before.cpu) / JOINS, announced: (kernel.announced - before.announced) / JOINS }
  }
  const sent = await mutations()
  await sleep(500)
  const joins = await change((i) => api.join(i), true)
  const joinMessages = sent === undefined ? undefined : ((await mutations())! - sent) / JOINS
  const leaves = await change((i) => api.leave(i), false)
  return {
    heartbeatCpu,
    heartbeatMessages,
    joinMs: joins.took,
    joinCpuMs: joins.cpuMs,
    joinNotifications: joins.announced,
    ...(joinMessages !== undefined && { joinMessages }),
    leaveMs: leaves.took,
    leaveCpuMs: leaves.cpuMs,
    rssMB: megabytes(pid, 'VmRSS'),
  }
}

ip('link', 'set', 'lo', 'up')
ip('link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'switch')
ip('link', 'set', 'switch', 'up')
ip('link', 'set', 'eth1', 'up')
ip('addr', 'add', `${addressOf(0)}/${UNDERLAY_PREFIX}`, 'dev', 'eth1')
const api = new StandInApi(o.backend, o.nodes)
const url = await api.listen()
api.warm()
const netConf = `${o.dir}/net-conf.json`
writeFileSync(netConf, JSON.stringify({ Network: NETWORK, EnableNFTables: true, Backend: { Type: o.backend } }))
const kernel = new Kernel()

const fill = (text: string): string => text.replace('{api}', url).replace('{net-conf}', netConf).replace('{dir}', o.dir)
const log = openSync(`${o.dir}/log`, 'w')
const [command, ...args] = o.argv.map(fill)
const start = performance.now()
// Flannel never starts with more nodes than this queue holds; its default is 5000.
const agent = spawn(command!, args, {
  stdio: ['ignore', log, log],
  env: { ...process.env, NODE_NAME: nameOf(0), EVENT_QUEUE_DEPTH: String(2 * o.nodes) },
})
agent.on('exit', (code, signal) => {
  if (!agent.killed) {
    console.error(`the agent ended by itself (${code ?? signal}): ${readFileSync(`${o.dir}/log`, 'utf8').slice(-2000)}`)
    process.exit(1)
  }
})
const pid = agent.pid!
try {
  const all = await kernel.until('start', () => kernel.routes.size >= o.nodes)
  const startCpuMs = cpuMs(pid)
  await sleep(5000)
  if (o.backend === 'vxlan') {
    const neighbors = lines(ip('neigh', 'show', 'nud', 'permanent'), /dev flannel\.1 lladdr/)
    const fdb = lines(run('bridge', 'fdb', 'show', 'dev', 'flannel.1'), / dst .* permanent/)
    if (neighbors !== o.nodes || fdb !== o.nodes) throw new Error(`${neighbors} neighbors and ${fdb} FDB entries for ${o.nodes} nodes`)
  }
  const report: Report = {
    startMs: all - start,
    firstMs: kernel.firstMs! - start,
    startCpuMs,
    rssMB: megabytes(pid, 'VmRSS'),
    anonymousMB: megabytes(pid, 'RssAnon'),
    peakMB: megabytes(pid, 'VmHWM'),
    ...(o.life && { life: await live(pid, api, kernel) }),
  }
  console.log(JSON.stringify(report))
} finally {
  agent.kill()
  api.close()
  await kernel.close()
}
