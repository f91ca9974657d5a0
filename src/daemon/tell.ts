/** Says each finding once: a log line, and an Event on this node where RBAC allows. Tells too when it is gone. */
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Cluster } from '#cluster/cluster.ts'
import type { Finding, NodeRecord } from '#model/cluster.ts'

const textOf = (finding: Finding): string => `${finding.id} ${finding.subject} ${finding.text}`

export class Teller {
  readonly #cluster: Cluster
  readonly #log: Log
  #told = new Map<string, Finding>()
  #mayPost = true

  constructor(cluster: Cluster, log: Log) {
    this.#cluster = cluster
    this.#log = log
  }

  /** `findings` is all that is wrong now. Events are posted for `node` itself only: each agent speaks for its own. */
  tell(findings: readonly Finding[], node: NodeRecord | undefined): void {
    const now = new Map(findings.map((finding) => [textOf(finding), finding]))
    for (const [key, finding] of now) {
      if (this.#told.has(key)) continue
      this.#log.warn({ id: finding.id, subject: finding.subject, remedy: finding.remedy }, finding.text)
      if (node && finding.subject === `node ${node.name}`) void this.#post(finding, node)
    }
    for (const [key, { id, subject, text }] of this.#told) if (!now.has(key)) this.#log.info({ id, subject, was: text }, 'no longer so')
    this.#told = now
  }

  async #post({ id, text, remedy }: Finding, { name, uid }: NodeRecord): Promise<void> {
    if (!this.#mayPost) return
    const reason = id.replace(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase())
    try {
      this.#mayPost =
        (await this.#cluster.event({ node: { name, uid }, type: 'Warning', reason, message: `${text}. ${remedy}` })) === 'sent'
    } catch (error) {
      this.#log.debug({ err: messageOf(error) }, 'could not post an Event')
    }
  }
}
