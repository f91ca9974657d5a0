/** One peer node: what it needs in our kernel, and what is wrong with it. An event for one node costs that node only. */
import type { Finding, Lease, NodeRecord } from '#model/cluster.ts'
import type { Item } from '#model/kernel.ts'
import { contains, parseCidr } from '#net/ip.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { leasesOf, outsideNetwork } from '#plan/leases.ts'

export interface PeerPlan {
  readonly items: readonly Item[]
  readonly findings: readonly Finding[]
  /** What the node announces, whether it can be served or not; our own node's too. */
  readonly lease?: Lease
}

/** Plans one node of the snapshot. Our own node gives no items, only its lease. */
export function planPeer(self: Self, backend: Backend, node: NodeRecord): PeerPlan {
  const { leases, findings } = leasesOf(node, [self.family])
  const lease = leases[0]
  if (lease === undefined) return { items: [], findings }
  if (node.name === self.node) return { items: [], findings, lease }
  const fault = faultOf(self, backend, lease)
  return fault ? { items: [], findings: [...findings, fault], lease } : { items: backend.peer(self, lease), findings, lease }
}

function faultOf(self: Self, backend: Backend, lease: Lease): Finding | undefined {
  const subject = `node ${lease.node}`
  if (lease.backendType !== backend.announcedType) {
    return {
      id: 'other-backend',
      severity: 'warning',
      subject,
      text: `${lease.node} speaks backend "${lease.backendType}", this node "${backend.announcedType}": no traffic between their pods`,
      remedy: `If a change of Backend.Type is under way, finish it: restart the agent on ${lease.node}. Otherwise compare net-conf.json on both.`,
    }
  }
  const outside = outsideNetwork(lease.node, lease.subnet, self.network)
  if (outside) return outside
  // A route for it would lie over our own bridge's.
  const [ours, theirs] = [parseCidr(self.subnet)!, parseCidr(lease.subnet)!]
  if (contains(ours, theirs) || contains(theirs, ours)) {
    return {
      id: 'podcidr-overlap',
      severity: 'error',
      subject,
      text: `Pod CIDR ${lease.subnet} of ${lease.node} overlaps ${self.subnet} of this node: its pods are not reachable from here`,
      remedy: `Delete and re-create one of the two Node objects, so that kube-controller-manager gives it a pod CIDR of its own.`,
    }
  }
  const fault = backend.fault(self, lease)
  return fault && { severity: 'error', subject, ...fault }
}
