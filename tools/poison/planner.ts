/** The way of an object from the API's JSON to what is wanted of the kernel, without sockets and time: stores and planners as the agent has them. */
import { decodeEndpointSlice, decodeNode, decodeService } from '#cluster/decode.ts'
import { KindStore } from '#cluster/store.ts'
import { parseNetConf } from '#config/net-conf.ts'
import { parseCommandLine } from '#config/parse.ts'
import { Plans } from '#daemon/plans.ts'
import type { EndpointSlice, Finding, NodeRecord, Service } from '#model/cluster.ts'
import { type HostView, type Item, show } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'
import { Desired } from '#plan/desired.ts'
import { selfOf, vagrantHost } from '#plan/testing.ts'
import { type Json, type KindName, OWN, OWN_IP, OWN_SUBNET, PREFIX, sound } from './objects.ts'

export type BackendKeys = { readonly Type: string; readonly DirectRouting?: boolean }

/** Remembers who wants what. */
class Recorder extends Desired {
  readonly items = new Map<string, readonly Item[]>()

  override setOwner(owner: string, items: readonly Item[], since?: string): void {
    if (items.length > 0) this.items.set(owner, items)
    else this.items.delete(owner)
    super.setOwner(owner, items, since)
  }
}

/** Owners that nobody poisons. */
const healthy = /^(node|masq|bridge-filter|(peer |service default\/)healthy-\d+|service default\/kubernetes)$/

export class Planner {
  readonly #stores: Readonly<Record<KindName, KindStore<unknown>>>
  readonly #nodes: KindStore<NodeRecord>
  readonly #services: KindStore<Service>
  readonly #slices: KindStore<EndpointSlice>
  readonly #rung = new Set<string>()
  readonly #desired = new Recorder()
  readonly #plans: Plans
  readonly type: string

  /** The sound cluster, planned. */
  constructor(backend: BackendKeys, host: HostView = vagrantHost) {
    this.type = backend.Type
    const touch = (owner: string): void => void this.#rung.add(owner)
    this.#nodes = new KindStore(
      { name: 'nodes', noun: 'node', path: '', query: {}, decode: (raw) => decodeNode(raw, PREFIX), owner: ({ name }) => `node ${name}` },
      touch,
    )
    this.#services = new KindStore(
      {
        name: 'services',
        noun: 'service',
        path: '',
        query: {},
        decode: decodeService,
        owner: ({ namespace, name }) => `service ${namespace}/${name}`,
      },
      touch,
    )
    this.#slices = new KindStore(
      {
        name: 'endpointSlices',
        noun: 'endpointslice',
        path: '',
        query: {},
        decode: decodeEndpointSlice,
        owner: (one) => `service ${one.namespace}/${one.service}`,
      },
      touch,
    )
    this.#stores = { nodes: this.#nodes, services: this.#services, endpointSlices: this.#slices } as never
    const conf = parseNetConf(JSON.stringify({ Network: '10.244.0.0/16', Backend: backend }), 'net-conf.json', backends)
    const { flags } = parseCommandLine(['--kube-subnet-mgr', '--ip-masq', '--services'], {})
    const self = selfOf({ node: OWN, subnet: OWN_SUBNET, local: OWN_IP, mac: '02:00:00:00:00:01' })
    this.#plans = new Plans({ self, host, conf, flags, desired: this.#desired })
    this.#plans.planNode()
    for (const [kind, objects] of Object.entries(sound)) {
      const list = this.#stores[kind as KindName].beginList()
      for (const object of objects) list.add(this.#translated(object))
      list.finish('5')
    }
    this.#plan()
  }

  put(kind: KindName, object: Json): void {
    this.#stores[kind].put(this.#translated(object))
    this.#plan()
  }

  delete(kind: KindName, object: Json): void {
    this.#stores[kind].delete(object)
    this.#stores[kind].bad.delete('?') // the next list would
    this.#plan()
  }

  /** Nodes announce vxlan: here they speak this planner's backend. */
  #translated(object: Json): Json {
    const meta = object.metadata as { annotations?: Json }
    const key = `${PREFIX}backend-type`
    if (meta.annotations?.[key] !== 'vxlan') return object
    return { ...object, metadata: { ...meta, annotations: { ...meta.annotations, [key]: this.type } } }
  }

  #plan(): void {
    const synced = { nodes: true, services: true, endpointSlices: true }
    const snapshot = { synced, nodes: this.#nodes.records, services: this.#services.records, endpointSlices: this.#slices.records }
    this.#plans.plan(this.#rung, snapshot, true)
    this.#rung.clear()
    this.#plans.reportKernel({ refusals: [], feuds: [], passError: undefined })
  }

  get findings(): Finding[] {
    return [...this.#plans.faults.list(), ...Object.values(this.#stores).flatMap((store) => [...store.bad.values()])]
  }

  /** What healthy objects get: what they want, less what is given to another. */
  healthy(): Map<string, string[]> {
    const owners = [...this.#desired.items].filter(([owner]) => healthy.test(owner))
    for (const { key, losers } of this.#desired.conflicts()) {
      const loser = losers.find((owner) => healthy.test(owner))
      if (loser !== undefined) throw new Error(`${loser} lost ${key}`)
    }
    return new Map(owners.map(([owner, items]) => [owner, items.map(show).toSorted()]))
  }
}
