/**
 * Faults of the cluster that Flannel does not see, kept current event by event: a node's own, and values that two nodes share.
 * An event costs what it changes: the indexes hold, for each public IP and pod CIDR, who announces it.
 * @module
 */
import type { Finding, Lease } from '#model/cluster.ts'
import { type Family, familyOf } from '#net/ip.ts'

/** What this node can say about itself when it is part of a fault. */
export interface Witness {
  readonly node: string
  readonly uplink: string
  /** Why the uplink was chosen. */
  readonly why: string
  /** Other interfaces here that --iface could name. */
  readonly alternatives: readonly { readonly dev: string; readonly address: string }[]
}

export class Faults {
  readonly #witness: Witness
  readonly #own = new Map<string, readonly Finding[]>()
  readonly #leases = new Map<string, Lease>()
  readonly #publicIps = new Sharing()
  readonly #subnets = new Sharing()

  constructor(witness: Witness) {
    this.#witness = witness
  }

  /** `subject` (`node NAME`, `agent`, …) now has these findings. */
  set(subject: string, findings: readonly Finding[]): void {
    if (findings.length === 0) this.#own.delete(subject)
    else this.#own.set(subject, findings)
  }

  /** `node` now announces `lease`, or nothing. */
  announce(node: string, lease: Lease | undefined): void {
    const before = this.#leases.get(node)
    if (before) {
      this.#publicIps.drop(before.publicIp, node)
      this.#subnets.drop(before.subnet, node)
      this.#leases.delete(node)
    }
    if (lease) {
      this.#publicIps.add(lease.publicIp, node)
      this.#subnets.add(lease.subnet, node)
      this.#leases.set(node, lease)
    }
  }

  /** All that is wrong now: errors first, then by subject. */
  list(): Finding[] {
    const found = [
      ...[...this.#own.values()].flat(),
      ...this.#publicIps.shared().map(([ip, nodes]) => this.#duplicatePublicIp(ip, nodes)),
      ...this.#subnets.shared().map(([subnet, nodes]) => this.#duplicatePodCidr(subnet, nodes)),
    ]
    const order = (f: Finding): string => `${f.severity === 'error' ? 0 : 1} ${f.subject} ${f.id} ${f.text}`
    return found.toSorted((a, b) => (order(a) < order(b) ? -1 : 1))
  }

  #subject(nodes: readonly string[]): string {
    return `node ${nodes.includes(this.#witness.node) ? this.#witness.node : nodes[0]}`
  }

  #duplicatePublicIp(ip: string, nodes: readonly string[]): Finding {
    const { node, uplink, why, alternatives } = this.#witness
    const family: Family = familyOf(ip)
    const text = `${and(nodes)} all announce the public IP ${ip}: packets to it reach one node at most, so their pods do not reach each other`
    const common = { id: 'duplicate-public-ip', severity: 'error', subject: this.#subject(nodes), text } as const
    const [best] = alternatives.filter((a) => familyOf(a.address) === family)
    if (!nodes.includes(node)) return { ...common, remedy: 'Run `twill status` on one of these nodes: it says which interface to name.' }
    if (best === undefined) {
      return {
        ...common,
        remedy: `Give each node an address of its own, or announce one with --public-ip or the annotation public-ip-overwrite.`,
      }
    }
    return {
      ...common,
      remedy:
        `This node took ${uplink} because ${why}. Virtual machines made by Vagrant or VirtualBox have the same NAT address there on every machine. ` +
        `Name the interface that the nodes share: add --iface=${best.dev} (here ${best.address}) to the args of the DaemonSet ` +
        '(kubectl -n kube-flannel edit ds kube-flannel-ds), and give the kubelet the same address with --node-ip.',
    }
  }

  #duplicatePodCidr(subnet: string, nodes: readonly string[]): Finding {
    return {
      id: 'duplicate-podcidr',
      severity: 'error',
      subject: this.#subject(nodes),
      text: `${and(nodes)} all have the pod CIDR ${subnet}: only one of them can be reached`,
      remedy: 'Delete and re-create all but one of these Node objects, so that kube-controller-manager gives each a pod CIDR of its own.',
    }
  }
}

/** Who announces a value, and which values have more than one announcer. */
class Sharing {
  readonly #holders = new Map<string, Set<string>>()
  readonly #shared = new Set<string>()

  add(value: string, node: string): void {
    const holders = this.#holders.get(value) ?? new Set()
    this.#holders.set(value, holders.add(node))
    if (holders.size > 1) this.#shared.add(value)
  }

  drop(value: string, node: string): void {
    const holders = this.#holders.get(value)
    holders?.delete(node)
    if (holders && holders.size < 2) this.#shared.delete(value)
    if (holders?.size === 0) this.#holders.delete(value)
  }

  shared(): [value: string, nodes: string[]][] {
    return [...this.#shared].toSorted().map((value) => [value, [...this.#holders.get(value)!].toSorted()])
  }
}

/** "a, b and c"; a long list is cut. */
function and(names: readonly string[]): string {
  const shown = names.length > 8 ? [...names.slice(0, 7), `${names.length - 7} others`] : names
  return `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`
}
