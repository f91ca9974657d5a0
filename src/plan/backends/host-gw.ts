/**
 * host-gw: no tunnel. A peer's pod CIDR is routed to the peer itself, which passes it on to its pods; frames carry pod addresses.
 *     10.244.2.0/24 via 192.168.10.102 dev eth1
 * A gateway must be a neighbor: with a router between, that router would get packets for pods it has never heard of.
 * @module
 */
import type { Lease } from '#model/cluster.ts'
import { type RouteItem, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { BackendType, Fault, Self } from '#plan/backends/backend.ts'
import { deviceOnLink, type Way } from '#plan/ways.ts'

const type = 'host-gw'

export const hostGw: BackendType = {
  type,
  configure: () => ({
    type,
    announcedType: type,
    device: () => undefined,
    mtu: (self) => self.uplink.mtu,
    data: () => 'null',
    unfit: behindNat,
    own: () => [],
    fault: offLink,
    peer: (self, lease) => [routeBy(self.uplink.name, lease)],
  }),
}

/** The route to a peer that is on link of `dev`. */
export function routeBy(dev: string, lease: Lease): RouteItem {
  return { kind: 'route', dst: lease.subnet, via: lease.publicIp, dev, protocol: TWILL_ROUTE_PROTOCOL }
}

/** Peers would route to an address that is not ours. */
function behindNat({ uplink }: Self): Fault | undefined {
  if (uplink.publicIp === uplink.address) return undefined
  return {
    id: 'host-gw-behind-nat',
    text: `The public IP ${uplink.publicIp} is not the address of ${uplink.name} (${uplink.address}): with NAT between, peers cannot route to this node`,
    remedy: 'Leave --public-ip and the annotation node-public-ip out, or set Backend.Type to vxlan in net-conf.json.',
  }
}

function offLink(self: Self, { node, publicIp }: Lease): Fault | undefined {
  const { name, address } = self.uplink
  const way = self.wayTo(publicIp)
  if (deviceOnLink(way) === name) return undefined
  return {
    id: 'peer-not-on-link',
    text: `${node} (${publicIp}) is not on link of ${name} (${address}), ${told(way)}: host-gw cannot reach its pods`,
    remedy: way?.local
      ? 'Every node needs a public IP of its own: see the finding duplicate-public-ip.'
      : `Bring ${node} into the network of ${name}, or let it announce an address there (its --iface, or the annotation public-ip-overwrite). ` +
        'If a router must stay between them: Backend {"Type": "vxlan", "DirectRouting": true} in net-conf.json routes where it can and tunnels where it must.',
  }
}

function told(way: Way | undefined): string {
  if (way === undefined) return 'there is no route to it'
  if (way.local) return 'it is an address of this node'
  return `the way is by ${way.via === undefined ? '' : `${way.via} on `}${way.dev}`
}
