/** For tests: a cluster in memory that answers as the API server would, and the parts of an agent around it. */
import { type Clock, systemClock } from '#base/clock.ts'
import { type Log, silentLog } from '#base/log.ts'
import type { Cluster, NodeEvent } from '#cluster/cluster.ts'
import { clusterError } from '#cluster/errors.ts'
import { parseNetConf } from '#config/net-conf.ts'
import { parseCommandLine } from '#config/parse.ts'
import type { AgentParts } from '#daemon/agent.ts'
import { FakeKernel } from '#kernel/fake.ts'
import type { EndpointSlice, NodeRecord, Service } from '#model/cluster.ts'
import type { Kernel, Op, Outcome } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'
import { STOCK_CONFLIST } from '#plan/files.ts'

export const PREFIX = 'flannel.alpha.coreos.com/'

export function nodeRecord(name: string, o: Partial<NodeRecord> = {}): NodeRecord {
  return { name, uid: `uid-${name}`, podCIDRs: [], annotations: {}, internalIPs: [], ...o }
}

/** A node whose agent runs: as golden/vxlan-iptables has them. */
export function peerRecord(name: string, podCIDR: string, publicIp: string, vtepMac: string): NodeRecord {
  return nodeRecord(name, {
    podCIDRs: [podCIDR],
    annotations: {
      'backend-data': JSON.stringify({ VNI: 1, VtepMAC: vtepMac }),
      'backend-type': 'vxlan',
      'kube-subnet-manager': 'true',
      'public-ip': publicIp,
    },
  })
}

interface NodePatch {
  readonly metadata?: { readonly annotations: Readonly<Record<string, string>> }
  readonly status?: { readonly conditions: readonly { readonly type: string; readonly status: string }[] }
}

export class FakeCluster implements Cluster {
  readonly nodes = new Map<string, NodeRecord>()
  readonly services = new Map<string, Service>()
  readonly endpointSlices = new Map<string, EndpointSlice>()
  readonly patches: { readonly node: string; readonly patch: object }[] = []
  readonly events: NodeEvent[] = []
  /** While set, the server refuses patches (a list is still served). */
  refusePatches = false
  /** While false, lists have not arrived: `start` waits. */
  synced = true
  readonly findings = []
  readonly health = { kinds: {} }
  #touch: (owner: string) => void = () => {}
  #onSync = Promise.withResolvers<void>()

  constructor(nodes: readonly NodeRecord[]) {
    for (const node of nodes) this.nodes.set(node.name, node)
  }

  get snapshot() {
    const { synced } = this
    const none = new Map<string, never>()
    return {
      synced: { nodes: synced, services: synced, endpointSlices: synced },
      nodes: synced ? this.nodes : none,
      services: synced ? this.services : none,
      endpointSlices: synced ? this.endpointSlices : none,
    }
  }

  async start(touch: (owner: string) => void, signal: AbortSignal): Promise<void> {
    this.#touch = touch
    signal.addEventListener('abort', () => this.#onSync.resolve(), { once: true })
    if (this.synced) this.sync()
    await this.#onSync.promise
  }

  /** The first lists arrive. */
  sync(): void {
    this.synced = true
    for (const name of this.nodes.keys()) this.#touch(`node ${name}`)
    for (const key of this.services.keys()) this.#touch(`service ${key}`)
    this.#onSync.resolve()
  }

  put(node: NodeRecord): void {
    this.nodes.set(node.name, node)
    this.#touch(`node ${node.name}`)
  }

  remove(name: string): void {
    this.nodes.delete(name)
    this.#touch(`node ${name}`)
  }

  async ownNode(name: string): Promise<NodeRecord> {
    const node = this.nodes.get(name)
    if (!node) throw clusterError.ERR_API_UNREACHABLE({ request: 'GET', server: 'fake', found: 'nothing' })
    return node
  }

  async podNodeName(_namespace: string, pod: string): Promise<string> {
    return pod
  }

  async patchNodeStatus(name: string, patch: NodePatch): Promise<void> {
    if (this.refusePatches) throw new Error('the server is busy')
    this.patches.push({ node: name, patch })
    const node = this.nodes.get(name)!
    const annotations = Object.entries(patch.metadata?.annotations ?? {}).map(([key, value]) => [key.slice(PREFIX.length), value])
    const condition = patch.status?.conditions.find(({ type }) => type === 'NetworkUnavailable')
    this.put({
      ...node,
      annotations: { ...node.annotations, ...Object.fromEntries(annotations) },
      ...(condition && { networkUnavailable: condition.status }),
    })
  }

  async event(event: NodeEvent): Promise<'sent'> {
    this.events.push(event)
    return 'sent'
  }
}

export interface World {
  readonly cluster: FakeCluster
  readonly kernel: Kernel
  readonly node: string
  readonly argv?: readonly string[]
  readonly netConf?: object
  readonly log?: Log
  readonly clock?: Clock
  /** Told of each step that others can see, in order. */
  readonly onStep?: (step: string) => void
  /** Told what the service manager is told. */
  readonly onNotify?: (state: string) => void
  /** Directory of the agent's files. */
  readonly dir: string
}

/** Parts of an agent in `world`; the CNI door only counts. */
export function agentParts(world: World): AgentParts {
  const { kernel, cluster, dir } = world
  const flags = parseCommandLine(['--kube-subnet-mgr', '--ip-masq', `--subnet-file=${dir}/subnet.env`, ...(world.argv ?? [])], {}).flags
  return {
    flags,
    conf: parseNetConf(
      JSON.stringify(world.netConf ?? { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } }),
      'net-conf.json',
      backends,
    ),
    prefix: PREFIX,
    env: { NODE_NAME: world.node },
    log: world.log ?? silentLog,
    clock: world.clock ?? systemClock,
    cluster,
    openKernel: async () => kernel,
    openDoor: async () => {
      world.onStep?.('door')
      return { count: () => 0, close: async () => {} }
    },
    conflist: { kind: 'file', path: `${dir}/10-flannel.conflist`, content: STOCK_CONFLIST, mode: 0o644 },
    notify: (state) => world.onNotify?.(state),
    sinceExecMs: () => 1,
  }
}

/** Waits until `check` gives something else than undefined or false. @throws after `ms`, with `what`. */
export async function until<T>(what: string, check: () => T | undefined | false | Promise<T | undefined | false>, ms = 5000): Promise<T> {
  const end = performance.now() + ms
  for (;;) {
    const value = await check()
    if (value !== undefined && value !== false) return value
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The fake kernel, told on: each op that it takes is reported, and some can be refused by choice. */
export class TestKernel extends FakeKernel {
  /** The reason to refuse an op, or undefined to let it pass. */
  refuses: (op: Op) => string | undefined = () => undefined
  onOp: (op: Op) => void = () => {}

  override async apply(ops: readonly Op[]): Promise<Outcome[]> {
    const outcomes: Outcome[] = []
    for (const op of ops) {
      const reason = this.refuses(op)
      if (reason !== undefined) outcomes.push({ op, error: new Error(reason) })
      else {
        this.onOp(op)
        outcomes.push(...(await super.apply([op])))
      }
    }
    return outcomes
  }
}
