/**
 * The Node object of this node and its heartbeat: registration, status when it changes, a Lease each 10 s.
 * nodeInfo is honest: the machine's own kernel and OS image, this stand-in's own name and version.
 * @module
 */
import { readFileSync } from 'node:fs'
import { arch, cpus, release, totalmem } from 'node:os'
import type { Log } from '#base/log.ts'
import { type Api, ApiError, isNotFound, patchType } from '#lab/api.ts'
import { images } from '#lab/images/table.ts'
import type { KubeletConfig } from '#lab/kubelet/config.ts'
import { seconds } from '#lab/kubelet/pod-status.ts'
import type { Condition, Meta } from '#lab/kubelet/types.ts'

export const kubeletVersion = 'v1.33.2+twill-lab'
export const runtimeVersion = 'twill-lab://0.1.0'
const goArch: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
const heartbeatMs = 10_000
/** The status is sent at least this often though nothing has changed (kubelet: nodeStatusReportFrequency). */
const reportMs = 300_000

interface NodeObject {
  metadata: Meta
  spec?: { taints?: object[]; unschedulable?: boolean }
  status?: { conditions?: Condition[] }
}

/** PRETTY_NAME of os-release(5). */
export function osImage(osRelease: string): string {
  return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(osRelease)?.[1] ?? 'Linux'
}

function labels(config: KubeletConfig): Record<string, string> {
  const machine = goArch[arch()] ?? arch()
  return {
    'beta.kubernetes.io/arch': machine,
    'beta.kubernetes.io/os': 'linux',
    'kubernetes.io/arch': machine,
    'kubernetes.io/hostname': config.node,
    'kubernetes.io/os': 'linux',
    ...(config.controlPlane
      ? { 'node-role.kubernetes.io/control-plane': '', 'node.kubernetes.io/exclude-from-external-load-balancers': '' }
      : {}),
  }
}

const controlPlaneTaint = { key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }

function machine(config: KubeletConfig): object {
  const memory = `${Math.floor(totalmem() / 1024)}Ki`
  const capacity = { cpu: String(cpus().length), memory, pods: '110', 'ephemeral-storage': '0', 'hugepages-2Mi': '0' }
  const machineId = readFileSync('/etc/machine-id', 'utf8').trim()
  return {
    capacity,
    allocatable: capacity,
    addresses: [
      { type: 'InternalIP', address: config.nodeIp },
      { type: 'Hostname', address: config.node },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: config.port } },
    nodeInfo: {
      machineID: machineId,
      systemUUID: machineId,
      bootID: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
      kernelVersion: release(),
      osImage: osImage(readFileSync('/etc/os-release', 'utf8')),
      containerRuntimeVersion: runtimeVersion,
      kubeletVersion,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: goArch[arch()] ?? arch(),
    },
    images: images.map(({ name }) => ({ names: [name], sizeBytes: 0 })),
  }
}

/** The kubelet's four conditions. Transition times are kept while the status stays. */
export function conditionsOf(notReady: string | undefined, before: readonly Condition[], now: string): Condition[] {
  const fine = (type: string, reason: string, message: string): Condition => ({ type, status: 'False', reason, message })
  const wanted = [
    fine('MemoryPressure', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
    fine('DiskPressure', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
    fine('PIDPressure', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
    notReady === undefined
      ? { type: 'Ready', status: 'True' as const, reason: 'KubeletReady', message: 'kubelet is posting ready status' }
      : { type: 'Ready', status: 'False' as const, reason: 'KubeletNotReady', message: notReady },
  ]
  return wanted.map((condition) => {
    const old = before.find((c) => c.type === condition.type)
    const since = old?.status === condition.status ? old.lastTransitionTime : undefined
    return { ...condition, lastHeartbeatTime: now, lastTransitionTime: since ?? now }
  })
}

export class NodeReporter {
  #conditions: Condition[] = []
  #sent = ''
  #sentAt = 0
  #renewing = false
  readonly #api: Api
  readonly #config: KubeletConfig
  readonly #notReady: () => string | undefined
  readonly #log: Log

  constructor(api: Api, config: KubeletConfig, notReady: () => string | undefined, log: Log) {
    this.#api = api
    this.#config = config
    this.#notReady = notReady
    this.#log = log
  }

  /** Makes the Node, or brings labels and taints of an existing one up to date. */
  async register(): Promise<void> {
    const path = `/api/v1/nodes/${this.#config.node}`
    const own = labels(this.#config)
    try {
      const node = await this.#api.get<NodeObject>(path)
      this.#conditions = node.status?.conditions ?? []
      if (Object.entries(own).some(([key, value]) => node.metadata.labels?.[key] !== value)) {
        await this.#api.patch(path, { metadata: { labels: own } }, patchType.merge)
      }
    } catch (error) {
      if (!isNotFound(error)) throw error
      const annotations = { 'node.alpha.kubernetes.io/ttl': '0', 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' }
      await this.#api.create('/api/v1/nodes', {
        ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: this.#config.node, labels: own, annotations } },
        spec: this.#config.controlPlane ? { taints: [controlPlaneTaint] } : {},
        status: this.#status(),
      })
      this.#log.info({ node: this.#config.node, address: this.#config.nodeIp }, 'registered the node')
    }
    this.#sent = ''
    await this.report()
  }

  /** Sends the status if it has changed. */
  async report(): Promise<void> {
    const status = this.#status()
    const text = JSON.stringify(status, (key, value: unknown) => (key === 'lastHeartbeatTime' ? undefined : value))
    if (text === this.#sent && Date.now() - this.#sentAt < reportMs) return
    try {
      await this.#api.patch(`/api/v1/nodes/${this.#config.node}/status`, { status }, patchType.strategic)
      this.#sent = text
      this.#sentAt = Date.now()
    } catch (error) {
      if (!isNotFound(error)) throw error
      await this.register() // somebody deleted the Node: a kubelet registers anew
    }
  }

  /** Renews the Lease and looks at the status each 10 s, until abort. */
  heartbeat(signal: AbortSignal): void {
    const beat = async (): Promise<void> => {
      if (this.#renewing) return
      this.#renewing = true
      try {
        await this.#renew()
        await this.report()
      } catch (error) {
        this.#log.warn({ error: String(error) }, 'heartbeat not sent')
      } finally {
        this.#renewing = false
      }
    }
    const timer = setInterval(() => void beat(), heartbeatMs)
    signal.addEventListener('abort', () => clearInterval(timer))
    void beat()
  }

  #status(): { conditions: Condition[] } {
    this.#conditions = conditionsOf(this.#notReady(), this.#conditions, seconds(new Date().toISOString()))
    return { ...machine(this.#config), conditions: this.#conditions }
  }

  async #renew(): Promise<void> {
    const { node } = this.#config
    const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases'
    const renewTime = new Date().toISOString().replace('Z', '000Z') // MicroTime
    try {
      await this.#api.patch(`${leases}/${node}`, { spec: { renewTime } }, patchType.merge)
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error
      await this.#api.create(leases, {
        ...{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: node, namespace: 'kube-node-lease' } },
        spec: { holderIdentity: node, leaseDurationSeconds: 40, renewTime },
      })
    }
  }
}
