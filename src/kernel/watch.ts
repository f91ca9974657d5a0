/**
 * The changes of one scope, from all sources, as one stream: rtnetlink (monitor.ts), nf_tables, files, sysctls.
 *
 * Sysctls: the kernel announces changes of forwarding, rp_filter, proxy_neigh and ignore_routes_with_linkdown only
 * (RTM_NEWNETCONF), and /proc/sys/net gives no other sign. All of the scope's are read again then, and four times a second: they
 * are a handful, and a read takes some microseconds.
 * @module
 */
import { type FSWatcher, mkdirSync, watch as watchDirectory } from 'node:fs'
import { basename, dirname } from 'node:path'
import { readFileItem } from '#kernel/files.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import { readSysctl } from '#kernel/sysctl.ts'
import { type Change, type Item, keyOf, show } from '#model/kernel.ts'

/** RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF. */
const NETCONF_GROUPS = [24, 25]
const SYSCTL_LOOK_MS = 250

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
  return [...Map.groupBy(paths, (path) => dirname(path))].map(([directory, files]) => watchIn(directory, files, look, emit))
}

/** A directory that is deleted takes its watch along: it is made anew, and so is the watch. */
function watchIn(directory: string, files: readonly string[], look: (path: string) => Promise<void>, emit: Emit): Stop {
  let watcher: FSWatcher | undefined
  const start = (): void => {
    watcher?.close()
    try {
      mkdirSync(directory, { recursive: true })
      watcher = watchDirectory(directory, { persistent: false }, (_, name) => {
        for (const path of files) if (name === null || basename(path) === name) void look(path)
        if (name === basename(directory)) start() // told of the directory itself: gone, or moved away
      })
      watcher.on('error', () => emit({ verb: 'overrun' }))
    } catch {
      emit({ verb: 'overrun' }) // the dump, or the next write, says why
    }
    for (const path of files) void look(path)
  }
  start()
  return () => watcher?.close()
}

/** Called with the sysctls just written: what was read before must not pass for what came after. */
export type Reread = (written: readonly string[]) => void

/** Follows the sysctls of the agent's own namespace: at once where the kernel announces a change, else soon. */
export function watchSysctls(paths: readonly string[], emit: Emit, readers: Set<Reread>): Stop[] {
  if (paths.length === 0) return []
  let live = false
  const tell = differ((change) => {
    if (live) emit(change)
  })
  const look = (only = paths): void => {
    for (const path of only) {
      const value = readSysctl(path)
      tell({ kind: 'sysctl', path, value: '' }, value === undefined ? undefined : { kind: 'sysctl', path, value })
    }
  }
  const socket = NetlinkSocket.open({ protocol: NETLINK_ROUTE, groups: NETCONF_GROUPS })
  look()
  live = true
  socket.listen((notification) => (notification === 'overrun' ? emit({ verb: 'overrun' }) : look()))
  const timer = setInterval(look, SYSCTL_LOOK_MS).unref()
  const reread: Reread = (written) => {
    const ours = paths.filter((path) => written.includes(path))
    if (ours.length > 0) look(ours)
  }
  readers.add(reread)
  return [() => clearInterval(timer), () => void readers.delete(reread), () => socket.close()]
}
