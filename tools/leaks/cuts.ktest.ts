/** Agent and plugins killed once after every write they make. tools/bench/leaks.ts does it twenty times. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Rounds, sweeps } from './rounds.ts'
import { Tools, World } from './world.ts'

const tools = new Tools()
const world = new World(tools, join(tools.dir, 'node'))
const rounds = new Rounds(world)
after(async () => {
  await world.close()
  tools.close()
})

/** Fewer cuts than this: something is not counted any more. */
const atLeast: Readonly<Record<string, number>> = {
  'agent, ADD': 20,
  'agent, DEL': 7,
  'agent, start': 10,
  'agent, ADD with ipMasq': 18,
  'flannel, ADD': 6,
  'flannel, DEL without agent': 3,
}

for (const [i, one] of sweeps.entries()) {
  test(`killed after each write: ${one.name}`, async (t) => {
    if (i === 0) await rounds.open()
    const cuts = await rounds.run(one)
    t.diagnostic(`${cuts} cuts`)
    assert.deepEqual(rounds.wrong, [])
    assert.equal(rounds.twice, 0)
    assert.ok(cuts >= (atLeast[one.name] ?? 1), `${cuts} cuts`)
  })
}
