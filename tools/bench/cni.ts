/**
 * cni-add and cni-del: every exec that a runtime makes for a pod (cni/world.ts), 100 pods one after another, ours and the peer's
 * turn about in one run, each in a node namespace of its own.
 *
 * A pod's figure is the sum of its execs, each from fork to wait; the headline is the median over pods. Between execs both rest
 * equally long, so that the kernel's work after one contestant's answer is not counted against the other.
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { CniWorld, type Command, type Exec, median, ms, quantile, saveResults } from './cni/world.ts'

const PODS = 100
const WARM_UP = 5
const REST_MS = 40
const goals = { 'cni-add': 5, 'cni-del': 1.5 } as const

function report(figure: 'cni-add' | 'cni-del', ours: readonly Exec[][], peer: readonly Exec[][], errors: number): void {
  const sums = (pods: readonly Exec[][], skip?: string): number[] =>
    pods.map((execs) => execs.filter(({ plugin }) => plugin !== skip).reduce((sum, one) => sum + one.ms, 0))
  for (const [name, pods] of Object.entries({ ours, peer })) {
    const all = sums(pods)
    const each = pods[0]!.map(({ plugin }, i) => `${plugin} ${ms(median(pods.map((execs) => execs[i]!.ms)))}`)
    console.log(
      `${figure} ${name}: median ${ms(median(all))} p10 ${ms(quantile(all, 0.1))} p90 ${ms(quantile(all, 0.9))} ms (${each.join(', ')})`,
    )
  }
  const [a, b] = [median(sums(ours, 'loopback')), median(sums(peer, 'loopback'))]
  console.log(`${figure} without loopback, which some runtimes do themselves: ours ${ms(a)} peer ${ms(b)} ms, ratio ${(b / a).toFixed(1)}`)
  const [mine, theirs] = [median(sums(ours)), median(sums(peer))]
  const verdict = theirs / mine >= goals[figure] && errors === 0 ? 'ok' : 'short'
  console.log(
    `bench: ${figure} ours=${ms(mine)}ms peer=${ms(theirs)}ms ratio=${(theirs / mine).toFixed(1)} goal=${goals[figure]} ${verdict}`,
  )
}

const world = await CniWorld.open()
const execs: Record<Command, Record<string, Exec[][]>> = { ADD: { ours: [], peer: [] }, DEL: { ours: [], peer: [] } }
try {
  const pods = new Map([
    [world.ours, world.pods('a', WARM_UP + PODS)],
    [world.peer, world.pods('b', WARM_UP + PODS)],
  ])
  for (const command of ['ADD', 'DEL'] as const) {
    for (let i = 0; i < WARM_UP + PODS; i++) {
      for (const one of world.turn(i)) execs[command][one.name]!.push(await one.chain(pods.get(one)![i]!, command, () => sleep(REST_MS)))
    }
  }
  assert.deepEqual([world.ours.addresses(), world.peer.addresses()], [[], []], 'addresses left after DEL')
} finally {
  await world.close()
}
saveResults('cni', { pods: PODS, warmUp: WARM_UP, unit: 'ms', execs })
console.log(`cni: ${PODS} pods a side, errors: ours ${world.ours.errors}, peer ${world.peer.errors}`)
for (const command of ['ADD', 'DEL'] as const) {
  const { ours, peer } = execs[command] as { ours: Exec[][]; peer: Exec[][] }
  report(command === 'ADD' ? 'cni-add' : 'cni-del', ours.slice(WARM_UP), peer.slice(WARM_UP), world.ours.errors)
}
