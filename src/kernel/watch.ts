/**
 * The changes of one scope, from all sources, as one stream: rtnetlink (monitor.ts), nf_tables, files, sysctls.
 *
 * Sysctls: the kernel announces changes of forwarding, rp_filter, proxy_neigh and ignore_routes_with_linkdown only
 * (RTM_NEWNETCONF); all of the scope's are read again then. Others are seen by the slow dump.
 * @module
 */
import { mkdirSync, watch as watchDirectory } from 'node:fs'
import { basename, dirname } from 'node:path'
import { readFileItem } from '#kernel/files.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import { readSysctl } from '#kernel/sysctl.ts'
import { type Change, type Item, keyOf, show } from '#model/kernel.ts'

/** RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF. */
const NETCONF_GROUPS = [24, 25]

export type Emit = (change: Change) => void
/** Stops what was started. */
export type Stop = () => void | Promise<void>

/** Changes pushed in by sources and taken out by one reader, in order, until `signal` aborts. */
export function changeStream(signal: AbortSignal, start: (emit: Emit) => Stop[]): AsyncIterable<Change> {
  const queue: Change[] = []
  let wake = (): void => {}
  const stops = start((change) => {
    queue.push(change)
    wake()
  })
  const stop = async (): Promise<void> => {
    wake()
    await Promise.all(stops.splice(0).map((one) => one()))
  }
  const onAbort = (): void => void stop()
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  return (async function* () {
    try {
      while (!signal.aborted) {
        yield* queue.splice(0)
        if (queue.length > 0 || signal.aborted) continue
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    } finally {
      signal.removeEventListener('abort', onAbort)
      await stop()
    }
  })()
}

/** Emits an item when it reads differently than last time, and its deletion when it is gone. */
function differ(emit: Emit): (key: Item, now: Item | undefined) => void {
  const last = new Map<string, string>()
  return (item, now) => {
    const key = keyOf(item)
    if (now && last.get(key) !== show(now)) emit({ verb: 'put', item: now })
    if (!now && last.has(key)) emit({ verb: 'del', item })
    if (now) last.set(key, show(now))
    else last.delete(key)
  }
}

/** Follows files by watching their directories (a rename replaces the file itself), which are made if absent. */
export function watchFiles(paths: readonly string[], emit: Emit): Stop[] {
  const tell = differ(emit)
  const look = (path: string): Promise<void> =>
    readFileItem(path).then(
      (now) => tell(now ?? { kind: 'file', path, content: '', mode: 0 }, now),
      () => {}, // unreadable just now: the next dump says why
    )
  const byDirectory = Map.groupBy(paths, (path) => dirname(path))
  return [...byDirectory].map(([directory, files]) => {
    mkdirSync(directory, { recursive: true })
    const watcher = watchDirectory(directory, { persistent: false }, (_, name) => {
      for (const path of files) if (name === null || basename(path) === name) void look(path)
    })
    watcher.on('error', () => emit({ verb: 'overrun' }))
    for (const path of files) void look(path)
    return () => watcher.close()
  })
}

/** Follows the sysctls of the agent's own namespace as far as the kernel announces them. */
export function watchSysctls(paths: readonly string[], emit: Emit): Stop[] {
  if (paths.length === 0) return []
  let live = false
  const tell = differ((change) => {
    if (live) emit(change)
  })
  const look = (): void => {
    for (const path of paths) {
      const value = readSysctl(path)
      tell({ kind: 'sysctl', path, value: '' }, value === undefined ? undefined : { kind: 'sysctl', path, value })
    }
  }
  const socket = NetlinkSocket.open({ protocol: NETLINK_ROUTE, groups: NETCONF_GROUPS })
  look()
  live = true
  socket.listen((notification) => (notification === 'overrun' ? emit({ verb: 'overrun' }) : look()))
  return [() => socket.close()]
}
