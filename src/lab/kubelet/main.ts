/**
 * The kubelet stand-in: one process a node, in the node's namespaces (net, mount, uts, ipc, pid). It does what a kubelet and containerd
 * do together, as far as this lab's story needs it, and it says so in the version it reports. docs/lab-images.md tells what is real.
 *
 *     part kubelet [--control-plane]
 * Reads /var/lib/kubelet/kubeadm-flags.env, /etc/kubernetes/kubelet.conf, /etc/kubernetes/manifests, /etc/cni/net.d.
 * @module
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type Log, openLog } from '#base/log.ts'
import { Api, ApiError, accessFromKubeconfig } from '#lab/api.ts'
import { Cni } from '#lab/kubelet/cni.ts'
import { type KubeletConfig, nodePaths, type Paths, readConfig } from '#lab/kubelet/config.ts'
import { Events } from '#lab/kubelet/events.ts'
import { Mirror } from '#lab/kubelet/mirror.ts'
import { NodeReporter } from '#lab/kubelet/node-object.ts'
import { PodRuntime } from '#lab/kubelet/runtime.ts'
import { serve } from '#lab/kubelet/server.ts'
import { configMirror, mirrorOf, watchManifests } from '#lab/kubelet/static-pods.ts'
import { namespaceOf, type Pod, podKey, type ServiceObject } from '#lab/kubelet/types.ts'
import { type Node, PodWorker } from '#lab/kubelet/worker.ts'
import { identify } from '#lab/state.ts'

/** Runs until SIGTERM or SIGINT; pods go on without it. @throws {Error} if it cannot start: no kubeconfig, wrong --node-ip, port taken. */
export async function runKubelet(argv: readonly string[], paths: Paths = nodePaths): Promise<void> {
  const log = openLog('kubelet')
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort())
  claimPidFile(paths.pidFile)
  const config = readConfig(argv, paths)
  joinNodeCgroup(config, log)
  const access = accessFromKubeconfig(readFileSync(paths.kubeconfig, 'utf8'))
  const api = new Api(access)
  const kubelet = new Kubelet(config, api, log, stop.signal)
  const server = await serve({
    ...{ config, ca: access.ca, log },
    find: (namespace, name) => kubelet.find(namespace, name),
    pods: () => kubelet.pods(),
  })
  log.info({ node: config.node, nodeIp: config.nodeIp, port: config.port, cgroup: config.cgroup }, 'kubelet stand-in started')
  await kubelet.run()
  server.close()
  server.closeAllConnections()
  rmSync(paths.pidFile, { force: true })
}

class Kubelet {
  #wasNotReady: string | undefined
  readonly #workers = new Map<string, PodWorker>()
  readonly #statics = new Map<string, Pod>()
  readonly #mirrors: Mirror<Pod>
  readonly #services: Mirror<ServiceObject>
  readonly #cni: Cni
  readonly #node: Node
  readonly #reporter: NodeReporter
  readonly #config: KubeletConfig
  readonly #api: Api
  readonly #log: Log
  readonly #signal: AbortSignal

  constructor(config: KubeletConfig, api: Api, log: Log, signal: AbortSignal) {
    this.#config = config
    this.#api = api
    this.#log = log
    this.#signal = signal
    const { cniConf, cniBin, cniCache } = config.paths
    this.#cni = new Cni({ confDir: cniConf, binDir: cniBin, cacheDir: cniCache })
    this.#reporter = new NodeReporter(api, config, () => this.#cni.notReady(), log)
    const selector = encodeURIComponent(`spec.nodeName=${config.node}`)
    this.#mirrors = new Mirror<Pod>(
      api,
      `/api/v1/pods?fieldSelector=${selector}`,
      (pod, gone) => this.#onPod(pod, gone),
      () => this.#onSync(),
    )
    this.#services = new Mirror<ServiceObject>(api, '/api/v1/services', undefined, () => this.#onSync())
    const events = new Events(api, config.node, log)
    this.#node = { api, config, cni: this.#cni, events, services: this.#services, log, signal }
  }

  find(namespace: string, name: string): PodWorker | undefined {
    return [...this.#workers.values()].findLast(({ pod }) => namespaceOf(pod) === namespace && pod.metadata.name === name)
  }

  pods(): Pod[] {
    return [...this.#workers.values()].map(({ pod }) => pod)
  }

  async run(): Promise<void> {
    const signal = this.#signal
    const stopCni = this.#cni.watch(() => this.#onNetwork())
    this.#wasNotReady = this.#cni.notReady()
    this.#log.info({ network: this.#cni.network?.name, trouble: this.#cni.trouble }, 'CNI configuration read')
    const unreachable = (error: unknown): void => this.#log.warn({ error: String(error) }, 'the API server cannot be reached')
    await this.#register(unreachable)
    this.#node.events.node('Normal', 'Starting', 'Starting kubelet.')
    this.#reporter.heartbeat(signal)
    const polling = setInterval(() => void this.#poll(), 5000)
    const watching = [this.#services.run(signal, unreachable), this.#mirrors.run(signal, unreachable)]
    const stopManifests = watchManifests(
      this.#config.paths.manifests,
      this.#config.node,
      (pods) => this.#onManifests(pods),
      (file, error) => this.#log.warn({ file, error: String(error) }, 'manifest left out'),
    )
    await new Promise<void>((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true })))
    stopManifests()
    stopCni()
    clearInterval(polling)
    await Promise.race([Promise.all([...watching, ...[...this.#workers.values()].map((w) => w.done)]), delay(2000)])
    this.#log.info({ pods: this.#workers.size }, 'kubelet stand-in stopped; its pods go on')
  }

  async #register(onTrouble: (error: unknown) => void): Promise<void> {
    for (let tries = 0; !this.#signal.aborted; tries++) {
      try {
        return await this.#reporter.register()
      } catch (error) {
        onTrouble(error)
        await delay(Math.min(100 * 2 ** tries, 2000))
      }
    }
  }

  /** What the kubelet asks its runtime each 5 s: STATUS of the plugins. */
  async #poll(): Promise<void> {
    await this.#cni.status()
    this.#onNetwork()
  }

  #onNetwork(): void {
    const notReady = this.#cni.notReady()
    if (notReady === this.#wasNotReady) return
    this.#wasNotReady = notReady
    this.#log.info({ network: this.#cni.network?.name, notReady, trouble: this.#cni.trouble }, 'readiness of the pod network changed')
    this.#reporter.report().catch((error: unknown) => this.#log.warn({ error: String(error) }, 'node status not sent'))
    if (notReady === undefined) for (const worker of this.#workers.values()) worker.ring()
  }

  #onPod(pod: Pod, gone: boolean): void {
    const hash = pod.metadata.annotations?.[configMirror]
    if (hash !== undefined) {
      this.#onMirror(pod, hash, gone)
      return
    }
    if (!this.#services.synced) return // #onSync starts it: a container must not begin without the variables of its services
    const worker = this.#workers.get(pod.metadata.uid!)
    if (gone) worker?.drop()
    else if (worker) worker.update(pod)
    else this.#start(pod, false)
  }

  /** Both lists are here: start what is wanted, end what is left from before and wanted no more. */
  #onSync(): void {
    if (!this.#services.synced || !this.#mirrors.synced) return
    for (const pod of this.#mirrors.objects.values()) this.#onPod(pod, false)
    for (const pod of PodRuntime.left(this.#config)) {
      const uid = pod.metadata.uid!
      if (this.#workers.has(uid) || this.#statics.has(uid)) continue
      this.#log.info({ pod: podKey(pod), uid }, 'pod is left from before and not wanted: ending it')
      this.#start(pod, false).drop()
    }
  }

  #onManifests(pods: Pod[]): void {
    const now = new Map(pods.map((pod) => [pod.metadata.uid!, pod]))
    for (const uid of this.#statics.keys()) {
      if (now.has(uid)) continue
      this.#statics.delete(uid)
      this.#workers.get(uid)?.drop()
    }
    for (const [uid, pod] of now) {
      this.#statics.set(uid, pod)
      if (!this.#workers.has(uid)) this.#start(pod, true)
      void this.#mirror(pod)
    }
    for (const mirror of this.#mirrors.objects.values()) {
      const hash = mirror.metadata.annotations?.[configMirror]
      if (hash !== undefined) this.#onMirror(mirror, hash, false)
    }
  }

  #onMirror(mirror: Pod, hash: string, gone: boolean): void {
    const pod = this.#statics.get(hash)
    if (pod && gone) void this.#mirror(pod)
    else if (pod) this.#workers.get(hash)?.updateStatus(mirror.status)
    if ((!pod || mirror.metadata.deletionTimestamp) && !gone) void this.#unmirror(mirror)
  }

  /** Shows a static pod in the API, in place of an older version of it. */
  async #mirror(pod: Pod): Promise<void> {
    try {
      await this.#api.create(`/api/v1/namespaces/${namespaceOf(pod)}/pods`, mirrorOf(pod))
      this.#workers.get(pod.metadata.uid!)?.updateStatus(undefined)
    } catch (error) {
      if (error instanceof ApiError && error.status === 409) return
      this.#log.warn({ pod: podKey(pod), error: String(error) }, 'mirror pod not created')
      setTimeout(() => this.#statics.has(pod.metadata.uid!) && void this.#mirror(pod), 2000).unref()
    }
  }

  async #unmirror(mirror: Pod): Promise<void> {
    const path = `/api/v1/namespaces/${namespaceOf(mirror)}/pods/${mirror.metadata.name}`
    const options = { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions: { uid: mirror.metadata.uid } }
    await this.#api.remove(path, options).catch((error: unknown) => this.#log.warn({ error: String(error) }, 'mirror pod not deleted'))
  }

  #start(pod: Pod, isStatic: boolean): PodWorker {
    const uid = pod.metadata.uid!
    const worker = new PodWorker(pod, this.#node, { static: isStatic })
    this.#workers.set(uid, worker)
    void worker.done.then(() => this.#workers.delete(uid))
    return worker
  }
}

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms).unref())

/** One kubelet a node: a second one would fight the first over its pods. */
function claimPidFile(path: string): void {
  const other = existsSync(path) ? identify(Number(readFileSync(path, 'utf8'))) : undefined
  if (other && other.pid !== process.pid && isKubelet(other.pid))
    throw new Error(`a kubelet runs already on this node: pid ${other.pid} (${path})`)
  writeFileSync(path, `${process.pid}\n`)
}

const isKubelet = (pid: number): boolean => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('kubelet')

/** Started by hand (`systemctl restart kubelet` through `twill lab exec`) it may be in a cgroup outside of the node, which ends with the caller. */
function joinNodeCgroup(config: KubeletConfig, log: Log): void {
  if (config.cgroup === undefined) {
    log.warn({}, 'no cgroup2 directory of this node is to be seen: pods get none')
    return
  }
  const own = existsSync(`${config.cgroup}/system/cgroup.procs`) ? `${config.cgroup}/system` : config.cgroup
  try {
    writeFileSync(`${own}/cgroup.procs`, String(process.pid))
  } catch (error) {
    log.warn({ cgroup: own, error: String(error) }, 'could not join the node’s cgroup')
  }
}
