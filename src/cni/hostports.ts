/**
 * The hostPorts of this node's pods: which pod has which, on file, so that the next agent finds them, and in the kernel.
 *
 *     <dir>/<containerID>-<ifname>.json     { order, ports }: written before the kernel is touched, removed after
 *
 * The directory lies below /run, like the network namespaces that the ports lead to. Order is that of coming: of two pods with one
 * hostPort the later has it.
 * @module
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import type { Log } from '#base/log.ts'
import { parseJson } from '#cni/json.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { demand } from '#cni/network.ts'
import { Turns } from '#cni/turns.ts'
import { sweepHalfWritten, wholeFiles, writeWhole } from '#cni/whole-file.ts'
import { type Item, keyOf, type Op, show } from '#model/kernel.ts'
import type { PodPorts } from '#model/pod.ts'
import { HOST_PORTS_OWNER, hostPortBase, hostPortItems } from '#plan/hostports.ts'

type Key = Pick<PodPorts, 'containerId' | 'ifname'>

interface Entry {
  readonly order: number
  readonly ports: PodPorts
}

const nameOf = ({ containerId, ifname }: Key): string => `${containerId}-${ifname}`

export interface HostPortsOptions {
  readonly dir: string
  readonly kernel: PodKernel
  readonly log: Log
}

export class HostPorts {
  readonly #o: HostPortsOptions
  readonly #entries = new Map<string, Entry>()
  /** What was last given to the kernel, by owner. */
  #planned = new Map<string, readonly Item[]>()
  /** Changes take turns: two pods may be after one port. */
  readonly #turns = new Turns(1)

  /** Reads what is there; torn files are no one's and removed. */
  static open(o: HostPortsOptions): HostPorts {
    mkdirSync(o.dir, { recursive: true, mode: 0o700 })
    sweepHalfWritten(o.dir)
    const hostPorts = new HostPorts(o)
    for (const entry of readEntries(o.dir)) hostPorts.#entries.set(nameOf(entry.ports), entry)
    for (const name of wholeFiles(o.dir)) if (!hostPorts.#entries.has(name.slice(0, -'.json'.length))) rmSync(`${o.dir}/${name}`)
    return hostPorts
  }

  private constructor(o: HostPortsOptions) {
    this.#o = o
  }

  /** In order of coming. */
  list(): PodPorts[] {
    const entries = [...this.#entries.values()].toSorted((a, b) => a.order - b.order)
    return entries.map(({ ports }) => ports)
  }

  get(key: Key): PodPorts | undefined {
    return this.#entries.get(nameOf(key))?.ports
  }

  /** After a reboot: the kernel knows none of them, and no pod has them. */
  bury(): void {
    for (const name of this.#entries.keys()) rmSync(`${this.#o.dir}/${name}.json`, { force: true })
    this.#entries.clear()
  }

  /** Has all of them kept from now on; the kernel holds most already, the next pass sees to the rest. */
  async resume(): Promise<void> {
    this.#planned = this.#plan()
    for (const [owner, items] of this.#planned) demand(await this.#o.kernel.commit(owner, items, []))
  }

  /** Leads the ports to the pod, in place of what it had before. All or nothing. */
  add(ports: PodPorts): Promise<void> {
    return this.#turns.run('', () => this.#add(ports))
  }

  /** Nothing there is a success. @returns False if there was nothing. */
  async remove(key: Key): Promise<boolean> {
    return this.#entries.has(nameOf(key)) && this.#turns.run('', () => this.#remove(key))
  }

  /** GC: of the pods of `network`, only those that are valid keep their ports. All are tried; the first failure is told. */
  async retain(network: string, isValid: (key: Key) => boolean): Promise<void> {
    const gone = this.list().filter((ports) => ports.network === network && !isValid(ports))
    const done = await Promise.allSettled(gone.map((ports) => this.remove(ports)))
    for (const one of done) if (one.status === 'rejected') throw one.reason
  }

  async #add(ports: PodPorts): Promise<void> {
    await this.#remove(ports)
    for (const other of this.#rivals(ports)) {
      const { podName, containerId } = other
      this.#o.log.warn({ containerId: ports.containerId, hasIt: containerId, pod: podName }, 'a hostPort of another pod goes to this one')
    }
    const order = Math.max(0, ...[...this.#entries.values()].map((entry) => entry.order)) + 1
    writeWhole(`${this.#o.dir}/${nameOf(ports)}.json`, JSON.stringify({ order, ports } satisfies Entry))
    this.#entries.set(nameOf(ports), { order, ports })
    try {
      await this.#apply()
    } catch (error) {
      await this.#remove(ports)
      throw error
    }
  }

  /** What kernel or disk would not let go stays ours: DEL fails, and comes again. */
  async #remove(key: Key): Promise<boolean> {
    const entry = this.#entries.get(nameOf(key))
    if (!entry) return false
    this.#entries.delete(nameOf(key))
    try {
      await this.#apply()
      rmSync(`${this.#o.dir}/${nameOf(key)}.json`, { force: true })
    } catch (error) {
      this.#entries.set(nameOf(key), entry)
      throw error
    }
    return true
  }

  #rivals(ports: PodPorts): PodPorts[] {
    const keys = ({ mappings }: PodPorts): string[] => mappings.map((one) => `${one.hostIp ?? ''} ${one.protocol} ${one.hostPort}`)
    const mine = new Set(keys(ports))
    return this.list().filter((other) => keys(other).some((key) => mine.has(key)))
  }

  /** What is wanted, by owner. Without any hostPort, nothing: a node that has none carries no chains for them. */
  #plan(): Map<string, readonly Item[]> {
    const all = this.list()
    if (all.length === 0 && this.#planned.size === 0) return new Map()
    return new Map([[HOST_PORTS_OWNER, hostPortBase(all)], ...hostPortItems(all)])
  }

  /** Gives the kernel the difference to what it was last given. What it refused may be half done: both states count as given then. */
  async #apply(): Promise<void> {
    const before = this.#planned
    const after = this.#plan()
    this.#planned = after
    try {
      await this.#change(before, after)
    } catch (error) {
      this.#planned = new Map([...after, ...before])
      throw error
    }
  }

  /** Owner by owner: what comes before what goes. But a subnet that comes may hold one that goes, and those of a set must not overlap. */
  async #change(before: ReadonlyMap<string, readonly Item[]>, after: ReadonlyMap<string, readonly Item[]>): Promise<void> {
    const base = after.get(HOST_PORTS_OWNER) ?? []
    const overtaken = (before.get(HOST_PORTS_OWNER) ?? []).filter(
      (item) => item.kind === 'nft-element' && !base.some((one) => keyOf(one) === keyOf(item)),
    )
    if (overtaken.length > 0) demand(await this.#o.kernel.commit(HOST_PORTS_OWNER, base, overtaken.map(deletion)))
    for (const [owner, items] of after) {
      const had = new Map((before.get(owner) ?? []).map((item) => [keyOf(item), show(item)]))
      const puts = items.filter((item) => had.get(keyOf(item)) !== show(item)).map((item): Op => ({ verb: 'put', item }))
      if (puts.length > 0 || items.length !== had.size) demand(await this.#o.kernel.commit(owner, items, puts))
    }
    const kept = new Set([...after.values()].flat().map(keyOf))
    for (const [owner, items] of before) {
      const dels = items.filter((item) => isPerPort(item) && !kept.has(keyOf(item))).map(deletion)
      if (!after.has(owner)) demand(await this.#o.kernel.release(owner, dels))
      else if (owner !== HOST_PORTS_OWNER && dels.length > 0) demand(await this.#o.kernel.commit(owner, after.get(owner)!, dels))
    }
  }
}

const deletion = (item: Item): Op => ({ verb: 'del', item })

/** What goes with a mapping. (route_localnet stays, as with the reference: others may have come to need it.) */
const isPerPort = (item: Item): boolean => item.kind === 'nft-element' || item.kind === 'flows'

/** In order of coming; torn files are no one's. */
function readEntries(dir: string): Entry[] {
  const names = wholeFiles(dir).filter((name) => name.endsWith('.json'))
  const entries = names.flatMap((name) => parseEntry(readFileSync(`${dir}/${name}`, 'utf8')) ?? [])
  return entries.toSorted((a, b) => a.order - b.order)
}

/** The hostPorts that an agent left in `dir`, without any agent. */
export const readHostPorts = (dir: string): PodPorts[] => readEntries(dir).map(({ ports }) => ports)

function parseEntry(content: string): Entry | undefined {
  const parsed = parseJson(content)
  const entry = 'value' in parsed ? (parsed.value as Partial<Entry> | null) : undefined
  return typeof entry?.order === 'number' && typeof entry.ports?.containerId === 'string' ? (entry as Entry) : undefined
}
