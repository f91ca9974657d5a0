/**
 * The nouns of the CNI side: a request as the shim hands it over, and the attachment that ADD makes and DEL undoes.
 * @module
 */

/** What one exec of the shim sends: the CNI environment and the configuration on stdin, untouched. */
export interface CniRequest {
  /** Base name the shim was called by: flannel, portmap, loopback, bridge, host-local. */
  readonly plugin: string
  readonly command: 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION'
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
  readonly args: string
  readonly path: string
  readonly config: string
}

/** What the shim prints and exits with. */
export interface CniAnswer {
  readonly exit: 0 | 1
  readonly stdout: string
}

/** One pod interface of ours: all that is needed to keep, check and undo it. */
export interface Attachment {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
  /** namespace/name from CNI_ARGS, when the runtime says it. */
  readonly podName?: string
  readonly netns: string
  readonly bridge: string
  readonly hairpin: boolean
  /** The host end talks to ports that are not isolated only. */
  readonly isolated?: true
  /** The bridge takes in every frame. */
  readonly promisc?: true
  /** What it sends out of its subnet leaves with the node's address. */
  readonly masquerade?: true
  /** IPv6 addresses are looked for on the link before they are used. */
  readonly dad?: true
  /** The pod's end stays down, for others to bring up. */
  readonly containerDown?: true
  readonly mtu: number
  readonly host: { readonly name: string; readonly mac: string }
  readonly pod: { readonly mac: string; readonly addresses: readonly string[] }
  /** Gateways with prefix length: go onto the bridge. */
  readonly gateways: readonly string[]
  readonly routes: readonly PodRoute[]
}

/** A route in the pod, by its interface. */
export interface PodRoute {
  readonly dst: string
  readonly via?: string
  /** Absent: the kernel's own choice. */
  readonly metric?: number
  readonly scope?: 'link' | 'global'
}

/** One port of the node that leads to a pod (hostPort). */
export interface PortMapping {
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  /** Only this address of the node; absent: any, of either family. An unspecified one (0.0.0.0, ::) is any of its family. */
  readonly hostIp?: string
}

/** The hostPorts of one pod interface. */
export interface PodPorts {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
  readonly podName?: string
  /** The pod's addresses with prefix, at most one a family. */
  readonly addresses: readonly string[]
  /** The node's device that leads to the pod. */
  readonly dev: string
  readonly mappings: readonly PortMapping[]
  /** Whose connections get the node's address as source: `near`, the pod's own subnet and the node's loopback; every one's; no one's. */
  readonly masquerade: 'near' | 'all' | 'none'
}

/** What the reference portmap's own rules say of one container's hostPorts. */
export type ReferencePorts = Pick<PodPorts, 'network' | 'containerId' | 'addresses' | 'mappings' | 'masquerade'>
