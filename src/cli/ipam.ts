/**
 * `twill ipam`: who has which address on this node, what is wrong with that, and `twill ipam free`. All of it from files, with or
 * without an agent: an agent that runs sees by the directory's time that something changed. Exit status: 0 fine, 1 findings,
 * 2 could not run.
 * @module
 */
import { rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { confirmed } from '#cli/confirm.ts'
import { cliError } from '#cli/errors.ts'
import { columns, painter } from '#cli/table.ts'
import { type BookPaths, readBooks } from '#cni/books.ts'
import type { TakeLock } from '#cni/store.ts'
import type { IpamDocument, Reservation } from '#model/ipam.ts'
import { auditAddresses, leakedReservations, short } from '#plan/ipam.ts'

export function auditNode(paths: BookPaths): IpamDocument {
  const books = readBooks(paths)
  return { kind: 'TwillIpam', version: 1, ...books, faults: auditAddresses(books) }
}

export const ipamExit = ({ faults }: IpamDocument): 0 | 1 => (faults.length > 0 ? 1 : 0)

/** The page for people. */
export function renderIpam({ reservations, pods, faults }: IpamDocument, o: { color: boolean }): string {
  const paint = painter(o.color)
  const podOf = ({ network, address }: Reservation): string =>
    pods.find((pod) => pod.network === network && pod.address === address)?.podName ?? '-'
  const state = ({ ours, live }: Reservation): string => (ours ? (live ? 'in use' : 'no pod') : "another network's")
  const rows = reservations.map((one) => [one.network, one.address, short(one.containerId) || '-', podOf(one), state(one)])
  const table =
    rows.length === 0 ? 'No address is reserved on this node.' : columns(['NETWORK', 'ADDRESS', 'CONTAINER', 'POD', 'STATE'], rows)
  const lines = faults.map(({ id, text, remedy }) => `${paint('red', id)}  ${text}\n  → ${remedy}`)
  const verdict = faults.length === 0 ? paint('green', 'Nothing is wrong.') : lines.join('\n')
  return `${table}\n\n${verdict}\n`
}

export interface FreeOptions {
  readonly paths: BookPaths
  readonly takeLock: TakeLock
  /** Do not ask. */
  readonly yes: boolean
  readonly say: (line: string) => void
}

/** Frees what is reserved for no one, after asking. What someone else came to use meanwhile stays.
 * @returns the addresses that are free now. @throws {TwillError} ERR_FREE */
export async function freeLeaked({ paths, takeLock, yes, say }: FreeOptions): Promise<string[]> {
  const leaked = leakedReservations(readBooks(paths))
  if (leaked.length === 0) return []
  for (const { network, address, containerId } of leaked) say(`${network}  ${address}  ${short(containerId) || 'torn'}`)
  if (!yes && !(await confirmed(`Free ${leaked.length === 1 ? 'this address' : `these ${leaked.length} addresses`}?`))) return []
  const freed: string[] = []
  for (const dir of new Set(leaked.map(({ path }) => dirname(path)))) {
    const unlock = await takeLock(`${dir}/lock`)
    try {
      const still = leakedReservations(readBooks(paths))
      for (const one of leaked.filter(({ path }) => dirname(path) === dir)) {
        if (!still.some(({ path, containerId }) => path === one.path && containerId === one.containerId)) continue
        free(one.path)
        freed.push(one.address)
      }
    } finally {
      unlock()
    }
  }
  return freed
}

function free(path: string): void {
  try {
    rmSync(path)
  } catch (error) {
    throw cliError.ERR_FREE({ path }, error)
  }
}
