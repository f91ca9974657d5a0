/** Tells the cluster: the node's annotations, kept as they should be, and once that the network is up. */
import type { Clock } from '#base/clock.ts'
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Cluster } from '#cluster/cluster.ts'
import type { NodeRecord } from '#model/cluster.ts'
import { announcement, announcementPatch, networkAvailablePatch } from '#plan/annotations.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'

export interface AnnouncerOptions {
  readonly cluster: Cluster
  readonly log: Log
  readonly clock: Clock
  /** Normalised annotation prefix. */
  readonly prefix: string
  /** --set-node-network-unavailable */
  readonly setCondition: boolean
}

export class Announcer {
  readonly #o: AnnouncerOptions
  /** The record our last patch was made from: until the watch brings another, it tells nothing new. */
  #answered: NodeRecord | undefined
  /** Uid of the Node whose condition was seen right: a Node that is made anew is another. */
  #available: string | undefined
  /** The annotations are as they should be. */
  done = false
  /** Why the last patch failed. */
  error: string | undefined

  constructor(o: AnnouncerOptions) {
    this.#o = o
  }

  /** One try; nothing is sent when the node is as it should be. @returns how many patches failed. */
  async pass(self: Self, backend: Backend, node: NodeRecord): Promise<number> {
    const annotations = node === this.#answered ? undefined : announcementPatch(node, announcement(self, backend, node), this.#o.prefix)
    if (annotations && !(await this.#patch(node, annotations, 'announced this node'))) return 1
    if (annotations) this.#answered = node
    this.done = true
    if (!this.#o.setCondition || this.#available === node.uid) return 0
    if (node.networkUnavailable !== 'False') {
      const sent = await this.#patch(node, networkAvailablePatch(this.#o.clock.date()), 'set NetworkUnavailable to False')
      if (!sent) return 1
    }
    this.#available = node.uid
    return 0
  }

  async #patch(node: NodeRecord, patch: object, what: string): Promise<boolean> {
    try {
      await this.#o.cluster.patchNodeStatus(node.name, patch)
      this.#o.log.info({ patch }, what)
      this.error = undefined
      return true
    } catch (error) {
      const text = messageOf(error)
      if (text !== this.error) this.#o.log.warn({ err: text }, 'could not patch the node; trying again')
      this.error = text
      return false
    }
  }
}
