/**
 * An errand: the ops that wire up one pod, written down as steps that another process carries out in one go (the CNI shim,
 * which a runtime waits for anyway), and its report judged. Steps and report as bytes: src/wire/errand.ts.
 *
 * Only the usual case is written down: a pair is made, then everything else is put, first in the agent's own namespace, then
 * in the pod's. Whatever else comes, or goes wrong on the way, is the writer's: what is put twice stays what it is.
 * @module
 */
import { readlinkSync } from 'node:fs'
import { devicesOf, encodeOp, isRouteSide } from '#kernel/encode.ts'
import { claimPort } from '#kernel/socket.ts'
import type { Op, SysctlItem } from '#model/kernel.ts'
import { be32, decodeReport, encodeProgram, STEP, type Step } from '#wire/errand.ts'
import { concat, encodeRequests, type Request } from '#wire/netlink.ts'
import { setIpv4Conf } from '#wire/rtnetlink/link.ts'

/** Stands in messages for what only the shim knows: a descriptor, or the index of the pod's device. No real one is so large. */
const UNKNOWN = 0x7ffffff1
/** Port ids of errands' sockets: above every process id, below those that the kernel chooses itself (negative). */
const FIRST_PORT = 0x54570000
const PORT_BYTES = 4
/** Of a sysctl: the kernel has no IPv6, so there is nothing to switch off. */
const ENOENT = 2

export interface Errand {
  readonly program: Uint8Array
  /** Ops that are not in it: they are quicker done by the agent afterwards. */
  readonly left: readonly Op[]
  /** True if the report says that everything was done. */
  done(report: Uint8Array): boolean
}

/** `ops` as an errand; undefined if they are not of the usual form. `index` knows the devices of the agent's own namespace. */
export function errandOf(ops: readonly Op[], index: (name: string) => number | undefined): Errand | undefined {
  const pair = ops[0]?.item
  const peer = pair?.kind === 'link' ? pair.peer : undefined
  if (peer?.netns === undefined) return undefined
  const inPod = (name: string): number | undefined => (name === peer.name ? UNKNOWN : undefined)
  const steps = new Steps(peer.netns)
  const left: Op[] = []
  for (const { verb, item } of ops) {
    const [foreign, indexOf] = item.netns === undefined ? [false, index] : [item.netns !== peer.netns, inPod]
    if (verb !== 'put' || foreign) return undefined
    const op = { verb, item } as Op
    if (item.kind === 'sysctl' && item.netns === undefined) {
      left.push(op)
      continue
    }
    if (item.netns !== undefined) steps.enter(peer.name)
    if (item.kind === 'sysctl') {
      const message = asMessage(item)
      if (message) steps.send(true, [message], 0)
      else steps.write(`/proc/sys/${item.path}`, item.value)
      continue
    }
    if (!isRouteSide(op)) return undefined
    const indexes = devicesOf(op).map(indexOf)
    if (indexes.includes(undefined)) return undefined
    const unknowns = indexes.filter((one) => one === UNKNOWN).length + (item === pair ? 1 : 0)
    steps.send(
      item.netns !== undefined,
      encodeOp(op, (name) => indexOf(name)!, UNKNOWN),
      unknowns,
    )
  }
  const list = steps.end()
  return list && { program: encodeProgram(list), left, done: (report) => allDone(report, list) }
}

/** All namespaces' directories of one name lie in one hash chain of the kernel (fs/proc/proc_sysctl.c), so that a first look into
 * a pod's /proc/sys/net takes longer with each pod of the node: 0.2 ms with 200. A message that does the same takes 5 µs. */
function asMessage({ path, value }: SysctlItem): Request | undefined {
  const [, name, key] = /^net\/ipv4\/conf\/([^/]+)\/([^/]+)$/.exec(path) ?? []
  return name === undefined || key === undefined ? undefined : setIpv4Conf(name, key, Number(value))
}

/** Steps under construction: messages of one namespace that follow each other go in one send. */
class Steps {
  readonly #list: Step[]
  #batch: Request[] = []
  #inPod = false
  #unknowns = 0
  #torn = false
  #entered = false

  constructor(netns: string) {
    this.#list = [
      { kind: STEP.home, bytes: text(readlinkSync('/proc/self/ns/net')) },
      { kind: STEP.netns, bytes: text(netns) },
    ]
  }

  /** Before the first step that needs to be in the pod's namespace, whose device is `name`. */
  enter(name: string): void {
    if (this.#entered) return
    this.#flush()
    this.#list.push({ kind: STEP.enter, bytes: text('') }, { kind: STEP.index, bytes: text(name) })
    this.#entered = true
  }

  write(path: string, value: string): void {
    this.#flush()
    this.#list.push({ kind: STEP.sysctl, bytes: text(`${path}\0${value}`) })
  }

  /** @param unknowns  How many words of the messages the shim has to fill in. */
  send(inPod: boolean, requests: readonly Request[], unknowns: number): void {
    if (this.#inPod !== inPod) this.#flush()
    this.#inPod = inPod
    this.#batch.push(...requests)
    this.#unknowns += unknowns
  }

  /** Undefined if a message holds, by chance, the word that stands for the unknown. */
  end(): readonly Step[] | undefined {
    this.#flush()
    return this.#torn ? undefined : this.#list
  }

  #flush(): void {
    if (this.#batch.length === 0) return
    const step = netlinkStep(this.#batch, this.#inPod)
    this.#torn ||= step.patches.length !== this.#unknowns
    this.#list.push(step)
    this.#batch = []
    this.#unknowns = 0
  }
}

let nextPort = 0

function netlinkStep(batch: readonly Request[], inPod: boolean): Step & { patches: readonly number[] } {
  const port = FIRST_PORT + (nextPort++ & 0xffff)
  claimPort(port)
  const messages = encodeRequests(batch, 1)
  const view = new DataView(messages.buffer)
  const patches: number[] = []
  for (let at = 0; at < messages.length; at += 4) if (view.getUint32(at, true) === UNKNOWN) patches.push(PORT_BYTES + at)
  return { kind: STEP.netlink, inPod, bytes: concat(be32(port), messages), patches }
}

function allDone(report: Uint8Array, steps: readonly Step[]): boolean {
  const done = decodeReport(report)
  return (
    done?.length === steps.length &&
    steps.every(({ kind }, i) => done[i]!.errno === 0 || (kind === STEP.sysctl && done[i]!.errno === ENOENT))
  )
}

const text = (value: string): Uint8Array => Buffer.from(value)
