/**
 * Says each finding once: a log line, and an Event on this node where RBAC allows; tells too when it is gone. Repairs are Events too.
 * Every agent of the cluster finds the same fault of a Node or Service: those of the oldest nodes post the Event.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import { printable } from '#base/printable.ts'
import type { Cluster } from '#cluster/cluster.ts'
import type { Finding, NodeRecord } from '#model/cluster.ts'
import type { Repair } from '#model/status.ts'
import { isSpokesman } from '#plan/spokesman.ts'

const textOf = (finding: Finding): string => `${finding.id} ${finding.subject} ${finding.text}`

/** Events of repairs: so many at once, then one in a while (as client-go holds back one source's Events about one object). */
const BURST = 25
const REFILL_MS = 30_000
/** An object whose text is longer (a file, a chain) is named by its key. */
const SHOWN = 160

export class Teller {
  readonly #cluster: Cluster
  readonly #log: Log
  #told = new Map<string, Finding>()
  #mayPost = true
  readonly #repairs: Budget
  readonly #faults: Budget
  /** Repairs that no Event told of. */
  #untold = 0

  constructor(cluster: Cluster, log: Log, clock: Clock) {
    this.#cluster = cluster
    this.#log = log
    this.#repairs = new Budget(clock)
    this.#faults = new Budget(clock)
  }

  /** One Event for the repairs of one pass (the log has each): the first, and how many more. */
  repaired(repairs: readonly Repair[], node: NodeRecord | undefined): void {
    const [first] = repairs
    if (!first || !node) return
    if (!this.#repairs.take()) {
      this.#untold += repairs.length
      return
    }
    const more = repairs.length - 1 + this.#untold
    this.#untold = 0
    const by = first.by ?? 'someone whom the kernel does not name'
    const text = first.op.replace(/^(put|del) /, '')
    const message = `${text.length > SHOWN ? first.object : text} was ${first.found} by ${by}: put right${more > 0 ? `, and ${more} more` : ''}`
    void this.#post({ reason: 'ObjectRepaired', message }, node)
  }

  /** `findings` is all that is wrong now. Events are posted on `node`, about itself, and about others if it is to speak for all. */
  tell(findings: readonly Finding[], node: NodeRecord | undefined): void {
    const now = new Map(findings.map((finding) => [textOf(finding), finding]))
    for (const [key, finding] of now) {
      if (this.#told.has(key)) continue
      this.#log.warn({ id: finding.id, subject: finding.subject, remedy: finding.remedy }, finding.text)
      if (node && this.#mayTell(finding, node)) void this.#post(eventOf(finding), node)
    }
    for (const [key, { id, subject, text }] of this.#told) if (!now.has(key)) this.#log.info({ id, subject, was: text }, 'no longer so')
    this.#told = now
  }

  #mayTell({ subject }: Finding, own: NodeRecord): boolean {
    if (subject === `node ${own.name}`) return true
    return this.#mayPost && isSpokesman(own, this.#cluster.snapshot.nodes.values()) && this.#faults.take()
  }

  async #post(event: { reason: string; message: string }, { name, uid }: NodeRecord): Promise<void> {
    if (!this.#mayPost) return
    try {
      this.#mayPost = (await this.#cluster.event({ node: { name, uid }, type: 'Warning', ...event })) === 'sent'
    } catch (error) {
      this.#log.debug({ err: messageOf(error) }, 'could not post an Event')
    }
  }
}

/** Events that may be posted now. */
class Budget {
  readonly #clock: Clock
  #tokens = BURST
  #filledMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  take(): boolean {
    const nowMs = this.#clock.now()
    this.#tokens = Math.min(BURST, this.#tokens + (nowMs - this.#filledMs) / REFILL_MS)
    this.#filledMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

const eventOf = ({ id, text, remedy }: Finding): { reason: string; message: string } => ({
  reason: id.replace(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase()),
  message: printable(`${text}. ${remedy}`),
})
