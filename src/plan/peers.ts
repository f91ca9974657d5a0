/** One peer node: what it needs in our kernel, and what is wrong with it. An event for one node costs that node only. */
import { quoted } from '#base/printable.ts'
import type { Finding, Lease, NodeRecord } from '#model/cluster.ts'
import type { Item } from '#model/kernel.ts'
import { contains, parseCidr, parseIp } from '#net/ip.ts'
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

/** The pod CIDR of `lease` lies over something that was there before. */
export const overlapOf = ({ node, subnet }: Lease, what: string): Finding => ({
  id: 'podcidr-overlap',
  severity: 'error',
  subject: `node ${node}`,
  text: `Pod CIDR ${subnet} of ${node} overlaps ${what}: its pods are not reachable from here`,
  remedy: 'Delete and re-create one of the two Node objects, so that kube-controller-manager gives it a pod CIDR of its own.',
})

function faultOf(self: Self, backend: Backend, lease: Lease): Finding | undefined {
  const subject = `node ${lease.node}`
  if (lease.backendType !== backend.announcedType) {
    return {
      id: 'other-backend',
      severity: 'warning',
      subject,
      text: `${lease.node} speaks backend ${quoted(lease.backendType)}, this node "${backend.announcedType}": no traffic between their pods`,
      remedy: `If a change of Backend.Type is under way, finish it: restart the agent on ${lease.node}. Otherwise compare net-conf.json on both.`,
    }
  }
  const outside = outsideNetwork(lease.node, lease.subnet, self.network)
  if (outside) return outside
  // A route for it would lie over our own bridge's, or over that of the network between the nodes.
  const [ours, theirs] = [parseCidr(self.subnet)!, parseCidr(lease.subnet)!]
  const overlapsBridge = contains(ours, theirs) || contains(theirs, ours)
  const covered = overlapsBridge ? self.subnet : [self.uplink.address, self.local].find((ip) => contains(theirs, parseIp(ip)!))
  if (covered !== undefined) return overlapOf(lease, `${covered} of this node`)
  const ends = self.wayTo(lease.publicIp)?.broadcast ? 'the broadcast address of a network here' : undefined
  const loops = contains(theirs, parseIp(lease.publicIp)!) ? `an address of its own pod CIDR ${lease.subnet}` : undefined
  const wrong = ends ?? loops
  if (wrong !== undefined) {
    return {
      id: 'bad-annotation',
      severity: 'error',
      subject,
      text: `${lease.node} announces ${lease.publicIp}, which is ${wrong}: no traffic goes to its pods`,
      remedy: `The agent on ${lease.node} writes this annotation: see its log, and restart it.`,
    }
  }
  const fault = backend.fault(self, lease)
  return fault && { severity: 'error', subject, ...fault }
}
