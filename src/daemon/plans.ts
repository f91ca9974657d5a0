/** Who was touched, into what is wanted: calls the planner of each owner and keeps the findings. An event costs its own owner only. */
import type { Flags } from '#config/flags.ts'
import type { NetConf } from '#config/net-conf.ts'
import type { Refusal } from '#daemon/steward.ts'
import type { EndpointSlice, Finding, Service, Snapshot } from '#model/cluster.ts'
import type { HostView } from '#model/kernel.ts'
import type { PeerStatus } from '#model/status.ts'
import { addressOf, familyOf, prefixOf } from '#net/ip.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { bridgeFilter } from '#plan/bridge-filter.ts'
import type { Desired } from '#plan/desired.ts'
import type { Feud } from '#plan/feuds.ts'
import { Faults } from '#plan/findings.ts'
import { alternatives } from '#plan/interface.ts'
import { masqItems } from '#plan/masq.ts'
import { nodeItems } from '#plan/node.ts'
import { Overlaps } from '#plan/overlaps.ts'
import { overlapOf, type PeerPlan, planPeer } from '#plan/peers.ts'
import { affinitiesOf, endpointCount, serviceFindings, serviceItems } from '#plan/service.ts'
import { fit, type Place } from '#plan/service-fit.ts'
import { type Affinity, endpointChains, serviceBase } from '#plan/services.ts'
import { type Trust, trustIn } from '#plan/sweep.ts'
import { twillTable } from '#plan/table.ts'

/** So many refusals are shown; a kernel that refuses all would fill the page. */
const MAX_REFUSALS = 20

/** What the rules must have for a service. */
interface ServiceShape {
  readonly endpoints: number
  readonly affinities: readonly Affinity[]
}

export interface KernelReport {
  readonly refusals: readonly Refusal[]
  readonly feuds: readonly Feud[]
  /** Why the last pass broke off. */
  readonly passError: string | undefined
}

export class Plans {
  /** Our nftables tables. */
  static readonly tables = [twillTable]

  readonly self: Self
  readonly backend: Backend
  readonly faults: Faults
  readonly peers = new Map<string, PeerStatus>()
  readonly #flags: Flags
  /** Which of Flannel's two modes masquerades. */
  readonly #mode: 'nftables' | 'iptables'
  readonly #place: Place
  readonly #desired: Desired
  /** Owners by kind that have been planned, with the endpoints that a service has at most. */
  readonly #planned = { node: new Set<string>(), service: new Map<string, ServiceShape>() }
  #trust: Trust = { nodes: false, services: false, pods: false }
  readonly #overlaps = new Overlaps()
  #endpoints = -1
  #affinities: ReadonlyMap<string, Affinity> = new Map()

  constructor(o: { self: Self; host: HostView; conf: NetConf<Backend>; flags: Flags; desired: Desired }) {
    const { name, why } = o.self.uplink
    this.self = o.self
    this.backend = o.conf.backend
    this.#mode = o.conf.enableNFTables ? 'nftables' : 'iptables'
    this.#flags = o.flags
    this.#place = { network: o.self.network, addresses: addressesOf(o.host) }
    this.#desired = o.desired
    this.faults = new Faults({ node: o.self.node, uplink: name, why, alternatives: alternatives(o.host, name, o.self.family) })
  }

  /** What the node wants whoever its peers are. */
  planNode(): void {
    const { network, subnet } = this.self
    const flags = this.#flags
    this.#desired.setOwner('node', nodeItems(this.self, this.backend, flags))
    this.#desired.setOwner(
      'masq',
      masqItems({
        networks: [{ network, subnet }],
        ipMasq: flags['ip-masq'],
        forwardRules: flags['iptables-forward-rules'],
        randomFully: !flags['ip-masq-fully-random-disable'],
        mode: this.#mode,
      }),
    )
    this.#planServiceBase([])
  }

  /** What the host has that is not ours to make. */
  seeHost(host: HostView): void {
    const { items, findings } = this.#flags.services
      ? bridgeFilter(this.self.node, host.bridgeFilter !== false)
      : { items: [], findings: [] }
    this.#desired.setOwner('bridge-filter', items)
    this.faults.set('bridge-filter', findings)
  }

  /**
   * Plans every owner that rang: `node NAME`, `service NS/NAME`; other rings are none of ours. When a list is whole for the first
   * time, or again, all of it is planned: no ring that came too early can leave anything out.
   * @param pods  Whether this node's own pods are known.
   * @returns  What may be deleted after this.
   */
  plan(rung: ReadonlySet<string>, snapshot: Snapshot, pods: boolean): Trust {
    const before = this.#trust
    this.#trust = trustIn(snapshot, this.self.node, this.#flags.services, pods)
    const nodes = named(rung, 'node')
    const services = named(rung, 'service')
    if (this.#trust.nodes && !before.nodes) for (const name of [...this.#planned.node, ...snapshot.nodes.keys()]) nodes.add(name)
    if (this.#trust.services && !before.services) {
      for (const name of [...this.#planned.service.keys(), ...snapshot.services.keys()]) services.add(name)
    }
    if (this.#trust.nodes) for (const name of nodes) this.#planPeer(name, snapshot)
    if (this.#trust.services && this.#flags.services) this.#planServices(services, snapshot)
    return this.#trust
  }

  #planPeer(name: string, snapshot: Snapshot): void {
    for (const other of this.#planOne(name, snapshot)) this.#planOne(other, snapshot)
  }

  /** @returns  Peers whose plan depends on this one's. */
  #planOne(name: string, snapshot: Snapshot): ReadonlySet<string> {
    const node = snapshot.nodes.get(name)
    const plan: PeerPlan = node ? planPeer(this.self, this.backend, node) : { items: [], findings: [] }
    const { lease } = plan
    const others = this.#overlaps.set(name, plan.items.length > 0 ? lease?.subnet : undefined, node?.created)
    const older = this.#overlaps.olderThan(name)
    const items = older === undefined ? plan.items : []
    const findings = older === undefined ? plan.findings : [...plan.findings, overlapOf(lease!, `that of ${older}, which is older`)]
    if (node) this.#planned.node.add(name)
    else this.#planned.node.delete(name)
    this.#desired.setOwner(`peer ${name}`, items, node?.created)
    this.faults.set(`node ${name}`, findings)
    this.faults.announce(name, lease)
    if (lease && name !== this.self.node) {
      const { subnet, publicIp, backendType } = lease
      const dev = items.find((item) => item.kind === 'route')?.dev
      this.peers.set(name, { node: name, subnet, publicIp, backendType, objects: items.length, ...(dev !== undefined && { dev }) })
    } else this.peers.delete(name)
    return others
  }

  #planServices(names: ReadonlySet<string>, snapshot: Snapshot): void {
    if (names.size === 0) return
    const slices = new Map<string, EndpointSlice[]>([...names].map((name) => [name, []]))
    for (const slice of snapshot.endpointSlices.values()) slices.get(`${slice.namespace}/${slice.service}`)?.push(slice)
    for (const [name, own] of slices) this.#planService(name, snapshot.services.get(name), own)
    this.#planServiceBase([...this.#planned.service.values()])
  }

  #planService(name: string, asked: Service | undefined, own: readonly EndpointSlice[]): void {
    if (asked === undefined) {
      this.#planned.service.delete(name)
      this.#desired.setOwner(`service ${name}`, [])
      this.faults.set(`service ${name}`, [])
      return
    }
    const { service, slices, findings } = fit(asked, own, this.#place)
    this.#planned.service.set(name, { endpoints: endpointCount(service, slices), affinities: affinitiesOf(service) })
    this.#desired.setOwner(`service ${name}`, serviceItems(service, slices, this.self.node), asked.created)
    this.faults.set(`service ${name}`, [...serviceFindings(service), ...findings])
  }

  /** Chains for so many endpoints, and memory for each kind of affinity. They only grow while the agent lives: a service that scales
   * down and up again moves no chain. */
  #planServiceBase(shapes: readonly ServiceShape[]): void {
    const endpoints = shapes.reduce((most, shape) => Math.max(most, shape.endpoints), Math.max(0, this.#endpoints))
    const affinities = new Map(this.#affinities)
    for (const affinity of shapes.flatMap((shape) => shape.affinities)) affinities.set(`${affinity.family} ${affinity.seconds}`, affinity)
    if (endpoints === this.#endpoints && affinities.size === this.#affinities.size) return
    this.#endpoints = endpoints
    this.#affinities = affinities
    this.#desired.setOwner('services', this.#flags.services ? [...serviceBase([...affinities.values()]), ...endpointChains(endpoints)] : [])
  }

  /** What the kernel refuses, and who disagree with us or among each other, as findings. */
  reportKernel({ refusals, feuds, passError }: KernelReport): void {
    const refused = refusals.slice(0, MAX_REFUSALS).map(
      ({ op, owner, error }): Finding => ({
        id: 'kernel-refused',
        severity: 'error',
        subject: owner,
        text: `The kernel refused "${op}": ${error}`,
        remedy: 'The agent tries again with growing pauses. If it stays, see the error, and whether another program keeps this object.',
      }),
    )
    const unreadable: Finding[] =
      passError === undefined
        ? []
        : [
            {
              id: 'pass-failed',
              severity: 'error',
              subject: `node ${this.self.node}`,
              text: `Could not compare the kernel with what is wanted: ${passError}`,
              remedy: 'The agent needs CAP_NET_ADMIN in the network namespace of the host. It tries again with growing pauses.',
            },
          ]
    const contested = this.#contested()
    const fought = feuds.map(
      ({ key, by, delayMs }): Finding => ({
        id: 'object-contested',
        severity: 'warning',
        subject: `node ${this.self.node}`,
        text: `Others change ${key} again and again (${by.join(', ') || 'by processes that the kernel does not name'}); it is put right ${delayMs > 0 ? 'with growing pauses' : 'each time'}`,
        remedy:
          'See `twill status` for how often, and stop that program or keep it from this object: another pod network, or a network manager of the host.',
      }),
    )
    this.faults.set('kernel', [...unreadable, ...refused, ...contested, ...fought])
  }

  /** One finding for all that a loser does not get from a winner. */
  #contested(): Finding[] {
    const pairs = Map.groupBy(this.#desired.conflicts(), ({ winner, losers }) => [winner, ...losers].join(' and '))
    return [...pairs].map(([both, [first, ...more]]): Finding => {
      const { key, winner, losers } = first!
      const rest = more.length === 0 ? '' : ` and ${more.length} more`
      return {
        id: 'claimed-twice',
        severity: 'warning',
        subject: losers[0]!,
        text: `${both} need ${key}${rest}, with other values: ${winner} has it, which is older or the first by name`,
        remedy: 'Two nodes announce the same address or MAC, or two services have one address or node port: give the newer another.',
      }
    })
  }
}

/** By which the node is reached. An address without a subnet may be a service's own, as kube-proxy and node-local DNS hold them. */
const addressesOf = ({ addresses }: HostView): ReadonlySet<string> =>
  new Set(addresses.filter(({ cidr }) => prefixOf(cidr) < (familyOf(cidr) === 4 ? 32 : 128)).map(({ cidr }) => addressOf(cidr)))

/** The names of one kind of owner among `rung`. */
const named = (rung: ReadonlySet<string>, kind: string): Set<string> =>
  new Set([...rung].flatMap((owner) => (owner.startsWith(`${kind} `) ? [owner.slice(kind.length + 1)] : [])))
