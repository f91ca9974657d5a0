/**
 * One pod's life on this node: a loop that looks at what is wanted and what runs, and takes the next step. Steps can be
 * repeated, so that a kubelet that was killed in the middle goes on from what it finds.
 * @module
 */
import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'
import { Bell } from '#base/bell.ts'
import { systemClock } from '#base/clock.ts'
import type { Log } from '#base/log.ts'
import { type Api, ApiError, isNotFound, patchType } from '#lab/api.ts'
import { findImage } from '#lab/images/table.ts'
import type { Cni } from '#lab/kubelet/cni.ts'
import type { KubeletConfig } from '#lab/kubelet/config.ts'
import { ConfigMissing, environmentOf } from '#lab/kubelet/env.ts'
import type { Events } from '#lab/kubelet/events.ts'
import type { Mirror } from '#lab/kubelet/mirror.ts'
import { type ContainerView, idOf, podStatus } from '#lab/kubelet/pod-status.ts'
import { Prober } from '#lab/kubelet/probes.ts'
import type { Instance } from '#lab/kubelet/records.ts'
import { PodRuntime } from '#lab/kubelet/runtime.ts'
import { type Container, namespaceOf, type Pod, type PodStatus, podKey, type ServiceObject } from '#lab/kubelet/types.ts'
import { objectData, PodVolumes } from '#lab/kubelet/volumes.ts'
import { Waits } from '#lab/kubelet/waits.ts'

export interface Node {
  readonly api: Api
  readonly config: KubeletConfig
  readonly cni: Cni
  readonly events: Events
  readonly services: Mirror<ServiceObject>
  readonly log: Log
  readonly signal: AbortSignal
}

const lookAgainMs = 10_000

export class PodWorker {
  readonly runtime: PodRuntime
  readonly done: Promise<void>
  #pod: Pod
  /** No longer in the API, or no longer in the manifests: it is to end within a second. */
  #unwanted = false
  #gone = false
  #over = false
  #failures = 0
  #ips: readonly string[] = []
  #sent = ''
  #endingSince: number | undefined
  readonly #startTime: string
  readonly #bell = new Bell()
  readonly #waits: Waits
  readonly #probers = new Map<string, { instance: Instance; prober: Prober }>()
  readonly #watchers = new Map<Instance, FSWatcher>()
  readonly #volumes = new PodVolumes()
  readonly #node: Node
  /** From a manifest file: the API holds a mirror of it under the same name, with a uid of its own. */
  readonly #static: boolean

  constructor(pod: Pod, node: Node, o: { static: boolean }) {
    this.#pod = pod
    this.#node = node
    this.#static = o.static
    this.#startTime = pod.status?.startTime ?? new Date().toISOString()
    this.runtime = new PodRuntime(pod, node.config, node.cni)
    this.#waits = new Waits(() => this.#pod, node.events)
    if (this.runtime.sandbox) this.#ips = pod.spec.hostNetwork ? [node.config.nodeIp] : this.runtime.sandbox.ips
    this.done = this.#run()
  }

  get pod(): Pod {
    return this.#pod
  }

  /** Whether the container waits for its next run (back-off, image). */
  isWaiting(name: string): boolean {
    return this.#waits.of(name) !== undefined
  }
  waitingReason(name: string): string {
    return this.#waits.of(name)?.message ?? 'ContainerCreating'
  }

  /** What a command run in the container finds in its environment: that of the container's own process. */
  environment(container: Container): NodeJS.ProcessEnv {
    return this.runtime.environment(container.name)
  }

  update(pod: Pod): void {
    this.#pod = pod
    this.#bell.ring('pod')
  }

  /** The mirror's status, for a static pod; a mirror that is new has none of ours yet. */
  updateStatus(status: PodStatus | undefined): void {
    this.#pod = { ...this.#pod, ...(status ? { status } : {}) }
    if (!status?.containerStatuses) this.#sent = ''
    this.#bell.ring('mirror')
  }

  ring(): void {
    this.#bell.ring('node')
  }

  /** Ends the pod though nobody has asked the API for it. */
  drop(): void {
    this.#unwanted = true
    this.#bell.ring('drop')
  }

  async #run(): Promise<void> {
    const { signal, log } = this.#node
    while (!this.#gone && !signal.aborted) {
      let waitMs: number
      try {
        waitMs = await this.#sync()
        this.#failures = 0
      } catch (error) {
        log.warn({ pod: podKey(this.#pod), error: error instanceof Error ? error.message : String(error) }, 'pod could not be synced')
        waitMs = this.#retryMs()
      }
      if (!this.#gone) await this.#bell.wait(waitMs, systemClock, signal)
    }
    for (const { prober } of this.#probers.values()) prober.stop()
    for (const watcher of this.#watchers.values()) watcher.close()
  }

  /** 1 s, 2 s … 10 s. (The real kubelet waits 10 s at once for all but an unready network.) */
  #retryMs = (): number => Math.min(1000 * 2 ** this.#failures++, 10_000)

  /** One step; returns after how many milliseconds it must be looked at again if nothing rings before. */
  async #sync(): Promise<number> {
    this.runtime.refresh()
    this.#watchRuns()
    if (this.#unwanted || this.#pod.metadata.deletionTimestamp) return this.#end()
    if (this.#over) return lookAgainMs
    const waitMs = await this.#advance()
    const status = await this.#report()
    if (status.phase === 'Succeeded' || status.phase === 'Failed') {
      await this.runtime.stop()
      this.#over = true
    }
    return waitMs
  }

  async #advance(): Promise<number> {
    const { cni, events } = this.#node
    const pod = this.#pod
    const phase = pod.status?.phase
    if (phase === 'Succeeded' || phase === 'Failed') return lookAgainMs
    const notReady = pod.spec.hostNetwork || this.runtime.sandbox ? undefined : cni.notReady()
    if (notReady) {
      events.pod(pod, 'Warning', 'NetworkNotReady', `network is not ready: ${notReady}`)
      return 5000 // and at once when the network comes
    }
    if (!(await this.#makeVolumes())) return this.#retryMs()
    if (!this.runtime.sandbox && !(await this.#makeSandbox())) return this.#retryMs()
    this.#ips = pod.spec.hostNetwork ? [this.#node.config.nodeIp] : this.runtime.sandbox!.ips

    for (const container of pod.spec.initContainers ?? []) {
      const last = this.#mine(container)
      if (last?.end?.exitCode === 0) {
        this.#waits.over(container.name)
        continue
      }
      if (last && !last.end) return lookAgainMs
      if (last && pod.spec.restartPolicy === 'Never') return lookAgainMs
      return this.#start(container)
    }
    let waitMs = lookAgainMs
    for (const container of pod.spec.containers) {
      const last = this.#mine(container)
      if (last && !last.end) continue
      const policy = pod.spec.restartPolicy ?? 'Always'
      if (last?.end && (policy === 'Never' || (policy === 'OnFailure' && last.end.exitCode === 0))) continue
      waitMs = Math.min(waitMs, await this.#start(container))
    }
    return waitMs
  }

  /** The container's last run in the present sandbox: what ran in an earlier one does not count. */
  #mine(container: Container): Instance | undefined {
    const last = this.runtime.current(container.name)
    return last?.sandbox === this.runtime.sandbox?.id ? last : undefined
  }

  async #makeVolumes(): Promise<boolean> {
    const pod = this.#pod
    const { api, config, events } = this.#node
    const dir = join(this.runtime.dir, 'volumes')
    const trouble = await this.#volumes.make({ api, pod, podIps: this.#ips, hostIp: config.nodeIp, dir }, Date.now())
    if (trouble === undefined) return true
    events.pod(pod, 'Warning', 'FailedMount', trouble)
    await this.#report()
    return false
  }

  async #makeSandbox(): Promise<boolean> {
    const { events } = this.#node
    const pod = this.#pod
    for (const list of this.runtime.instances.values()) this.runtime.signal(list.at(-1)!, 'SIGKILL') // they ran in a sandbox that is gone
    try {
      await this.runtime.clearDead()
    } catch (error) {
      events.pod(pod, 'Warning', 'FailedKillPod', killPodMessage(pod, error))
      return false
    }
    if (this.runtime.instances.size > 0)
      events.pod(pod, 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.')
    try {
      await this.runtime.start()
      return true
    } catch (error) {
      const why = `rpc error: code = Unknown desc = ${(error as Error).message}`
      events.pod(pod, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${why}`)
      await this.#report()
      return false
    }
  }

  /** Starts the next run of `container` unless it must wait; returns when to look again. */
  async #start(container: Container): Promise<number> {
    const { events } = this.#node
    const pod = this.#pod
    const { name } = container
    const now = Date.now()
    const image = this.#waits.image(container, now)
    if (typeof image === 'number') return Math.max(1000, Math.min(lookAgainMs, image))
    const backOffMs = this.#waits.backOff(name, this.#mine(container), now)
    if (backOffMs > 0) return Math.min(backOffMs, lookAgainMs)
    let env: Map<string, string>
    try {
      env = await environmentOf(pod, container, {
        data: async (kind, object) => {
          const data = await objectData(this.#node.api, namespaceOf(pod), kind, object)
          return data && Object.fromEntries([...data].map(([key, bytes]) => [key, bytes.toString()]))
        },
        services: [...this.#node.services.objects.values()],
        podIps: this.#ips,
        hostIp: this.#node.config.nodeIp,
      })
    } catch (error) {
      if (!(error instanceof ConfigMissing)) throw error
      this.#waits.config(name, error.message)
      return this.#retryMs()
    }
    events.pod(pod, 'Normal', 'Pulled', `Container image "${container.image}" already present on machine`, name)
    const instance = await this.runtime.run({ container, image, env, volumes: this.#volumes.paths })
    this.#waits.over(name)
    events.pod(pod, 'Normal', 'Created', `Created container: ${name}`, name)
    if (instance.end?.reason === 'StartError') events.pod(pod, 'Warning', 'Failed', `Error: ${instance.end.message}`, name)
    else events.pod(pod, 'Normal', 'Started', `Started container ${name}`, name)
    this.#watchRuns()
    return instance.end ? 0 : lookAgainMs
  }

  /** Each running container has its prober, and a watch on the directory where its end will be written. */
  #watchRuns(): void {
    const all = [...(this.#pod.spec.initContainers ?? []), ...this.#pod.spec.containers]
    for (const container of all) {
      const instance = this.runtime.current(container.name)
      const probing = this.#probers.get(container.name)
      if (probing && (probing.instance !== instance || instance.end)) {
        probing.prober.stop()
        this.#probers.delete(container.name)
      }
      if (!instance || instance.end) continue
      if (!this.#watchers.has(instance)) {
        this.#watchers.set(
          instance,
          watch(instance.dir, () => this.#bell.ring('exit')),
        )
        this.#bell.ring('exit') // it may have ended before the watch stood
      }
      if (!this.#probers.has(container.name)) this.#probe(container, instance)
    }
    for (const [instance, watcher] of this.#watchers) {
      if (!instance.end) continue
      watcher.close()
      this.#watchers.delete(instance)
    }
  }

  #probe(container: Container, instance: Instance): void {
    const { events, config } = this.#node
    const { name } = container
    const prober = new Prober({
      container,
      ip: this.#pod.spec.hostNetwork ? config.nodeIp : (this.runtime.sandbox?.ips[0] ?? this.#ips[0] ?? ''),
      wasReady: this.#pod.status?.containerStatuses?.some((s) => s.ready && s.containerID === idOf(instance)) === true,
      exec: (command) => this.runtime.exec(container, instance, command, this.environment(container)),
      onChange: () => this.#bell.ring('probe'),
      onUnhealthy: (kind, text) => events.pod(this.#pod, 'Warning', 'Unhealthy', `${kind} probe failed: ${text}`, name),
      onDead: (kind) => {
        events.pod(this.#pod, 'Normal', 'Killing', `Container ${name} failed ${kind.toLowerCase()} probe, will be restarted`, name)
        this.runtime.signal(instance, 'SIGTERM')
        setTimeout(() => this.runtime.signal(instance, 'SIGKILL'), this.#graceSeconds() * 1000).unref()
      },
    })
    this.#probers.set(name, { instance, prober })
  }

  #graceSeconds = (): number =>
    this.#unwanted ? 1 : (this.#pod.metadata.deletionGracePeriodSeconds ?? this.#pod.spec.terminationGracePeriodSeconds ?? 30)

  /** The way out: SIGTERM, at the end of the grace period SIGKILL, network, namespaces, then the object itself. */
  async #end(): Promise<number> {
    const { events } = this.#node
    const pod = this.#pod
    const running = [...this.runtime.instances].filter(([, list]) => list.at(-1) && !list.at(-1)!.end)
    if (this.#endingSince === undefined) {
      this.#endingSince = Date.now()
      for (const { prober } of this.#probers.values()) prober.stop()
      for (const [name, list] of running) {
        events.pod(pod, 'Normal', 'Killing', `Stopping container ${name}`, name)
        this.runtime.signal(list.at(-1)!, 'SIGTERM')
      }
      if (!this.#unwanted) await this.#report().catch(() => {}) // the pod may be gone from the API: ending goes on
    }
    const leftMs = this.#endingSince + this.#graceSeconds() * 1000 - Date.now()
    if (running.length > 0) {
      if (leftMs <= 0) for (const [, list] of running) this.runtime.signal(list.at(-1)!, 'SIGKILL')
      return leftMs > 0 ? leftMs : 20
    }
    try {
      await this.runtime.stop()
    } catch (error) {
      events.pod(pod, 'Warning', 'FailedKillPod', killPodMessage(pod, error))
      return this.#retryMs()
    }
    if (!this.#unwanted) {
      await this.#report().catch(() => {})
      await this.#remove()
    }
    await this.runtime.clean()
    events.forget(pod.metadata.uid!)
    this.#gone = true
    return 0
  }

  async #remove(): Promise<void> {
    const { name, uid } = this.#pod.metadata
    try {
      await this.#node.api.remove(`/api/v1/namespaces/${namespaceOf(this.#pod)}/pods/${name}`, {
        ...{ apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 },
        ...(this.#static ? {} : { preconditions: { uid } }),
      })
    } catch (error) {
      if (!isNotFound(error) && !(error instanceof ApiError && error.status === 409)) throw error
    }
  }

  #view(container: Container): ContainerView {
    const waiting = this.#waits.of(container.name)
    const probing = this.#probers.get(container.name)
    return {
      container,
      instances: this.runtime.instances.get(container.name) ?? [],
      ...(waiting ? { waiting } : {}),
      probedReady: probing?.prober.ready ?? container.readinessProbe === undefined,
      probedStarted: probing?.prober.started ?? container.startupProbe === undefined,
      known: findImage(container.image) !== undefined,
    }
  }

  /** Sends the status if it differs from what was sent last. */
  async #report(): Promise<PodStatus> {
    const pod = this.#pod
    const status = podStatus(
      {
        pod,
        hostIp: this.#node.config.nodeIp,
        podIps: this.#ips,
        sandboxReady: this.runtime.sandbox !== undefined,
        startTime: this.#startTime,
        init: (pod.spec.initContainers ?? []).map((c) => this.#view(c)),
        main: pod.spec.containers.map((c) => this.#view(c)),
        now: new Date().toISOString(),
      },
      pod.status,
    )
    const text = JSON.stringify(status)
    if (text === this.#sent) return status
    // null removes what an earlier status had and this one has not (RFC 7386).
    const gone = pod.status?.podIP !== undefined && status.podIP === undefined ? { podIP: null, podIPs: null } : {}
    const path = `/api/v1/namespaces/${namespaceOf(pod)}/pods/${pod.metadata.name}/status`
    try {
      await this.#node.api.patch(path, { status: { ...status, ...gone } }, patchType.merge)
      this.#sent = text
      this.#pod = { ...this.#pod, status }
    } catch (error) {
      if (!isNotFound(error)) throw error // else it is gone, or the mirror is not there yet; both are rung in
    }
    return status
  }
}

const killPodMessage = (pod: Pod, error: unknown): string =>
  `error killing pod: failed to "KillPodSandbox" for "${pod.metadata.uid}" with KillPodSandboxError: "rpc error: code = Unknown desc = ${(error as Error).message}"`
