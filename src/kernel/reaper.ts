/**
 * Deletes links. The kernel answers an RTM_DELLINK only after an RCU barrier, 12-20 ms; many in one send wait many times, but
 * one RTM_DELLINK for a group of devices waits once. So several doomed devices get a group number of their own first.
 *
 * The devices are out of the namespace (their names free, no packet passes) when RTM_DELLINK is announced, and the rtnl lock
 * is free: that is when a deletion resolves, while its send sits out the barrier on its pool thread.
 * @module
 */
import type { LinkTable } from '#kernel/links.ts'
import { NETLINK_ROUTE, NetlinkSocket } from '#kernel/socket.ts'
import type { Ack } from '#wire/netlink.ts'
import { deleteGroup, deleteLink, setLink } from '#wire/rtnetlink/link.ts'

/** "tw" in ASCII above a counter: groups that no one else uses, and no two deletions share. */
const DOOMED_GROUPS = 0x74770000
let deletions = 0
/** Deletions that may sit out a barrier at once. Node has 4 pool threads: one polls, one is the writer's. */
const LANES = 2

interface Job {
  readonly names: readonly string[]
  resolve(acks: readonly Ack[]): void
  reject(error: unknown): void
}

export class Reaper {
  readonly #links: LinkTable
  readonly #count: (messages: number) => void
  readonly #lanes: NetlinkSocket[] = []
  readonly #doomed = new Map<string, Promise<void>>()
  #waiting: Job[] = []
  #underWay = new Set<Promise<void>>()

  /** @param links  The agent's own devices, kept current by notifications. */
  constructor(links: LinkTable, count: (messages: number) => void) {
    this.#links = links
    this.#count = count
    for (let i = 0; i < LANES; i++) this.#lanes.push(NetlinkSocket.open({ protocol: NETLINK_ROUTE }))
  }

  /** Deletes devices of the agent's namespace by name; one ack each, in order. What waits for a lane goes as one group. */
  delete(names: readonly string[]): Promise<readonly Ack[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly Ack[]>()
    const settled = promise.then(
      () => {},
      () => {},
    )
    for (const name of names) this.#doomed.set(name, settled)
    void settled.then(() => {
      for (const name of names) if (this.#doomed.get(name) === settled) this.#doomed.delete(name)
    })
    this.#waiting.push({ names, resolve, reject })
    this.#pump()
    return promise
  }

  /** Waits until none of `names` is about to go. */
  async settled(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.#doomed.get(name)))
  }

  /** Waits for the deletions under way. */
  async close(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
    await Promise.all(this.#lanes.map((lane) => lane.close()))
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#lanes.length > 0) {
      const jobs = this.#waiting
      this.#waiting = []
      const socket = this.#lanes.pop()!
      const run = this.#run(socket, jobs).finally(() => {
        this.#lanes.push(socket)
        this.#underWay.delete(run)
        this.#pump()
      })
      this.#underWay.add(run)
    }
  }

  /** Ends when the kernel has answered, which is after the jobs' promises resolved. */
  async #run(socket: NetlinkSocket, jobs: readonly Job[]): Promise<void> {
    const names = [...new Set(jobs.flatMap((job) => job.names))]
    const settle = (acks: readonly Ack[]): void => {
      for (const job of jobs) job.resolve(job.names.map((name) => acks[names.indexOf(name)]!))
    }
    const indexes = names.map((name) => this.#links.index(name))
    const known = indexes.filter((index) => index !== undefined)
    const { gone, cancel } = this.#links.whenGone(known)
    if (known.length === names.length) void gone.then(() => settle(names.map(() => ({ errno: 0 }))))
    try {
      settle(await deleteLinks(socket, names, this.#count))
    } catch (error) {
      for (const job of jobs) job.reject(error)
    } finally {
      cancel()
    }
  }
}

/** Deletes devices in the socket's namespace, several at once through a group. One ack each, in order. */
export async function deleteLinks(
  socket: NetlinkSocket,
  names: readonly string[],
  count: (messages: number) => void,
): Promise<readonly Ack[]> {
  if (names.length === 1) {
    count(1)
    return socket.request(names.map(deleteLink))
  }
  count(names.length + 1)
  const group = DOOMED_GROUPS + (deletions++ & 0xffff)
  const marked = await socket.request(names.map((name) => setLink(name, { group })))
  if (!marked.some(({ errno }) => errno === 0)) return marked
  const [swept] = await socket.request([deleteGroup(group)])
  return marked.map((mark) => (mark.errno === 0 ? swept! : mark))
}
