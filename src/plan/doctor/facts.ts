/**
 * What `twill doctor` knows before it judges: gathered at the edge (cli/doctor/), judged by pure checks.
 * Everything optional may be missing: no agent, no kubeconfig, no peer. A check says nothing about what it cannot see.
 * @module
 */
import type { NodeRecord } from '#model/cluster.ts'
import type { AddressBooks } from '#model/ipam.ts'
import type { FdbItem, HostView, LinkItem, NeighborItem } from '#model/kernel.ts'
import type { StatusDocument } from '#model/status.ts'

export interface Facts {
  readonly hostname: string
  /** Of this command. */
  readonly version: string
  readonly host: HostView
  readonly agent: AgentFacts
  /** What the agent says, if it answers. */
  readonly status?: StatusDocument
  readonly kernel: KernelFacts
  readonly files: FileFacts
  /** Absent without a kubeconfig; `trouble` when the API could not be asked. */
  readonly cluster?: ClusterFacts
  readonly trouble?: ApiTrouble
  readonly probes: readonly PeerProbe[]
  readonly forwarding?: Forwarding
}

export interface AgentFacts {
  readonly state: 'answers' | 'absent' | 'silent'
  /** The agent's process on this node, found in /proc. */
  readonly process?: { readonly pid: number; readonly stopped: boolean }
}

export interface KernelFacts {
  /** Tunnel devices and bridges of the pod network, as they are. */
  readonly links: readonly LinkItem[]
  readonly neighbors: readonly NeighborItem[]
  readonly fdb: readonly FdbItem[]
  /** By path below /proc/sys; absent where there is none. */
  readonly sysctls: Readonly<Record<string, string>>
  /** What a route lookup gives for each address that was asked about. */
  readonly routes: Readonly<Record<string, { readonly dev: string; readonly via?: string }>>
}

export interface FileFacts {
  readonly subnetEnv?: { readonly path: string; readonly network: string; readonly subnet: string; readonly mtu: number }
  readonly confDir: string
  /** Names in the runtime's directory that it would read, in its order. */
  readonly confs: readonly { readonly name: string; readonly network: string; readonly plugins: readonly string[] }[]
  readonly binDir: string
  /** Executables there. */
  readonly plugins: readonly string[]
  readonly addresses: AddressBooks
  /** The kubelet's flags file as kubeadm writes it. */
  readonly kubelet?: { readonly path: string; readonly nodeIp?: string }
  /** Programs of this machine that a fix could use. */
  readonly programs: readonly string[]
}

export interface ClusterFacts {
  readonly nodes: readonly ClusterNode[]
  /** The DaemonSet that runs the agents. */
  readonly agents?: AgentSet
  /** Other pod networks, by their DaemonSets. */
  readonly others: readonly { readonly namespace: string; readonly name: string; readonly what: string }[]
  readonly policies: readonly { readonly namespace: string; readonly name: string; readonly acknowledged: boolean }[]
  /** The API server's clock minus ours, in milliseconds. */
  readonly clockSkewMs?: number
}

export interface ClusterNode extends NodeRecord {
  readonly ready: boolean
  /** ISO 8601. */
  readonly createdAt: string
}

export interface AgentSet {
  readonly namespace: string
  readonly name: string
  readonly image: string
  readonly args: readonly string[]
  /** A changed template reaches a node only when its pod is deleted. */
  readonly onDelete: boolean
  readonly pods: readonly { readonly name: string; readonly node: string; readonly image: string }[]
  /** Where net-conf.json comes from. */
  readonly config?: { readonly name: string; readonly netConf: string }
}

export interface ApiTrouble {
  readonly kind: 'certificate' | 'refused' | 'unreachable'
  readonly text: string
  readonly remedy: string
  readonly kubeconfig: string
  /** Name of the cluster's entry there. */
  readonly clusterName?: string
  /** A CA file of this node, other than the one in the kubeconfig. */
  readonly otherCa?: string
  /** When the client certificate ends, if it has. */
  readonly expired?: string
}

/** What was tried towards one peer. Undefined: not tried, or it says nothing. */
export interface PeerProbe {
  readonly node: string
  readonly publicIp: string
  /** Its tunnel address, .0 of its pod CIDR. */
  readonly vtep: string
  /** It answers a ping on the underlay. */
  readonly underlay: boolean
  /** It answers a ping through the tunnel. */
  readonly tunnel: boolean
  /** Our tunnel packets arrive there: an answer came back outside of the tunnel. */
  readonly out?: boolean
  /** Its tunnel packets arrive here: it answered into the tunnel what was asked outside. */
  readonly in?: boolean
  /** Who drops tunnel packets on this machine, seen while probing. */
  readonly culprits: readonly Culprit[]
  /** The largest inner packet that passes, in bytes, where the largest of all does not. */
  readonly largest?: number
  /** A UDP packet with its checksum left to the device arrives intact. */
  readonly checksum?: boolean
}

/** A rule or policy that dropped a packet, as the kernel's trace names it. */
export interface Culprit {
  readonly tool: 'nft' | 'iptables' | 'iptables-legacy'
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'
  /** The base chain by which the packet came in. */
  readonly base: string
  /** Absent when the policy of the chain did it. */
  readonly handle?: number
}

/** What became of packets that were made to pass as a pod's would. */
export interface Forwarding {
  readonly dropped: readonly (Culprit & { readonly direction: 'out' | 'in' })[]
}
