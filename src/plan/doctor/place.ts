/** Which node this is and what it should be, from whoever knows: the agent, else files, else the kernel. */
import type { LinkItem } from '#model/kernel.ts'
import { addressOf, canonicalNetwork } from '#net/ip.ts'
import { vtepMac } from '#plan/backends/vxlan.ts'
import type { ClusterNode, Facts } from '#plan/doctor/facts.ts'
import { leasesOf } from '#plan/leases.ts'

export interface Place {
  readonly node: string
  readonly network?: string
  readonly subnet?: string
  /** The tunnel device; absent with backends that have none. */
  readonly tunnel?: LinkItem
  /** Its name by the agent's word, also while the device is not there. */
  readonly tunnelName?: string
  readonly uplink?: { readonly name: string; readonly address: string; readonly mtu: number }
  /** The MTU that pods get. */
  readonly podMtu?: number
  readonly internalIPs: readonly string[]
  readonly peers: readonly Peer[]
}

export interface Peer {
  readonly node: string
  readonly subnet: string
  readonly publicIp: string
  /** Its VTEP's, as announced; unknown without a kubeconfig. */
  readonly mac?: string
}

export function placeOf(facts: Facts): Place {
  const { status, kernel, files, host, cluster, hostname } = facts
  const node = status?.node?.name ?? hostname
  const tunnel = kernel.links.find(
    (link) => link.type === 'vxlan' && (status?.backend === undefined || status.backend.device === link.name),
  )
  const tunnelName = status?.backend ? status.backend.device : tunnel?.name
  const own = cluster?.nodes.find(({ name }) => name === node)
  const env = files.subnetEnv
  const subnet = status?.lease?.subnet ?? (env && canonicalNetwork(env.subnet)) ?? own?.podCIDRs[0]
  const network = status?.lease?.network ?? env?.network
  const name = status?.interface?.name ?? tunnel?.vxlan?.uplink
  const link = host.links.find((one) => one.name === name)
  const address = status?.interface?.address ?? tunnel?.vxlan?.local ?? host.addresses.find((a) => a.dev === name)?.cidr
  const podMtu = env?.mtu ?? status?.backend?.mtu ?? tunnel?.mtu
  return {
    node,
    ...(network !== undefined && { network }),
    ...(subnet !== undefined && { subnet }),
    ...(tunnel && { tunnel }),
    ...(tunnelName !== undefined && { tunnelName }),
    ...(link && address !== undefined && { uplink: { name: link.name, address: plain(address), mtu: link.mtu } }),
    ...(podMtu !== undefined && { podMtu }),
    internalIPs: status?.node?.internalIPs ?? own?.internalIPs ?? [],
    peers: cluster ? cluster.nodes.filter(({ name }) => name !== node).flatMap(peerOf) : (status?.peers ?? []),
  }
}

const plain = (address: string): string => (address.includes('/') ? addressOf(address) : address)

function peerOf(node: ClusterNode): Peer[] {
  return leasesOf(node, [4]).leases.map(({ subnet, publicIp, backendData }) => {
    const mac = vtepMac(backendData)
    return { node: node.name, subnet, publicIp, ...(mac !== undefined && { mac }) }
  })
}
