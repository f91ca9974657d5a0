/**
 * What an agent or a plugin leaves behind that is killed: after every write of ADD, DEL and of a starting agent, so many times each,
 * beside a pod that lives. See tools/leaks/rounds.ts.
 *
 *     node tools/bench/leaks.ts [TIMES]
 *
 * @module
 */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import { join } from 'node:path'
import { Rounds, sweeps } from '../leaks/rounds.ts'
import { Tools, World } from '../leaks/world.ts'

const TIMES = Number(process.argv[2] ?? 20)
const tools = new Tools()
const world = new World(tools, join(tools.dir, 'node'))
const rounds = new Rounds(world)
let cuts = 0
try {
  await rounds.open()
  for (let time = 1; time <= TIMES; time++) {
    for (const one of sweeps) {
      const places = await rounds.run(one)
      cuts += places
      if (time === 1) console.log(`${one.name}: ${places} places`)
    }
    console.error(`${time} of ${TIMES}: ${cuts} cuts so far, ${rounds.wrong.length} left something`)
  }
} finally {
  await world.close()
  tools.close()
}
for (const { sweep, n, what } of rounds.wrong) console.log(`${sweep} ${n}: ${what}`)
console.log(`${cuts} cuts, each place ${TIMES} times`)
for (const [name, count] of [
  ['leaks-left', rounds.wrong.length],
  ['leaks-twice', rounds.twice],
] as const) {
  console.log(`bench: ${name} ours=${count} peer=none ratio=- goal=0 ${count === 0 ? 'ok' : 'short'}`)
}
