/**
 * The devices of one namespace as last heard: names to indexes and back, and what each device looked like before a change.
 * Fed by dumps and notifications; for a short-lived look into a pod's namespace, by the answers to lookups alone.
 * @module
 */
import type { Message } from '#wire/netlink.ts'
import { AF_BRIDGE, AF_UNSPEC, RTM_DELLINK } from '#wire/rtnetlink/constants.ts'
import { decodeLink, type Link } from '#wire/rtnetlink/link.ts'

/** A device before and after a message; `now` absent: it is gone, `before` absent: it is new. */
export interface LinkStep {
  readonly before?: Link
  readonly now?: Link
}

export class LinkTable {
  #links = new Map<number, Link>()
  #indexes = new Map<string, number>()
  #mourners = new Map<number, () => void>()

  index(name: string): number | undefined {
    return this.#indexes.get(name)
  }

  get(index: number): Link | undefined {
    return this.#links.get(index)
  }

  /** Undefined for an index that was never heard of, and 0. */
  name(index: number): string | undefined {
    return this.#links.get(index)?.name
  }

  all(): Iterable<Link> {
    return this.#links.values()
  }

  /** Starts over from a full list. */
  reset(links: readonly Link[]): void {
    const gone = [...this.#mourners.keys()].filter((index) => !links.some((link) => link.index === index))
    this.#links = new Map(links.map((link) => [link.index, link]))
    this.#indexes = new Map(links.map((link) => [link.name, link.index]))
    for (const index of gone) this.#mourners.get(index)?.()
  }

  /** Notes an index ahead of the notification, so that the next message may use it. */
  learn(name: string, index: number): void {
    this.#indexes.set(name, index)
  }

  /** Takes in an RTM_NEWLINK or RTM_DELLINK; undefined if it tells nothing of a device. */
  fold(message: Message): LinkStep | undefined {
    const link = decodeLink(message)
    const before = this.#links.get(link.index)
    const step = before ? { before } : {}
    if (link.family === AF_BRIDGE) return before && this.#foldPort(before, link, message.type === RTM_DELLINK)
    if (link.family !== AF_UNSPEC) return undefined
    for (const name of new Set([link.name, before?.name ?? link.name])) {
      if (this.#indexes.get(name) === link.index) this.#indexes.delete(name)
    }
    if (message.type === RTM_DELLINK) {
      this.#links.delete(link.index)
      this.#mourners.get(link.index)?.()
      return step
    }
    this.#links.set(link.index, link)
    this.#indexes.set(link.name, link.index)
    return { ...step, now: link }
  }

  /** A message of family AF_BRIDGE tells of membership only: its "delete" is the port leaving. */
  #foldPort(before: Link, { master, hairpin, isolated }: Link, left: boolean): LinkStep {
    const { master: _, hairpin: __, isolated: ___, ...device } = before
    const now: Link = left
      ? device
      : {
          ...before,
          ...(master !== undefined && { master }),
          ...(hairpin !== undefined && { hairpin }),
          ...(isolated !== undefined && { isolated }),
        }
    this.#links.set(before.index, now)
    return { before, now }
  }

  /** Resolves once all of `indexes` are announced as deleted. `cancel` stops waiting (the promise then stays open). */
  whenGone(indexes: readonly number[]): { readonly gone: Promise<void>; cancel(): void } {
    const one = (index: number): Promise<void> =>
      new Promise((resolve) => {
        this.#mourners.set(index, () => {
          this.#mourners.delete(index)
          resolve()
        })
      })
    const gone = Promise.all(indexes.map(one)).then(() => {})
    const cancel = (): void => {
      for (const index of indexes) this.#mourners.delete(index)
    }
    return { gone, cancel }
  }
}
