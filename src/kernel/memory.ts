/**
 * Gives memory back to the system. A long list leaves several times what is kept of it as garbage, and neither V8 nor malloc returns
 * what once was theirs: an agent that heard of 5,000 nodes would stay at the peak of its first seconds.
 * @module
 */
import { mallocTrim } from '#kernel/ffi.ts'

/** Below this there is nothing to win that is worth a pause of the event loop (about 60 ms with 5,000 peers). */
const WORTH_BYTES = 24 << 20

let low = 0

/** Collects all garbage if the process has grown since the last time. Needs `node --expose-gc`; does nothing without. */
export function releaseMemory(): void {
  if (!globalThis.gc || process.memoryUsage.rss() < low + WORTH_BYTES) return
  // The last resort of V8 also frees the pages it keeps for later.
  globalThis.gc({ type: 'major', execution: 'sync', flavor: 'last-resort' })
  mallocTrim()
  low = process.memoryUsage.rss()
}
