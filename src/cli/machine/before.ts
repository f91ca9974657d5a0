/**
 * What a machine was before `twill install`, kept until `twill uninstall`: the kernel objects and files that Twill will make or
 * change, as they were (most of them absent), and which directories were not there.
 * @module
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { cliError } from '#cli/errors.ts'
import type { Item, Kernel, Scope } from '#model/kernel.ts'
import { TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { bridgeSysctls } from '#plan/bridge-filter.ts'
import { POD_BRIDGE } from '#plan/sweep.ts'
import { twillTable } from '#plan/table.ts'

export const STATE_FILE = '/var/lib/twill/before.json'
const VERSION = 1

/** Places of one installation. */
export interface Layout {
  readonly binDir: string
  readonly runDir: string
  readonly subnetFile: string
  readonly conflist: string
  readonly netConf: string
  readonly unit: string
  readonly stateFile: string
  /** Below it the address files of all networks (`networks`) and Flannel's scratch files (`flannel`). */
  readonly cniStateDir: string
}

export interface Before {
  readonly version: typeof VERSION
  /** RFC 3339. */
  readonly at: string
  readonly layout: Layout
  readonly items: readonly Item[]
  /** Deepest last. */
  readonly absentDirs: readonly string[]
  /** CNI networks that had addresses to keep already. */
  readonly networks: readonly string[]
}

const filesOf = (l: Layout): string[] => [l.subnetFile, l.conflist, l.netConf, l.unit]

/** Everything that may be made on this machine by an agent of ours. */
async function scopeOf(kernel: Kernel, layout: Layout): Promise<Scope> {
  const { links } = await kernel.host()
  const tunnels = links.flatMap(({ name }) => (/^flannel(-v6)?\.\d+$/.test(name) ? [name] : []))
  return {
    links: [...tunnels, POD_BRIDGE],
    bridges: [POD_BRIDGE],
    routeProtocol: TWILL_ROUTE_PROTOCOL,
    routeLinks: tunnels,
    nftTables: [twillTable],
    sysctls: [
      'net/ipv4/ip_forward',
      'net/ipv6/conf/all/forwarding',
      ...bridgeSysctls,
      ...[...tunnels, POD_BRIDGE].map((name) => `net/ipv6/conf/${name}/accept_ra`),
      `net/ipv4/conf/${POD_BRIDGE}/route_localnet`,
    ],
    files: filesOf(layout),
  }
}

/** What is there of it now. */
export const observeMachine = async (kernel: Kernel, layout: Layout): Promise<Item[]> => kernel.dump(await scopeOf(kernel, layout))

/** @returns The record, made now if there is none. A second install keeps that of the first.
 * @throws {TwillError} ERR_OTHER_PLACES, ERR_INSTALL_RECORD */
export async function remember(kernel: Kernel, layout: Layout, at: Date): Promise<Before> {
  const known = recall(layout.stateFile)
  if (known) {
    const other = Object.entries(layout).find(([key, path]) => known.layout[key as keyof Layout] !== path)
    if (other) throw cliError.ERR_OTHER_PLACES({ what: other[0], asked: other[1], installed: known.layout[other[0] as keyof Layout] })
    return known
  }
  const dirs = [layout.stateFile, ...filesOf(layout)].map(dirname)
  const all = [...dirs, layout.binDir, layout.runDir, `${layout.cniStateDir}/networks`, `${layout.cniStateDir}/flannel`].flatMap(
    withParents,
  )
  return {
    version: VERSION,
    at: at.toISOString(),
    layout,
    items: await observeMachine(kernel, layout),
    absentDirs: [...new Set(all)].filter((dir) => !existsSync(dir)).toSorted(),
    networks: networksIn(layout),
  }
}

/** Names of the networks that host-local, ours or another, keeps addresses of. */
export function networksIn({ cniStateDir }: Layout): string[] {
  const dir = `${cniStateDir}/networks`
  return existsSync(dir) ? readdirSync(dir) : []
}

/** The record on file; undefined if Twill is not installed. @throws {TwillError} ERR_INSTALL_RECORD */
export function recall(stateFile: string): Before | undefined {
  if (!existsSync(stateFile)) return undefined
  try {
    const before = JSON.parse(readFileSync(stateFile, 'utf8')) as Before
    if (before.version === VERSION) return before
  } catch {
    // told below
  }
  throw cliError.ERR_INSTALL_RECORD({ path: stateFile })
}

export function store(before: Before): void {
  const path = before.layout.stateFile
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.tmp`, `${JSON.stringify(before, null, 2)}\n`, { mode: 0o600, flush: true })
  renameSync(`${path}.tmp`, path)
}

/** `/a/b` gives /a, /a/b. */
function withParents(dir: string): string[] {
  const parent = dirname(dir)
  return parent === dir ? [] : [...withParents(parent), dir]
}
