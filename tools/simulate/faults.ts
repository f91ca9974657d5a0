/** The kinds of fault, by name: each does its harm once. What lasts is healed when peace comes. */

import { OWN } from './truth.ts'
import type { World } from './world.ts'

type Fault = (world: World) => void | Promise<void>

export const faults: Readonly<Record<string, Fault>> = {
  // ---- the API server
  'api-down': async ({ api, clock, chance }) => {
    api.down = true
    api.cut()
    await clock.pass(chance.below(40_000))
    api.down = false
  },
  'watch-cut': ({ api }) => api.cut(),
  'watch-ends': ({ api }) => api.end(),
  '410-at-reconnect': ({ api }) => {
    api.compact()
    api.cut()
  },
  '410-in-watch': ({ api }) => api.disturb('too-old'),
  'events-again': ({ api }) => api.disturb('again'),
  'events-stale': ({ api }) => api.disturb('old'),
  'events-swapped': ({ api }) => api.disturb('swap'),
  'events-garbage': ({ api }) => api.disturb('garbage'),
  'list-empty': ({ api }) => relist(api, 'empty'),
  'list-stale': ({ api }) => relist(api, 'stale'),
  'list-torn': ({ api }) => relist(api, 'torn'),
  'list-garbage': ({ api }) => relist(api, 'garbage'),
  'patches-refused': ({ api }) => {
    api.refusesPatches = true
  },
  'own-node-deleted': ({ api, trace: _ }) => {
    if (api.nodes.has(OWN)) api.remove(OWN)
  },
  // ---- the kernel and the host
  'kernel-refuses': ({ kernelFaults, chance }) => {
    kernelFaults.refusals = 1 + chance.below(6)
  },
  'object-poisoned': (world) => world.poisonOne(),
  'foreign-changes': (world) => {
    for (let n = world.chance.below(4); n >= 0; n--) world.meddle()
  },
  'notifications-lost': (world) => {
    world.kernelFaults.deaf = 1 + world.chance.below(3)
    world.meddle()
  },
  'notifications-late': ({ kernelFaults }) => {
    kernelFaults.lagMs = 200
  },
  'dump-fails': ({ kernelFaults, fake, chance }) => {
    kernelFaults.failingDumps = 1 + chance.below(3)
    fake.overrun()
  },
  'interface-flaps': async (world) => {
    world.setLink(false)
    await world.clock.pass(world.chance.yes(0.5) ? world.chance.below(50) : world.chance.below(5000))
    world.setLink(true)
  },
  'interface-down': (world) => world.setLink(false),
  'file-torn': (world) => world.tear(),
  // ---- the agent and its clocks
  'killed-between-operations': ({ life, chance }) => {
    if (life) life.opsLeft = chance.below(6)
  },
  killed: (world) => {
    if (world.life) world.kill(world.life)
  },
  restarted: async (world) => {
    await world.stop()
    world.start()
  },
  frozen: ({ clock, chance }) => clock.freeze(chance.below(90_000)),
  'clock-jumps': ({ clock, chance }) => {
    clock.wallOffsetMs += (chance.next() - 0.5) * 86_400_000
  },
}

function relist(api: World['api'], fault: Parameters<World['api']['listFaults']['push']>[0]): void {
  api.listFaults.push(fault)
  api.compact()
  api.cut()
}
