/**
 * Why the containers of one pod do not start yet, in kubelet's words: an image that is not to be had, a crash loop, a missing ConfigMap.
 * @module
 */
import { findImage, type Image, unknownImage } from '#lab/images/table.ts'
import type { Events } from '#lab/kubelet/events.ts'
import type { Instance } from '#lab/kubelet/records.ts'
import { type Container, namespaceOf, type Pod } from '#lab/kubelet/types.ts'

export interface Waiting {
  readonly reason: string
  readonly message: string
}

/** A wait that grows: 10 s, 20 s … 5 min, as the kubelet's for crashing containers and images. */
interface Delay {
  ms: number
  until: number
}
const firstMs = 10_000
const longestMs = 300_000
/** A container that ran this long is forgiven its crashes. */
const forgivenMs = 600_000

export class Waits {
  readonly #reasons = new Map<string, Waiting>()
  readonly #pulls = new Map<string, Delay>()
  readonly #restarts = new Map<string, Delay>()
  readonly #pod: () => Pod
  readonly #events: Events

  constructor(pod: () => Pod, events: Events) {
    this.#pod = pod
    this.#events = events
  }

  /** What the container waits for, if it does. */
  of(container: string): Waiting | undefined {
    return this.#reasons.get(container)
  }

  over(container: string): void {
    this.#reasons.delete(container)
  }

  /** A ConfigMap, Secret or key is missing. */
  config(container: string, message: string): void {
    this.#reasons.set(container, { reason: 'CreateContainerConfigError', message })
    this.#warn('Failed', `Error: ${message}`, container)
  }

  /** The container's image, or in how many milliseconds to look for it again. */
  image({ name, image }: Container, now: number): Image | number {
    const found = findImage(image)
    if (found) return found
    const message = unknownImage(image)
    const delay = this.#pulls.get(name)
    if (!delay || now >= delay.until) {
      const ms = delay ? Math.min(delay.ms * 2, longestMs) : firstMs
      this.#pulls.set(name, { ms, until: now + ms })
      this.#events.pod(this.#pod(), 'Normal', 'Pulling', `Pulling image "${image}"`, name)
      this.#warn('Failed', `Failed to pull image "${image}": ${message}`, name)
      this.#warn('Failed', 'Error: ErrImagePull', name)
      this.#reasons.set(name, { reason: 'ErrImagePull', message })
    } else if (this.of(name)?.reason !== 'ImagePullBackOff') {
      this.#events.pod(this.#pod(), 'Normal', 'BackOff', `Back-off pulling image "${image}"`, name)
      this.#warn('Failed', 'Error: ImagePullBackOff', name)
      this.#reasons.set(name, { reason: 'ImagePullBackOff', message: `Back-off pulling image "${image}": ErrImagePull: ${message}` })
    }
    return this.#pulls.get(name)!.until - now
  }

  /** Milliseconds until the container, whose last run is `last`, may start again. The first restart is at once. */
  backOff(name: string, last: Instance | undefined, now: number): number {
    if (!last?.end) return 0
    const ended = Date.parse(last.end.finishedAt)
    const delay = this.#restarts.get(name)
    if (!delay || ended - Date.parse(last.startedAt ?? last.end.finishedAt) > forgivenMs) {
      this.#restarts.set(name, { ms: firstMs, until: 0 })
      return 0
    }
    if (delay.until === 0) delay.until = ended + delay.ms
    if (now >= delay.until) {
      this.#restarts.set(name, { ms: Math.min(delay.ms * 2, longestMs), until: 0 })
      return 0
    }
    if (this.of(name)?.reason !== 'CrashLoopBackOff') {
      const { metadata } = this.#pod()
      const who = `${metadata.name}_${namespaceOf(this.#pod())}(${metadata.uid})`
      const message = `back-off ${delay.ms / 1000}s restarting failed container=${name} pod=${who}`
      this.#reasons.set(name, { reason: 'CrashLoopBackOff', message })
      this.#warn('BackOff', `Back-off restarting failed container ${name} in pod ${who}`, name)
    }
    return delay.until - now
  }

  #warn(reason: string, message: string, container: string): void {
    this.#events.pod(this.#pod(), 'Warning', reason, message, container)
  }
}
