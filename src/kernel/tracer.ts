/** Asks the kernel who drops a packet: marks some for tracing in a table of our own, and listens to what becomes of them. @module */

import { SyscallError } from '#kernel/ffi.ts'
import { NETLINK_NETFILTER, NetlinkSocket } from '#kernel/socket.ts'
import type { NftHook } from '#model/kernel.ts'
import { NLM_F_ACK } from '#wire/netlink.ts'
import { batch } from '#wire/nftables/messages.ts'
import { decodeChain, decodeTrace, getAllChains, NFNLGRP_NFTRACE, type TraceEvent, traceTable } from '#wire/nftables/trace.ts'

/** A drop: the rule or policy, and the base chain by which the packet came to it. */
export interface Drop {
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly base: string
  readonly hook: NftHook
  readonly handle?: number
}

/** Where a packet is that comes from and goes to such devices, the likelier last. */
function hooksOf(devices: TraceEvent['devices']): readonly NftHook[] {
  if (devices?.incoming) return devices.outgoing ? ['postrouting', 'forward'] : ['prerouting', 'input']
  return ['postrouting', 'output']
}

/** So many events are kept: enough to name a culprit, however busy the node is. */
const MAX_EVENTS = 10_000
/** Gives each table a name of its own. */
let opened = 0

export class Tracer {
  readonly #control: NetlinkSocket
  readonly #news: NetlinkSocket
  readonly #events: TraceEvent[] = []

  private constructor(control: NetlinkSocket, news: NetlinkSocket) {
    this.#control = control
    this.#news = news
    news.listen((messages) => {
      if (messages === 'overrun') return
      for (const message of messages) {
        const event = this.#events.length < MAX_EVENTS ? decodeTrace(message) : undefined
        if (event) this.#events.push(event)
      }
    })
  }

  /** Traces packets that match one of `rules`, until close(). @throws {SyscallError} if the kernel refuses. */
  static async open(rules: readonly string[]): Promise<Tracer> {
    const news = NetlinkSocket.open({ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTRACE] })
    const control = NetlinkSocket.open({ protocol: NETLINK_NETFILTER })
    const tracer = new Tracer(control, news)
    try {
      const requests = traceTable(`twill-doctor-${process.pid}-${++opened}`, rules).map((one) => ({ ...one, flags: one.flags | NLM_F_ACK }))
      const failed = (await control.request(batch(requests))).find(({ errno }) => errno !== 0)
      if (failed) throw new SyscallError('nf_tables trace', failed.errno)
      return tracer
    } catch (error) {
      await tracer.close()
      throw error
    }
  }

  /** Who dropped marked packets so far, each once. */
  async drops(): Promise<Drop[]> {
    const chains = (await this.#control.dump(getAllChains)).flatMap((message) => decodeChain(message) ?? [])
    const found = new Map<string, Drop>()
    const devices = new Map<number, TraceEvent['devices']>()
    for (const { id, family, table, chain, handle, drop, ...event } of this.#events) {
      if (event.devices) devices.set(id, event.devices)
      if (!drop) continue
      const hooks = hooksOf(devices.get(id))
      const bases = chains.filter((one) => one.family === family && one.table === table && one.base && hooks.includes(one.base.hook))
      const base =
        bases.find(({ name }) => name === chain) ?? bases.toSorted((a, b) => hooks.indexOf(b.base!.hook) - hooks.indexOf(a.base!.hook))[0]
      if (!base) continue
      const one: Drop = { family, table, chain, base: base.name, hook: base.base!.hook, ...(handle !== undefined && { handle }) }
      found.set(JSON.stringify(one), one)
    }
    return [...found.values()]
  }

  /** The table goes with its socket. */
  async close(): Promise<void> {
    await this.#news.close()
    await this.#control.close()
  }
}
