/**
 * What this node tells its peers, byte for byte as Flannel writes it, and the patch that brings the node there.
 * @module
 */
import type { NodeRecord } from '#model/cluster.ts'
import { canonicalIp } from '#net/ip.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { keysOf, MANAGED, wrongPublicIp } from '#plan/leases.ts'

/** The annotations of this node, without the prefix. */
export function announcement(self: Self, backend: Backend, node: NodeRecord): Readonly<Record<string, string>> {
  const keys = keysOf[self.family]
  return {
    [keys.data]: backend.data(self),
    'backend-type': backend.announcedType,
    [MANAGED]: 'true',
    [keys.publicIp]: overwriteOf(node, self.family) ?? self.uplink.publicIp,
  }
}

/** The annotation public-ip-overwrite: what is published in place of the public IP. Undefined if absent or no address of a host. */
export function overwriteOf(node: NodeRecord, family: 4 | 6): string | undefined {
  const text = node.annotations[keysOf[family].overwrite] ?? ''
  return wrongPublicIp(text, family) === undefined ? canonicalIp(text) : undefined
}

/** The strategic merge patch of nodes/status that gives `node` these annotations, or undefined if it has them. */
export function announcementPatch(node: NodeRecord, wanted: Readonly<Record<string, string>>, prefix: string): object | undefined {
  const changed = Object.entries(wanted).filter(([key, value]) => node.annotations[key] !== value)
  if (changed.length === 0) return undefined
  return { metadata: { annotations: Object.fromEntries(changed.map(([key, value]) => [prefix + key, value])) } }
}

/** The patch that says the network is up, which lets pods be scheduled where a cloud provider waits for it. */
export function networkAvailablePatch(now: Date): object {
  const time = now.toISOString().replace(/\.\d+Z$/, 'Z')
  return {
    status: {
      conditions: [
        {
          type: 'NetworkUnavailable',
          status: 'False',
          reason: 'FlannelIsUp',
          message: 'Flannel is running on this node',
          lastHeartbeatTime: time,
          lastTransitionTime: time,
        },
      ],
    },
  }
}
