/**
 * What an agent knows as its own, and when it may delete what nobody wants any more. A fresh agent sweeps what a dead one (or Flannel,
 * by its known names) left, but no list is trusted to delete before it is whole: an API server that answers with nothing must not cut a node off.
 * @module
 */
import type { Snapshot } from '#model/cluster.ts'
import { type HostView, type NftFamily, type Scope, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { Sweep } from '#plan/desired.ts'
import { isPodObject } from '#plan/hostports.ts'

/** Bridge of the stock conflist. Its ports, addresses and the bridge itself come and go with CNI requests, never by sweeping. */
export const POD_BRIDGE = 'cni0'

const flannelDevice = /^flannel(-v6)?\.\d+$/

/** Everything that is ours on this node. `device` is the backend's tunnel device. */
export function scopeOf(o: {
  device: string | undefined
  host: HostView
  /** subnet.env, and the conflist if it is ours to write. */
  files: readonly string[]
  sysctls: readonly string[]
  tables: readonly { family: NftFamily; table: string }[]
}): Scope {
  const tunnels = o.host.links.filter((link) => link.kind === 'vxlan' && flannelDevice.test(link.name)).map((link) => link.name)
  const devices = [...new Set([...(o.device === undefined ? [] : [o.device]), ...tunnels])]
  return {
    links: [...devices, POD_BRIDGE],
    bridges: [POD_BRIDGE],
    routeProtocol: TWILL_ROUTE_PROTOCOL,
    routeLinks: devices,
    nftTables: o.tables,
    sysctls: [...o.sysctls, `net/ipv6/conf/${POD_BRIDGE}/accept_ra`],
    files: o.files,
  }
}

/** Which lists are whole. A list of nodes that lacks this one, or of services that lacks even `kubernetes`, is not. */
export interface Trust {
  readonly nodes: boolean
  readonly services: boolean
  /** The agent knows its pods: what the last one attached has been read. */
  readonly pods: boolean
}

/** `self` is this node's name; `serving` says whether services are served at all, `pods` whether the pods are known. */
export function trustIn(snapshot: Snapshot, self: string, serving: boolean, pods: boolean): Trust {
  const { synced, nodes, services } = snapshot
  return {
    nodes: synced.nodes && nodes.has(self),
    pods,
    services: !serving || (synced.services && synced.endpointSlices && services.size > 0),
  }
}

/** What may be deleted when nobody wants it. */
export function sweepOf(trust: Trust): Sweep {
  return (item) => {
    switch (item.kind) {
      case 'route':
      case 'neighbor':
      case 'fdb':
        return trust.nodes && item.dev !== POD_BRIDGE
      case 'nft-table':
        return trust.services && trust.pods
      case 'nft-map':
      case 'nft-chain':
      case 'nft-element':
        return isPodObject(item) ? trust.pods : trust.services
      case 'flows':
        return true
      case 'link':
        return trust.nodes && flannelDevice.test(item.name)
      case 'address':
        return flannelDevice.test(item.dev)
      case 'port':
      case 'sysctl':
      case 'file':
        return false
    }
  }
}
