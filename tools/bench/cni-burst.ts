/**
 * cni-add-burst and cni-del-burst: the chains of 100 pods at once (one after another within a pod), ours and the peer's turn about,
 * the same pods in every round. A figure is the time from the first fork to the last exit, median over rounds. At the last exit
 * all links and addresses must be there (ADD) or gone (DEL).
 *
 *     node tools/bench/cni-burst.ts [ROUNDS]
 *
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { loadavg } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { CniWorld, type Command, type Contestant, median, ms, quantile, saveResults } from './cni/world.ts'

const ROUNDS = Number(process.argv[2] ?? 7)
const PODS = 100
/** Not counted. */
const WARM_UP = 1
/** What the kernel does after an answer is over by then. */
const REST_MS = 1000
const goals = { ADD: 1, DEL: 8 } as const

const world = await CniWorld.open()
const took: Record<Command, Record<string, number[]>> = { ADD: { ours: [], peer: [] }, DEL: { ours: [], peer: [] } }
try {
  const pods = new Map([
    [world.ours, world.pods('a', PODS)],
    [world.peer, world.pods('b', PODS)],
  ])
  const burst = async (one: Contestant, command: Command, counted: boolean): Promise<void> => {
    const tookMs = await one.burst(pods.get(one)!, command)
    const left = [one.links().length, one.addresses().length]
    assert.deepEqual(left, command === 'ADD' ? [PODS, PODS] : [0, 0], `${one.name}: links and addresses after ${command}`)
    if (counted) took[command][one.name]!.push(tookMs)
    await sleep(REST_MS)
  }
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    for (const command of ['ADD', 'DEL'] as const) for (const one of world.turn(round)) await burst(one, command, round >= WARM_UP)
  }
} finally {
  await world.close()
}
const errors = world.ours.errors + world.peer.errors
saveResults('cni-burst', { pods: PODS, unit: 'ms', took, errors })
console.log(
  `cni-burst: ${PODS} pods at once, ${ROUNDS} rounds, errors: ours ${world.ours.errors}, peer ${world.peer.errors}, load ${loadavg()[0]!.toFixed(1)}`,
)
for (const command of ['ADD', 'DEL'] as const) {
  const figure = `cni-${command.toLowerCase()}-burst`
  const { ours, peer } = took[command] as { ours: number[]; peer: number[] }
  for (const [name, all] of Object.entries({ ours, peer })) {
    console.log(`${figure} ${name}: median ${ms(median(all))} min ${ms(quantile(all, 0))} max ${ms(quantile(all, 1))} ms`)
  }
  const ratio = median(peer) / median(ours)
  const verdict = ratio >= goals[command] && errors === 0 ? 'ok' : 'short'
  console.log(
    `bench: ${figure} ours=${ms(median(ours))}ms peer=${ms(median(peer))}ms ratio=${ratio.toFixed(1)} goal=${goals[command]} ${verdict}`,
  )
}
