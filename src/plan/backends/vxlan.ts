/**
 * vxlan: every node is one VTEP. The next hop of a peer's pod CIDR is the peer's own device address (.0 of its pod CIDR), which
 * exists on no wire: a permanent neighbor gives its MAC, a permanent FDB entry gives that MAC's node.
 *     inner Ethernet frame in VXLAN (8 bytes) in UDP (8) in IPv4 (20): with the inner Ethernet header (14) 50 bytes over the pod's MTU
 * With DirectRouting a peer on link is routed to as host-gw does; which one it is follows the node's routes.
 * @module
 */
import { quoted } from '#base/printable.ts'
import type { Keys } from '#config/net-conf.ts'
import type { Lease } from '#model/cluster.ts'
import { type Item, type LinkItem, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { addressOf, type Family } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'
import type { Backend, BackendType, Fault, Self } from '#plan/backends/backend.ts'
import { routeBy } from '#plan/backends/host-gw.ts'
import { carriesIpv6 } from '#plan/ipv6.ts'
import { deviceOnLink } from '#plan/ways.ts'

const type = 'vxlan'
const OVERHEAD_BYTES = 50
/** What the kernel takes when Port is 0 or absent: older than the 4789 of RFC 7348. */
const KERNEL_PORT = 8472
/** The wire has 24 bits; a device's name has 15 letters, and peers on Flannel know this one as `flannel.<VNI>`. */
const MAX_VNI = 9_999_999

export const vxlan: BackendType = { type, configure: (keys) => backend(readKeys(keys)) }

interface Settings {
  readonly vni: number
  readonly port: number
  /** Of the underlay; absent = the interface's. More than the interface carries is cut to that: the kernel would do it unsaid. */
  readonly mtu: number | undefined
  readonly gbp: boolean
  readonly learning: boolean
  readonly directRouting: boolean
}

const readKeys = (keys: Keys): Settings => ({
  vni: keys.int('VNI', 0, MAX_VNI) ?? 1,
  port: keys.int('Port', 0, 65535) || KERNEL_PORT,
  mtu: readMtu(keys),
  gbp: keys.bool('GBP') ?? false,
  learning: keys.bool('Learning') ?? false,
  directRouting: keys.bool('DirectRouting') ?? false,
})

/** 0 and absent mean the interface's; a pod needs the 68 bytes that RFC 791 asks of every link. */
function readMtu(keys: Keys): number | undefined {
  const mtu = keys.int('MTU', 0, 65535) || undefined
  const least = OVERHEAD_BYTES + 68
  return mtu === undefined || mtu >= least ? mtu : keys.fail('MTU', mtu, `0, or an integer from ${least} to 65535`)
}

function backend({ directRouting, mtu, ...settings }: Settings): Backend {
  const { vni } = settings
  const device = (family: Family): string => (family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`)
  const podMtu = (self: Self): number => Math.min(mtu ?? Infinity, self.uplink.mtu) - OVERHEAD_BYTES

  function link(self: Self): LinkItem {
    const vxlan = { ...settings, local: self.local, uplink: self.uplink.name }
    return { kind: 'link', name: device(self.family), type: 'vxlan', up: true, mac: self.mac, mtu: podMtu(self), vxlan }
  }

  /** The device by which a peer is reached without the tunnel, if it may be and can be. */
  function directDevice(self: Self, publicIp: string): string | undefined {
    return directRouting ? deviceOnLink(self.wayTo(publicIp)) : undefined
  }

  function tunnel(self: Self, lease: Lease): Item[] {
    const dev = device(self.family)
    const via = addressOf(lease.subnet)
    const mac = vtepMac(lease.backendData)!
    return [
      { kind: 'neighbor', dev, ip: via, mac }, // inner header: gateway IP to VTEP MAC
      { kind: 'fdb', dev, mac, vtep: lease.publicIp }, // outer header: VTEP MAC to node IP
      { kind: 'route', dst: lease.subnet, via, dev, onlink: true, protocol: TWILL_ROUTE_PROTOCOL },
    ]
  }

  return {
    type,
    announcedType: type,
    device,
    mtu: podMtu,
    data: (self) => `{"VNI":${vni},"VtepMAC":"${self.mac}"}`,
    unfit: () => undefined,
    own(self) {
      const dev = device(self.family)
      return [
        link(self),
        ...(carriesIpv6(podMtu(self)) ? [{ kind: 'sysctl' as const, path: `net/ipv6/conf/${dev}/accept_ra`, value: '0' }] : []),
        { kind: 'address', dev, cidr: `${addressOf(self.subnet)}/${self.family === 4 ? 32 : 128}` },
      ]
    },
    fault: wrongVtepMac,
    peer(self, lease) {
      const dev = directDevice(self, lease.publicIp)
      return dev === undefined ? tunnel(self, lease) : [routeBy(dev, lease)]
    },
  }
}

/** The MAC in backend data (`{"VNI":1,"VtepMAC":"…"}`, keys in any case, VNI may be missing), or undefined. */
export function vtepMac(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null) return undefined
  const value = Object.entries(data).findLast(([key]) => key.toLowerCase() === 'vtepmac')?.[1]
  const bytes = typeof value === 'string' ? parseMac(value) : undefined
  return bytes && (bytes[0]! & 1) === 0 && bytes.some((b) => b !== 0) ? formatMac(bytes) : undefined
}

function wrongVtepMac(self: Self, { node, backendData }: Lease): Fault | undefined {
  const mac = vtepMac(backendData)
  if (mac !== undefined && mac !== self.mac) return undefined
  return {
    id: 'bad-annotation',
    text: `${node} cannot be reached by ${type}: its backend-data ${quoted(backendData)} holds ${mac === undefined ? 'no VtepMAC' : "this node's own VtepMAC"}`,
    remedy: `The agent on ${node} writes this annotation: see its log, and restart it.`,
  }
}
