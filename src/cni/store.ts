/**
 * host-local's store: one file an address, so that this agent and the reference plugin can take turns on one directory.
 *
 *     <dataDir>/<network>/10.244.1.5           `<containerID>\r\n<ifname>`, mode 0600, made with O_EXCL
 *     <dataDir>/<network>/last_reserved_ip.0   the address given last from range set 0
 *     <dataDir>/<network>/lock                 BSD flock around every look and change
 *
 * An index in memory spares reading n files for every ADD. The directory's mtime, checked under the lock, tells when
 * someone else changed it. Files are not synced: addresses die with their pods when the power fails, and what is left torn
 * then (empty) belongs to no one and is swept at the first look, under the lock, where no other writer can be half way.
 * @module
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { CniError, cniCode } from '#cni/failure.ts'
import { candidates, type IpamConf, type Range, type RangeSet, rangeOf, showSet } from '#cni/ipam.ts'
import { parseIp } from '#net/ip.ts'

/** Takes the BSD lock on the file at `path` (made if absent); the result gives it back. */
export type TakeLock = (path: string) => Promise<() => void>

export interface Owner {
  readonly containerId: string
  readonly ifname: string
}

/** An address with the prefix of its subnet, and the gateway of its range (another maker's plugin may name none). */
export interface Reservation {
  readonly address: string
  readonly gateway?: string
}

/** Addresses chosen, and kept from everyone else until the end. */
export interface Held {
  readonly reservations: Reservation[]
  /** All of them on disk, or none. */
  write(): void
  end(): void
}

interface Chosen {
  readonly ip: string
  /** Number of the range set. */
  readonly set: number
  readonly reservation: Reservation
}

const contentOf = (owner: Owner): string => `${owner.containerId}\r\n${owner.ifname}`

export class AddressStore {
  readonly #dir: string
  readonly #takeLock: TakeLock
  /** File content, trimmed, by address. */
  #taken = new Map<string, string>()
  #mtimeNs = -1n
  #turn: Promise<unknown> = Promise.resolve()

  constructor(dir: string, takeLock: TakeLock) {
    this.#dir = dir
    this.#takeLock = takeLock
  }

  /** One address from each set of `conf`, on disk.
   * @throws {CniError} when the owner has an address already, a set is exhausted or an address asked for is not to be had. */
  async allocate(conf: IpamConf, owner: Owner): Promise<Reservation[]> {
    const held = await this.hold(conf, owner)
    try {
      held.write()
      return held.reservations
    } finally {
      held.end()
    }
  }

  /** As `allocate`, but nothing is on disk before `write()`: making a file takes as long as making a network device, and can be
   * done while the kernel does that. No one else chooses before `end()`, which must follow. */
  hold(conf: IpamConf, owner: Owner): Promise<Held> {
    return new Promise((give, refuse) => {
      this.#locked(() => {
        const chosen = this.#choose(conf, owner)
        let written = false
        const { promise: ended, resolve } = Promise.withResolvers<void>()
        give({
          reservations: chosen.map(({ reservation }) => reservation),
          write: () => {
            this.#write(chosen, owner)
            written = true
          },
          end: () => {
            if (!written) for (const { ip } of chosen) this.#taken.delete(ip)
            resolve()
          },
        })
        return ended
      }).catch(refuse)
    })
  }

  /** Gives back every address of `owner`; returns them. Entries of very old plugins hold the container ID alone. */
  release(owner: Owner): Promise<string[]> {
    return this.#locked(() => {
      const exact = this.#find(contentOf(owner))
      const ips = exact.length > 0 ? exact : this.#find(owner.containerId)
      for (const ip of ips) this.#free(ip)
      return ips
    })
  }

  /** Gives back every address whose owner is not to `keep`. An entry of a very old plugin, with the container ID alone, goes with all
   * of its container's interfaces. */
  retain(keep: (owner: Owner) => boolean): Promise<void> {
    return this.#locked(() => {
      for (const [ip, content] of this.#taken) {
        const [containerId, ifname] = content.split(/\s+/)
        if (!keep({ containerId: containerId!, ifname: ifname ?? 'eth0' })) this.#free(ip)
      }
    })
  }

  /** Writes what is `missing` of the addresses that `owner` uses already; `taken` are another's by now. */
  keep(ips: readonly string[], owner: Owner): Promise<{ missing: string[]; taken: string[] }> {
    return this.#locked(() => {
      const missing = ips.filter((ip) => !this.#taken.has(ip))
      for (const ip of missing) {
        writeNew(`${this.#dir}/${ip}`, contentOf(owner))
        this.#taken.set(ip, contentOf(owner))
      }
      return { missing, taken: ips.filter((ip) => this.#taken.get(ip)!.split(/\s+/)[0] !== owner.containerId) }
    })
  }

  /** The addresses of `owner`. */
  lookup(owner: Owner): Promise<string[]> {
    return this.#locked(() => [...this.#find(contentOf(owner)), ...this.#find(owner.containerId)])
  }

  /** Marks what it chooses as taken, so that sets which overlap do not choose the same. */
  #choose(conf: IpamConf, owner: Owner): Chosen[] {
    const asked = [...conf.requested]
    const chosen: Chosen[] = []
    try {
      for (const [n, set] of conf.sets.entries()) {
        const index = asked.findIndex((ip) => rangeOf(set, ip) !== undefined)
        const { ip, range } = index < 0 ? this.#next(set, n, owner) : this.#requested(set, n, asked.splice(index, 1)[0]!)
        chosen.push({ ip, set: n, reservation: { address: `${ip}/${range.subnet.prefix}`, gateway: range.gateway } })
        this.#taken.set(ip, contentOf(owner))
      }
      if (asked.length > 0) throw new CniError(cniCode.generic, `failed to allocate all requested IPs: ${asked.join(' ')}`)
      return chosen
    } catch (error) {
      for (const { ip } of chosen) this.#taken.delete(ip)
      throw error
    }
  }

  /** All of them or none. */
  #write(chosen: readonly Chosen[], owner: Owner): void {
    const made: string[] = []
    try {
      for (const { ip, set } of chosen) {
        writeNew(`${this.#dir}/${ip}`, contentOf(owner))
        made.push(ip)
        overwrite(`${this.#dir}/last_reserved_ip.${set}`, ip)
      }
    } catch (error) {
      for (const ip of made) rmSync(`${this.#dir}/${ip}`, { force: true })
      throw error
    }
  }

  #requested(set: RangeSet, n: number, ip: string): { ip: string; range: Range } {
    const range = rangeOf(set, ip)!
    const fail = (why: string): CniError => new CniError(cniCode.generic, `failed to allocate for range ${n}: ${why}`)
    if (ip === range.gateway) throw fail(`requested ip ${ip} is subnet's gateway`)
    if (this.#taken.has(ip)) throw fail(`requested IP address ${ip} is not available in range set ${showSet(set)}`)
    return { ip, range }
  }

  #next(set: RangeSet, n: number, owner: Owner): { ip: string; range: Range } {
    const fail = (why: string): CniError => new CniError(cniCode.generic, `failed to allocate for range ${n}: ${why}`)
    const mine = [...this.#find(contentOf(owner)), ...this.#find(owner.containerId)].find((ip) => rangeOf(set, ip) !== undefined)
    if (mine !== undefined) throw fail(`${mine} has been allocated to ${owner.containerId}, duplicate allocation is not allowed`)
    const last = this.#read(`last_reserved_ip.${n}`)?.trim()
    const from = last !== undefined && parseIp(last) && rangeOf(set, last) ? last : undefined
    for (const one of candidates(set, from)) if (!this.#taken.has(one.ip)) return one
    throw fail(`no IP addresses available in range set: ${showSet(set)}`)
  }

  #free(ip: string): void {
    rmSync(`${this.#dir}/${ip}`, { force: true })
    this.#taken.delete(ip)
  }

  #find(content: string): string[] {
    return [...this.#taken].filter(([, one]) => one === content).map(([ip]) => ip)
  }

  #read(name: string): string | undefined {
    try {
      return readFileSync(`${this.#dir}/${name}`, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** Runs `fn` alone: among our own calls by taking turns, among processes by the lock. */
  #locked<T>(fn: () => T | Promise<T>): Promise<T> {
    const mine = this.#turn.then(async () => {
      mkdirSync(this.#dir, { recursive: true, mode: 0o755 })
      const unlock = await this.#takeLock(`${this.#dir}/lock`)
      try {
        if (this.#mtime() !== this.#mtimeNs) this.#load()
        try {
          return await fn()
        } finally {
          this.#mtimeNs = this.#mtime()
        }
      } finally {
        unlock()
      }
    })
    this.#turn = mine.catch(() => {})
    return mine
  }

  #mtime(): bigint {
    return statSync(this.#dir, { bigint: true }).mtimeNs
  }

  #load(): void {
    this.#taken = new Map()
    for (const name of readdirSync(this.#dir)) {
      if (parseIp(name) === undefined) continue
      const content = this.#read(name)?.trim()
      if (content === '') rmSync(`${this.#dir}/${name}`, { force: true })
      else if (content !== undefined) this.#taken.set(name, content)
    }
  }
}

/** @throws EEXIST if someone took the address without the lock. */
function writeNew(path: string, content: string): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    writeSync(fd, content)
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  } finally {
    closeSync(fd)
  }
}

/** In place: emptying a file first costs ext4 ten times as much. Cut half way it names another address, and the next lap starts there. */
function overwrite(path: string, content: string): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600)
  try {
    if (fstatSync(fd).size > content.length) ftruncateSync(fd, content.length)
    writeSync(fd, content, 0)
  } finally {
    closeSync(fd)
  }
}
