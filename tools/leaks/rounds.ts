/**
 * The cuts: one pod's ADD or DEL beside a pod that lives, the agent or the plugin killed after its n-th write, for every n there
 * is. After each a new agent starts and GC tells who is valid: then nothing may be left of the pod that is not, nothing may be
 * missing of those that are, and no address may have been given twice.
 * @module
 */
import { isDeepStrictEqual } from 'node:util'
import { systemClock } from '#base/clock.ts'
import { type Pod, type State, stateOf, type World } from './world.ts'

export interface Sweep {
  readonly name: string
  readonly masquerade: 'agent' | 'pod'
  /** One cut. @returns false if there was no n-th write. */
  round(rounds: Rounds, n: number): Promise<boolean>
}

export interface Wrong {
  readonly sweep: string
  readonly n: number
  readonly what: string
}

interface Running extends Pod {
  readonly ip: string
}

const AGENT_ADD = 'agent, ADD'
const SETTLE_MS = 2000

/** The rounds on one node. */
export class Rounds {
  readonly world: World
  readonly wrong: Wrong[] = []
  /** The last writes before a kill, by sweep and number. */
  readonly cuts = new Map<string, string>()
  /** Addresses that two pods had at once. */
  twice = 0
  /** Lives through all of it. */
  #neighbor: Running | undefined
  #pods = 0
  #sweep = ''
  #n = 0

  constructor(world: World) {
    this.world = world
  }

  /** Starts the node with its living pod. */
  async open(): Promise<void> {
    await this.world.start()
    this.#neighbor = await this.running()
    await this.world.stop()
  }

  /** Every cut of `sweep` there is. @returns how many. */
  async run(sweep: Sweep): Promise<number> {
    this.#sweep = sweep.name
    this.world.masquerade(sweep.masquerade)
    for (this.#n = 1; await sweep.round(this, this.#n); this.#n++);
    return this.#n - 1
  }

  get neighbor(): Running {
    return this.#neighbor!
  }

  pod(): Required<Pod> {
    const n = ++this.#pods
    return { id: `pod${n}`, netns: this.world.netns(), hostPort: 30_000 + (n % 2000) }
  }

  /** A new pod that came up whole. */
  async running(pod: Pod = this.pod()): Promise<Running> {
    if (!(await this.world.add(pod))) throw new Error(`${pod.id} does not come up`)
    return { ...pod, ip: this.ipOf(pod) }
  }

  ipOf({ id }: Pod): string {
    const mine = [...this.world.held()].filter(([, owner]) => owner === id).map(([ip]) => ip)
    if (mine.length !== 1)
      this.wrong.push({ sweep: this.#sweep, n: this.#n, what: `${id} runs and holds ${mine.join(', ') || 'no address'}` })
    return mine[0] ?? ''
  }

  /** The number of a write in an ADD after which its note is there and nothing is whole. */
  middleOfAdd(): number {
    const [key] = [...this.cuts].find(([key, what]) => key.startsWith(`${AGENT_ADD} `) && / rename .*\.adding/.test(what)) ?? []
    if (key === undefined) throw new Error(`'${AGENT_ADD}' comes first`)
    return Number(key.slice(AGENT_ADD.length)) + 4 // of what the kernel, files and the plugin are told then, which has no fixed order
  }

  noteCut(what: string): void {
    this.cuts.set(`${this.#sweep} ${this.#n}`, what)
  }

  /** GC, and then only the neighbor and `alive` are there; a pod that comes now has an address of its own, and goes again. */
  async settle(alive: readonly Pod[]): Promise<void> {
    const pods = [this.#neighbor!, ...alive.map((pod) => ({ ...pod, ip: this.ipOf(pod) }))]
    const refused = (await this.world.collect(pods)).filter(({ exit }) => exit !== 0)
    for (const { text } of refused) this.#say(`GC failed: ${text}`)
    await this.expect(stateOf(pods))
    const { id, netns } = this.pod()
    const next = await this.running({ id, netns })
    for (const { ip } of pods) if (ip === next.ip) this.twice++
    for (const pod of [next, ...alive]) if (!(await this.world.del(pod))) this.#say(`DEL of ${pod.id} failed`)
    await this.expect(stateOf([this.#neighbor!]))
    this.world.onNode('ping', '-c', '1', '-W', '2', this.#neighbor!.ip)
  }

  /** What an agent does for a pod whose runtime is gone comes a little later than anyone is told. */
  async expect(wanted: State): Promise<void> {
    const deadline = Date.now() + SETTLE_MS
    let state = this.world.state()
    while (!isDeepStrictEqual(state, wanted) && Date.now() < deadline) {
      await systemClock.sleep(20)
      state = this.world.state()
    }
    for (const key of Object.keys(wanted) as (keyof State)[]) {
      if (!isDeepStrictEqual(state[key], wanted[key])) {
        this.#say(`${key}: ${JSON.stringify(state[key])} in place of ${JSON.stringify(wanted[key])}`)
      }
    }
  }

  #say(what: string): void {
    this.wrong.push({ sweep: this.#sweep, n: this.#n, what: `${what} (after: ${this.cuts.get(`${this.#sweep} ${this.#n}`) ?? 'no cut'})` })
  }
}

/** The agent is killed in the middle of `work`, which leaves `alive` running. */
const agentCut =
  (prepare: (r: Rounds) => Promise<Pod>, work: (r: Rounds, pod: Pod) => Promise<Pod[]>) =>
  async (r: Rounds, n: number): Promise<boolean> => {
    const { world } = r
    if (!world.agentLives) await world.start(n)
    const pod = await prepare(r)
    world.arm()
    const alive = await work(r, pod)
    const wasCut = world.writes().length >= n
    if (wasCut) r.noteCut(world.writes()[n - 1]!)
    await world.kill() // it is dead already, or must not be cut later than in `work`
    await world.start(n + 1)
    await r.settle(alive)
    return wasCut
  }

const running = (r: Rounds): Promise<Pod> => r.running()
const add = async (r: Rounds, pod: Pod): Promise<Pod[]> => ((await r.world.add(pod)) ? [pod] : [])
const del = async (r: Rounds, pod: Pod): Promise<Pod[]> => {
  await r.world.del(pod)
  return []
}

/** An agent that was killed in the middle of an ADD left work for the next, which is killed over it; a DEL waits in the queue. */
async function recoveryCut(r: Rounds, n: number): Promise<boolean> {
  const { world } = r
  await world.kill()
  await world.start(r.middleOfAdd())
  const [gone, pod] = [await r.running(), r.pod()]
  world.arm()
  await world.add(pod)
  await world.kill()
  await world.del(gone)
  const served = await world.start(n, 'all')
  if (!served) r.noteCut(world.writes()[n - 1]!)
  await world.kill()
  await world.start()
  await r.settle([])
  return !served
}

/** A plugin is killed in its part of ADD or DEL; the runtime then asks for DEL (again) until it has its answer. */
const pluginCut =
  (plugin: 'flannel' | 'portmap', command: 'ADD' | 'DEL', withAgent = true) =>
  async (r: Rounds, n: number): Promise<boolean> => {
    const { world } = r
    if (!world.agentLives) await world.start()
    const pod = command === 'ADD' ? r.pod() : await r.running()
    if (!withAgent) await world.kill()
    const cut = { plugin, at: n }
    const whole = command === 'ADD' ? await world.add(pod, cut) : await world.del(pod, cut)
    if (!whole) r.noteCut(world.lastWriteOfPlugin())
    await world.del(pod)
    if (!withAgent) {
      world.letTimePass('run/delete-queue')
      await world.start()
    }
    await r.settle([])
    return !whole
  }

const sweep = (name: string, round: Sweep['round'], masquerade: Sweep['masquerade'] = 'agent'): Sweep => ({ name, masquerade, round })
const agentAdd = agentCut((r) => Promise.resolve(r.pod()), add)
const agentDel = agentCut(running, del)

/** In this order: the third builds on the first. */
export const sweeps: readonly Sweep[] = [
  sweep(AGENT_ADD, agentAdd),
  sweep('agent, DEL', agentDel),
  sweep('agent, start', recoveryCut),
  sweep('agent, ADD with ipMasq', agentAdd, 'pod'),
  sweep('agent, DEL with ipMasq', agentDel, 'pod'),
  sweep('flannel, ADD', pluginCut('flannel', 'ADD')),
  sweep('portmap, ADD', pluginCut('portmap', 'ADD')),
  sweep('flannel, DEL', pluginCut('flannel', 'DEL')),
  sweep('portmap, DEL', pluginCut('portmap', 'DEL')),
  sweep('flannel, DEL without agent', pluginCut('flannel', 'DEL', false)),
]
