/**
 * shim-exec and shim-request: one exec of the shim, from fork to wait: for VERSION, which it answers itself, beside the reference's;
 * and for portmap's DEL of a pod without ports, which the agent answers without work.
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import { loadavg } from 'node:os'
import { CniWorld, median, ms, quantile } from './cni/world.ts'

const TIMES = 300
const WARM_UP = 20
const GOAL_MS = 1.2

const world = await CniWorld.open()
const took: Record<'version' | 'request' | 'peer', number[]> = { version: [], request: [], peer: [] }
try {
  const [pod] = world.pods('a', 1)
  for (let i = 0; i < WARM_UP + TIMES; i++) {
    took.version.push((await world.ours.exec('portmap', 'VERSION', pod!)).ms)
    took.peer.push((await world.peer.exec('portmap', 'VERSION', pod!)).ms)
    took.request.push((await world.ours.exec('portmap', 'DEL', pod!)).ms)
  }
} finally {
  await world.close()
}
const [version, request, peer] = [took.version, took.request, took.peer].map((all) => all.slice(WARM_UP)) as [number[], number[], number[]]
console.log(`shim: ${TIMES} execs each, errors: ours ${world.ours.errors}, peer ${world.peer.errors}, load ${loadavg()[0]!.toFixed(1)}`)
for (const [name, all] of Object.entries({ version, request, 'peer version': peer })) {
  console.log(`shim ${name}: median ${ms(median(all))} p10 ${ms(quantile(all, 0.1))} p90 ${ms(quantile(all, 0.9))} ms`)
}
const verdict = (all: readonly number[]): string => (median(all) <= GOAL_MS && world.ours.errors === 0 ? 'ok' : 'short')
const ratio = median(peer) / median(version)
console.log(
  `bench: shim-exec ours=${ms(median(version))}ms peer=${ms(median(peer))}ms ratio=${ratio.toFixed(1)} goal=${GOAL_MS} ${verdict(version)}`,
)
console.log(`bench: shim-request ours=${ms(median(request))}ms peer=none ratio=- goal=${GOAL_MS} ${verdict(request)}`)
