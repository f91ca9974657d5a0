/** What is wrong with this node's kernel settings and devices. */
import type { Diagnosis } from '#model/doctor.ts'
import { TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import { addressOf } from '#net/ip.ts'
import { diagnosis, word } from '#plan/doctor/diagnosis.ts'
import type { Facts } from '#plan/doctor/facts.ts'
import type { Place } from '#plan/doctor/place.ts'

const BRIDGE = 'cni0'
/** Of a vxlan packet around the pod's: 20 IP, 8 UDP, 8 VXLAN, 14 Ethernet. */
const VXLAN_OVERHEAD_BYTES = 50

/** Sysctls that these checks read, for the devices there are. */
export const sysctlsOf = (devices: readonly string[]): string[] => [
  'net/ipv4/ip_forward',
  'net/bridge/bridge-nf-call-iptables',
  'net/ipv4/conf/all/rp_filter',
  ...devices.flatMap((dev) => [`net/ipv4/conf/${dev}/forwarding`, `net/ipv4/conf/${dev}/rp_filter`]),
]

/** `sysctl -w` with slashes: a device name keeps its dots. */
const set = (path: string, value: string): string => `sysctl -w ${word(`${path}=${value}`)}`

export function forwardingOff({ kernel: { sysctls } }: Facts, { node, tunnel, uplink }: Place): Diagnosis[] {
  const all = sysctls['net/ipv4/ip_forward'] === '0'
  const devices = [tunnel?.name, uplink?.name, BRIDGE].flatMap((dev) => (dev === undefined ? [] : [`net/ipv4/conf/${dev}/forwarding`]))
  const off = all ? ['net/ipv4/ip_forward'] : devices.filter((path) => sysctls[path] === '0')
  return off.map((path) =>
    diagnosis('ip-forward-off', {
      subject: `node ${node}`,
      where: `sysctl ${path}`,
      text: `${path} is 0, it must be 1`,
      remedy: 'Set it, and look in /etc/sysctl.d for who turns it off at boot.',
      fix: [set(path, '1')],
    }),
  )
}

export function uplinkDown({ host }: Facts, { node, uplink }: Place): Diagnosis[] {
  if (!uplink || host.links.find(({ name }) => name === uplink.name)?.up !== false) return []
  return [
    diagnosis('interface-down', {
      subject: `node ${node}`,
      where: `link ${uplink.name}`,
      text: `${uplink.name}, the interface to the other nodes, is down`,
      remedy: 'Set it up. Routes that somebody added through it by hand must be added again.',
      fix: [`ip link set dev ${word(uplink.name)} up`],
    }),
  ]
}

export function bridgeUnseen({ kernel: { sysctls } }: Facts, { node }: Place): Diagnosis[] {
  const path = 'net/bridge/bridge-nf-call-iptables'
  const common = { subject: `node ${node}`, where: `sysctl ${path}` }
  if (sysctls[path] === undefined) {
    return [
      diagnosis('br-netfilter-missing', {
        ...common,
        text: `There is no ${path}: the module br_netfilter is not loaded`,
        remedy: 'Load it, and have it loaded at boot: echo br_netfilter > /etc/modules-load.d/k8s.conf',
        fix: ['modprobe br_netfilter'],
      }),
    ]
  }
  if (sysctls[path] !== '0') return []
  return [
    diagnosis('bridge-nf-off', {
      ...common,
      text: `${path} is 0, it must be 1`,
      remedy: 'Set it, and look in /etc/sysctl.d for who turns it off at boot.',
      fix: [set(path, '1')],
    }),
  ]
}

/** Strict filtering only hurts where the way back to a source is not the interface that its packets come in by. */
export function strictReversePath({ kernel: { sysctls, routes } }: Facts, { node, tunnel, uplink, subnet, peers }: Place): Diagnosis[] {
  const expected = [
    ...(uplink ? peers.map((peer) => ({ dev: uplink.name, source: peer.publicIp })) : []),
    ...(tunnel ? peers.map((peer) => ({ dev: tunnel.name, source: hostIn(peer.subnet) })) : []),
    ...(subnet === undefined ? [] : [{ dev: BRIDGE, source: hostIn(subnet) }]),
  ]
  const strict = (dev: string): boolean =>
    Math.max(Number(sysctls['net/ipv4/conf/all/rp_filter'] ?? 0), Number(sysctls[`net/ipv4/conf/${dev}/rp_filter`] ?? 0)) === 1
  const hurt = expected.filter(({ dev, source }) => strict(dev) && routes[source] !== undefined && routes[source].dev !== dev)
  return [...new Set(hurt.map(({ dev }) => dev))].map((dev) => {
    const { source } = hurt.find((one) => one.dev === dev)!
    const path = `net/ipv4/conf/${dev}/rp_filter`
    return diagnosis('rp-filter-strict', {
      subject: `node ${node}`,
      where: `sysctl ${path}`,
      text: `Packets from ${source} come in by ${dev}, the route back to it leaves by ${routes[source]!.dev}: rp_filter 1 (strict) drops them`,
      remedy: 'Loose filtering (2) accepts a source that any interface leads to. Or mend the route, if it is not meant.',
      fix: [set(path, '2')],
    })
  })
}

/** Addresses whose routes `strictReversePath` asks about. */
export const sourcesOf = ({ subnet, peers }: Place): string[] => [
  ...peers.flatMap((peer) => [peer.publicIp, hostIn(peer.subnet)]),
  ...(subnet === undefined ? [] : [hostIn(subnet)]),
]

/** Some host of a subnet: 10.244.1.254 of 10.244.1.0/24. It need not exist. */
const hostIn = (subnet: string): string => subnet.replace(/\.\d+\/\d+$/, '.254')

/**
 * The tunnel must fit into the uplink, and what new pods are told into the tunnel. Pods that still have a larger MTU are no fault: the
 * tunnel's says so to them by ICMP. (Their host ends alone must not be lowered: what they send would vanish there.)
 */
export function mtuMismatch({ files }: Facts, { node, tunnel, uplink }: Place): Diagnosis[] {
  if (!tunnel || !uplink) return []
  const fits = uplink.mtu - VXLAN_OVERHEAD_BYTES
  const room = `${uplink.name} has MTU ${uplink.mtu}, which leaves ${fits} for a pod's packet in the tunnel`
  const remedy = `Lower it. If ${uplink.name} should carry more, raise that instead, on every node and on the switch between, and restart the agents.`
  const found: Diagnosis[] = []
  if ((tunnel.mtu ?? 0) > fits) {
    const text = `${tunnel.name} has MTU ${tunnel.mtu}; ${room}`
    const fix = [`ip link set dev ${tunnel.name} mtu ${fits}`]
    found.push(diagnosis('mtu-mismatch', { subject: `node ${node}`, where: `link ${tunnel.name}`, text, remedy, fix }))
  }
  if (files.subnetEnv && files.subnetEnv.mtu > fits) {
    const { path, mtu } = files.subnetEnv
    const text = `New pods are told MTU ${mtu}; ${room}`
    const fix = [`sed -i s/^FLANNEL_MTU=.*/FLANNEL_MTU=${fits}/ ${path}`]
    found.push(diagnosis('mtu-mismatch', { subject: `node ${node}`, where: path, text, remedy, fix }))
  }
  return found
}

/** Packets to a peer's pods go into the tunnel, or straight to the peer (host-gw, DirectRouting); anything else leads astray. */
export function missingRoutes({ kernel: { routes } }: Facts, { node, tunnel, tunnelName, uplink, subnet, peers }: Place): Diagnosis[] {
  if (!uplink || subnet === undefined) return []
  return peers.flatMap((peer) => {
    const way = routes[hostIn(peer.subnet)]
    if (way?.via === peer.publicIp || (way !== undefined && way.dev === tunnelName) || peer.subnet === subnet) return []
    const found = way === undefined ? 'is dropped' : `leaves by ${way.dev}${way.via === undefined ? '' : ` via ${way.via}`}`
    const wanted = tunnelName
      ? `via ${addressOf(peer.subnet)} dev ${word(tunnelName)} onlink`
      : `via ${peer.publicIp} dev ${word(uplink.name)}`
    return [
      diagnosis('missing-route', {
        subject: `peer ${peer.node}`,
        where: `the routing table of ${node}`,
        text: `What is sent to ${peer.subnet}, the pods of ${peer.node}, ${found}`,
        remedy: 'A running agent puts this right by itself: if it does not, see the findings about the agent.',
        // Without its device a tunnel's route cannot be put by hand, and the way beside the tunnel would be a wrong one.
        fix: tunnelName && !tunnel ? [] : [`ip route replace ${peer.subnet} ${wanted} proto ${TWILL_ROUTE_PROTOCOL}`],
      }),
    ]
  })
}

export function staleVteps({ kernel }: Facts, { node, tunnel, peers }: Place): Diagnosis[] {
  if (!tunnel) return []
  return peers.flatMap(({ node: peer, subnet, publicIp, mac }) => {
    const direct = kernel.routes[hostIn(subnet)]?.via === publicIp
    if (mac === undefined || direct) return []
    const ip = addressOf(subnet)
    const neighbor = kernel.neighbors.find((one) => one.ip === ip && one.dev === tunnel.name)
    const entry = kernel.fdb.find((one) => one.mac === mac && one.dev === tunnel.name)
    const wrongNeighbor = neighbor?.mac !== mac
    const wrongEntry = entry?.vtep !== publicIp
    if (!wrongNeighbor && !wrongEntry) return []
    const seen = [
      ...(wrongNeighbor ? [`neighbor ${ip} has ${neighbor?.mac ?? 'no MAC'}, ${peer} announces ${mac}`] : []),
      ...(wrongEntry ? [`FDB entry ${mac} leads to ${entry?.vtep ?? 'nowhere'}, ${peer} announces ${publicIp}`] : []),
    ]
    return [
      diagnosis('stale-vtep', {
        subject: `peer ${peer}`,
        where: `${tunnel.name} on ${node}`,
        text: seen.join('; '),
        remedy: 'A running agent puts this right by itself: if it does not, see the findings about the agent.',
        fix: [
          ...(wrongNeighbor ? [`ip neigh replace ${ip} lladdr ${mac} dev ${tunnel.name} nud permanent`] : []),
          ...(wrongEntry ? [`bridge fdb replace ${mac} dev ${tunnel.name} dst ${publicIp} self permanent`] : []),
        ],
      }),
    ]
  })
}
