import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Feuds } from '#plan/feuds.ts'

const key = 'route 10.244.0.0/24'
const ip = { process: 'ip', pid: 7 }
/** Breaks `key` at each of `times` (ms), but never while it is held: a held object is wrong already. @returns the delays. */
function fight(feuds: Feuds, times: readonly number[]): number[] {
  const delays: number[] = []
  for (const at of times) {
    if (feuds.isHeld(key, at)) continue
    feuds.broken(key, ip, at)
    delays.push(feuds.dueInMs(at) ?? 0)
  }
  return delays
}
const every = (ms: number, untilMs: number, fromMs = 0): number[] =>
  Array.from({ length: (untilMs - fromMs) / ms }, (_, i) => fromMs + i * ms)

const cases = [
  { name: 'now and then: never waited for, but named', times: every(5000, 100_000), delays: Array(20).fill(0), named: true },
  { name: 'a few at once: put right at once', times: every(10, 40), delays: [0, 0, 0, 0], named: false },
  {
    name: 'as fast as he can: ever longer waits, a minute at most',
    times: every(20, 180_000),
    delays: [...Array(9).fill(0), 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000],
    named: true,
  },
]
for (const { name, times, delays, named } of cases) {
  test(`a quarrel: ${name}`, () => {
    const feuds = new Feuds()
    assert.deepEqual(fight(feuds, times), delays)
    const list = feuds.list(times.at(-1)!)
    assert.equal(list.length, named ? 1 : 0)
    if (named) assert.deepEqual([list[0]!.key, list[0]!.times, list[0]!.by], [key, delays.length, ['ip']])
  })
}

test('he stops: after a while the next change is put right at once; after five minutes he is forgotten', () => {
  const feuds = new Feuds()
  fight(feuds, every(20, 5000)) // delays of 1, 2 and 4 s
  const endMs = 5000 + feuds.dueInMs(5000)!
  assert.equal(feuds.list(endMs)[0]!.delayMs, 4000)
  const laterMs = endMs + 10_001
  assert.equal(feuds.list(laterMs)[0]!.delayMs, 0)
  assert.deepEqual(fight(feuds, [laterMs]), [0])
  assert.equal(feuds.list(laterMs + 299_999).length, 1)
  assert.deepEqual(feuds.list(laterMs + 300_001), [])
})

test('one object’s feud is no other’s', () => {
  const feuds = new Feuds()
  fight(feuds, every(20, 400))
  assert.ok(feuds.isHeld(key, 400))
  assert.ok(!feuds.isHeld('route 10.244.1.0/24', 400))
})
