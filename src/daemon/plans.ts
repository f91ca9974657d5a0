/** Who was touched, into what is wanted: calls the planner of each owner and keeps the findings. An event costs its own owner only. */
import type { Flags } from '#config/flags.ts'
import type { Refusal } from '#daemon/steward.ts'
import type { EndpointSlice, Finding, Snapshot } from '#model/cluster.ts'
import type { HostView, NftFamily } from '#model/kernel.ts'
import type { PeerStatus } from '#model/status.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import type { Desired } from '#plan/desired.ts'
import { Faults } from '#plan/findings.ts'
import { alternatives } from '#plan/interface.ts'
import { nodeItems } from '#plan/node.ts'
import { planPeer } from '#plan/peers.ts'

/** So many refusals are shown; a kernel that refuses all would fill the page. */
const MAX_REFUSALS = 20

export class Plans {
  readonly self: Self
  readonly backend: Backend
  readonly faults: Faults
  readonly peers = new Map<string, PeerStatus>()
  readonly #flags: Flags
  readonly #desired: Desired

  constructor(o: { self: Self; host: HostView; backend: Backend; flags: Flags; desired: Desired }) {
    const { name, why } = o.self.uplink
    this.self = o.self
    this.backend = o.backend
    this.#flags = o.flags
    this.#desired = o.desired
    this.faults = new Faults({ node: o.self.node, uplink: name, why, alternatives: alternatives(o.host, name, o.self.family) })
  }

  /** Our nftables tables. */
  static readonly tables: readonly { readonly family: NftFamily; readonly table: string }[] = []

  /** What the node wants whoever its peers are. */
  planNode(): void {
    this.#desired.setOwner('node', nodeItems(this.self, this.backend, this.#flags))
  }

  /** Plans every owner that rang: `node NAME`, `service NS/NAME`. Other rings are none of ours. */
  plan(rung: ReadonlySet<string>, snapshot: Snapshot): void {
    const services = new Map<string, EndpointSlice[]>()
    for (const owner of rung) {
      const [kind, name = ''] = owner.split(' ')
      if (kind === 'node') this.#planPeer(name, snapshot)
      else if (kind === 'service') services.set(name, [])
    }
    if (services.size > 0) this.#planServices(services, snapshot)
  }

  #planPeer(name: string, snapshot: Snapshot): void {
    const node = snapshot.nodes.get(name)
    const { items, findings, lease } = node ? planPeer(this.self, this.backend, node) : { items: [], findings: [] }
    this.#desired.setOwner(`peer ${name}`, items)
    this.faults.set(`node ${name}`, findings)
    this.faults.announce(name, lease)
    if (lease && name !== this.self.node) {
      const { subnet, publicIp, backendType } = lease
      this.peers.set(name, { node: name, subnet, publicIp, backendType, objects: items.length })
    } else this.peers.delete(name)
  }

  #planServices(services: Map<string, EndpointSlice[]>, snapshot: Snapshot): void {
    for (const slice of snapshot.endpointSlices.values()) services.get(`${slice.namespace}/${slice.service}`)?.push(slice)
  }

  /** What the kernel refuses and who disagree, as findings. */
  reportKernel(refusals: readonly Refusal[], passError: string | undefined): void {
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
    const contested = this.#desired.conflicts().map(
      ({ key, winner, losers }): Finding => ({
        id: 'claimed-twice',
        severity: 'warning',
        subject: winner,
        text: `${[winner, ...losers].join(' and ')} both need ${key}, with other values: ${winner} has it`,
        remedy: 'Two nodes announce the same address or MAC: see the other findings for which.',
      }),
    )
    this.faults.set('kernel', [...unreadable, ...refused, ...contested])
  }
}
