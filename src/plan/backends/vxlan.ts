/**
 * vxlan: every node is one VTEP. The next hop of a peer's pod CIDR is the peer's own device address (.0 of its pod CIDR), which
 * exists on no wire: a permanent neighbor gives its MAC, a permanent FDB entry gives that MAC's node.
 *     inner Ethernet frame in VXLAN (8 bytes) in UDP (8) in IPv4 (20): with the inner Ethernet header (14) 50 bytes over the pod's MTU
 * @module
 */
import type { NetConf } from '#config/net-conf.ts'
import type { Lease } from '#model/cluster.ts'
import { type Item, type LinkItem, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { addressOf } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'

const OVERHEAD_BYTES = 50

const deviceName = (conf: NetConf): string => `flannel.${conf.vxlan.vni}`
const podMtu = (self: Self): number => (self.conf.vxlan.mtu ?? self.uplink.mtu) - OVERHEAD_BYTES

function device(self: Self): LinkItem {
  const { vni, port, learning, gbp } = self.conf.vxlan
  const vxlan = { vni, port, local: self.local, uplink: self.uplink.name, learning, gbp }
  return { kind: 'link', name: deviceName(self.conf), type: 'vxlan', up: true, mac: self.mac, mtu: podMtu(self), vxlan }
}

/** The MAC in backend data (`{"VNI":1,"VtepMAC":"…"}`, keys in any case, VNI may be missing), or undefined. */
export function vtepMac(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null) return undefined
  const value = Object.entries(data).findLast(([key]) => key.toLowerCase() === 'vtepmac')?.[1]
  const bytes = typeof value === 'string' ? parseMac(value) : undefined
  return bytes && (bytes[0]! & 1) === 0 && bytes.some((b) => b !== 0) ? formatMac(bytes) : undefined
}

export const vxlan: Backend = {
  type: 'vxlan',
  announcedType: 'vxlan',
  device: deviceName,
  mtu: podMtu,
  data: (self) => `{"VNI":${self.conf.vxlan.vni},"VtepMAC":"${self.mac}"}`,

  own(self) {
    const dev = deviceName(self.conf)
    return [
      device(self),
      { kind: 'sysctl', path: `net/ipv6/conf/${dev}/accept_ra`, value: '0' },
      { kind: 'address', dev, cidr: `${addressOf(self.subnet)}/${self.family === 4 ? 32 : 128}` },
    ]
  },

  problem: (lease: Lease) =>
    vtepMac(lease.backendData) === undefined ? `its backend-data ${JSON.stringify(lease.backendData)} holds no VtepMAC` : undefined,

  peer(self, lease): Item[] {
    const direct = self.conf.vxlan.directRouting ? self.directDevice(lease.publicIp) : undefined
    if (direct !== undefined) {
      return [{ kind: 'route', dst: lease.subnet, via: lease.publicIp, dev: direct, protocol: TWILL_ROUTE_PROTOCOL }]
    }
    const dev = deviceName(self.conf)
    const via = addressOf(lease.subnet)
    const mac = vtepMac(lease.backendData)!
    return [
      { kind: 'neighbor', dev, ip: via, mac }, // inner header: gateway IP to VTEP MAC
      { kind: 'fdb', dev, mac, vtep: lease.publicIp }, // outer header: VTEP MAC to node IP
      { kind: 'route', dst: lease.subnet, via, dev, onlink: true, protocol: TWILL_ROUTE_PROTOCOL },
    ]
  },
}
