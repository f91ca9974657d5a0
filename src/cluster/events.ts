/**
 * Events about nodes, as `kubectl describe node` shows them. Saying the same again raises the count of the first Event
 * instead of making another, so that a lasting fault does not fill the API server.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import { TwillError } from '#base/errors.ts'
import type { Client } from '#cluster/http.ts'
import type { NodeEvent } from '#cluster/types.ts'

/** Nodes have no namespace; their Events live in this one (k8s.io/client-go/tools/record). */
const path = '/api/v1/namespaces/default/events'
const maxRemembered = 256

export class EventSender {
  readonly #client: Client
  readonly #clock: Clock
  readonly #sent = new Map<string, { name: string; count: number }>()

  constructor(client: Client, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  /** @returns forbidden where RBAC has no rule for it (Flannel's has none). @throws {TwillError} for every other failure. */
  async send(event: NodeEvent): Promise<'sent' | 'forbidden'> {
    const message = event.message.slice(0, 1024)
    const key = [event.node.uid, event.type, event.reason, message].join('\n')
    try {
      const before = this.#sent.get(key)
      if (before && (await this.#repeat(before))) return 'sent'
      const name = await this.#create({ ...event, message })
      this.#sent.set(key, { name, count: 1 })
      if (this.#sent.size > maxRemembered) this.#sent.delete(this.#sent.keys().next().value!)
      return 'sent'
    } catch (error) {
      if (error instanceof TwillError && error.code === 'ERR_API_FORBIDDEN') return 'forbidden'
      throw error
    }
  }

  async #create({ node, type, reason, message }: NodeEvent): Promise<string> {
    const at = this.#clock.date()
    // Unique as client-go makes it: the object's name and the time in hexadecimal nanoseconds, here with chance below the millisecond.
    const unique = BigInt(at.getTime()) * 1_000_000n + BigInt(Math.floor(this.#clock.random() * 1_000_000))
    const name = `${node.name}.${unique.toString(16)}`
    const time = timestamp(at)
    const value = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace: 'default' },
      involvedObject: { apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.uid },
      type,
      reason,
      message,
      source: { component: 'twill', host: node.name },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    }
    await this.#client.json({ method: 'POST', path, body: { type: 'application/json', value } })
    return name
  }

  /** False if the Event has expired (an hour, by default) and must be made anew. */
  async #repeat(before: { name: string; count: number }): Promise<boolean> {
    const value = { count: before.count + 1, lastTimestamp: timestamp(this.#clock.date()) }
    try {
      await this.#client.json({
        method: 'PATCH',
        path: `${path}/${before.name}`,
        body: { type: 'application/strategic-merge-patch+json', value },
      })
      before.count++
      return true
    } catch (error) {
      if (error instanceof TwillError && error.details.status === 404) return false
      throw error
    }
  }
}

/** metav1.Time: whole seconds. */
const timestamp = (at: Date): string => at.toISOString().replace(/\.\d+/, '')
