/**
 * A reboot ends every network namespace and with them every pod interface, but not what is on disk: host-local's addresses
 * (/var/lib/cni) never, and the agent's own notes (/run) not everywhere. Which boot the notes are of is noted with them:
 *
 *     <runDir>/boot-id     /proc/sys/kernel/random/boot_id when the notes were begun
 *
 * @module
 */
import { readFileSync, statSync } from 'node:fs'
import type { Log } from '#base/log.ts'
import type { Attachments } from '#cni/attachments.ts'
import { DEFAULT_BRIDGE } from '#cni/bridge.ts'
import { allScratch, type FlannelPaths, removeScratch } from '#cni/flannel.ts'
import type { PodKernel } from '#cni/kernel.ts'
import type { Network } from '#cni/network.ts'
import { wholeFiles, writeWhole } from '#cni/whole-file.ts'
import type { HostView } from '#model/kernel.ts'
import { parseIp } from '#net/ip.ts'

export interface Boot {
  /** boot_id: random, another one after each reboot. */
  readonly id: string
  /** When it was, by this machine's clock: milliseconds since 1970. */
  readonly atMs: number
}

/** The boot that this machine runs since. */
export function runningBoot(): Boot {
  const seconds = /^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))![1]!
  return { id: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(), atMs: Number(seconds) * 1000 }
}

const pathOf = (runDir: string): string => `${runDir}/boot-id`

/** Which boot the notes in `runDir` are of. `unknown`: there are none, or an agent before this one made them. */
export function notesAreOf(runDir: string, boot: Boot): 'this boot' | 'an earlier boot' | 'unknown' {
  try {
    return readFileSync(pathOf(runDir), 'utf8').trim() === boot.id ? 'this boot' : 'an earlier boot'
  } catch {
    return 'unknown'
  }
}

export const noteBoot = (runDir: string, boot: Boot): void => writeWhole(pathOf(runDir), `${boot.id}\n`)

/** A file of host-local: an address and who has it. */
export interface AddressFile {
  readonly address: string
  /** Empty: torn. */
  readonly containerId: string
  readonly ifname: string
  readonly writtenMs: number
}

/** What is in host-local's directory of one network. */
export function addressFiles(dir: string): AddressFile[] {
  return wholeFiles(dir).flatMap((address) => {
    const stat = parseIp(address) && statSync(`${dir}/${address}`, { throwIfNoEntry: false })
    if (!stat?.isFile()) return []
    const [containerId = '', ifname = 'eth0'] = readFileSync(`${dir}/${address}`, 'utf8').trim().split(/\s+/)
    return { address, containerId, ifname, writtenMs: stat.mtimeMs }
  })
}

/**
 * Addresses whose pods a reboot ended: of `files`, those written before it, as long as no bridge of the network has a port that is
 * not of a pod we know. A clock that was wrong before the reboot makes too few of them, never too many: a bridge with ports has pods.
 * @param known  Host ends of the pods we know.
 */
export function endedByReboot(
  files: readonly AddressFile[],
  boot: Boot,
  o: { readonly certain: boolean; readonly bridges: readonly string[]; readonly host: HostView; readonly known: readonly string[] },
): AddressFile[] {
  const strangers = o.host.links.filter(({ name, master }) => master !== undefined && o.bridges.includes(master) && !o.known.includes(name))
  if (strangers.length > 0) return []
  return files.filter(({ writtenMs }) => o.certain || writtenMs < boot.atMs)
}

export interface AfterReboot {
  readonly boot: Boot
  /** That there was one since the agent last ran here. */
  readonly certain: boolean
  /** Our network; another's addresses are left alone. */
  readonly name: string
  readonly networksDir: string
  readonly flannel: FlannelPaths
  readonly network: Network
  readonly attachments: Attachments
  readonly kernel: PodKernel
  readonly log: Log
}

/** Frees the addresses of our network whose pods a reboot ended, and what else was kept on disk for them. */
export async function freeAfterReboot(o: AfterReboot): Promise<void> {
  const known = o.attachments.list()
  const alive = new Set(known.map(({ containerId }) => containerId))
  const scratch = allScratch(o.flannel.dataDir).filter(({ delegate }) => delegate?.name === o.name)
  const bridges = scratch.flatMap(({ delegate }) => (typeof delegate?.bridge === 'string' ? delegate.bridge : []))
  const files = addressFiles(`${o.networksDir}/${o.name}`).filter(({ containerId }) => !alive.has(containerId))
  if (files.length === 0) return
  const host = await o.kernel.host()
  const ended = endedByReboot(files, o.boot, {
    certain: o.certain,
    bridges: [DEFAULT_BRIDGE, ...bridges],
    host,
    known: known.map((one) => one.host.name),
  })
  if (ended.length === 0) return
  await o.network.giveBack(o.name, ended)
  for (const { containerId } of ended) if (containerId !== '') removeScratch(o.flannel.dataDir, containerId)
  o.log.warn(
    { network: o.name, addresses: ended.map(({ address }) => address) },
    'freed addresses whose pods ended with the last boot of this machine',
  )
}
