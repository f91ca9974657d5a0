/**
 * The nouns of the cluster side: what `cluster/` decodes from the API and `plan/` reads. Values only; a snapshot is a value.
 * Decoding is lean: fields that no planner reads are dropped at the door, so heartbeats change nothing here.
 * @module
 */
import type { FindingId } from '#model/findings.ts'
import type { Family } from '#net/ip.ts'

/** A Node object, cut down to what Twill reads. */
export interface NodeRecord {
  readonly name: string
  readonly uid: string
  /** metadata.creationTimestamp: of two objects that want one thing, the older has it. */
  readonly created?: string
  /** spec.podCIDRs, or [spec.podCIDR] if that list is empty. */
  readonly podCIDRs: readonly string[]
  /** Only those below Flannel's prefix; keys without the prefix: `backend-type`, `public-ip`, … */
  readonly annotations: Readonly<Record<string, string>>
  /** status.addresses of type InternalIP. */
  readonly internalIPs: readonly string[]
  /** status.conditions NetworkUnavailable, as status text; absent if there is none. */
  readonly networkUnavailable?: string
}

/** One family of one node's lease. A dual-stack node gives two: nothing downstream knows about pairs. */
export interface Lease {
  readonly node: string
  readonly family: Family
  /** The node's pod CIDR of this family, masked. */
  readonly subnet: string
  readonly publicIp: string
  readonly backendType: string
  /** Parsed backend-data (or backend-v6-data) annotation; undefined if absent, null for the text `null`. */
  readonly backendData: unknown
}

export type Protocol = 'TCP' | 'UDP' | 'SCTP'

export interface ServicePort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
  readonly nodePort?: number
}

export interface Service {
  readonly namespace: string
  readonly name: string
  /** As of a node. */
  readonly created?: string
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
  /** Empty for headless and ExternalName services. */
  readonly clusterIPs: readonly string[]
  readonly ports: readonly ServicePort[]
  /** sessionAffinity ClientIP: for so long after its last connection a client is sent to the same endpoint. */
  readonly affinitySeconds?: number
  /** internalTrafficPolicy Local: connections to a cluster address are served by endpoints on the node, or not at all. */
  readonly internalLocal?: boolean
  /** externalTrafficPolicy Local: the same of node ports; and the endpoint sees the client's address. */
  readonly externalLocal?: boolean
  /** Fields that ask for what Twill does not serve. */
  readonly unserved?: readonly string[]
}

/** discovery.k8s.io/v1 EndpointSlice. */
export interface EndpointSlice {
  readonly namespace: string
  readonly name: string
  /** Label kubernetes.io/service-name. */
  readonly service: string
  readonly family: Family
  readonly ports: readonly { readonly name: string; readonly protocol: Protocol; readonly port: number }[]
  readonly endpoints: readonly Endpoint[]
}

export interface Endpoint {
  readonly addresses: readonly string[]
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly nodeName?: string
}

/** What is known of the cluster now. `synced` lists the kinds whose first full list has arrived: nothing is deleted before. */
export interface Snapshot {
  readonly synced: { readonly nodes: boolean; readonly services: boolean; readonly endpointSlices: boolean }
  readonly nodes: ReadonlyMap<string, NodeRecord>
  /** Keys are namespace/name. */
  readonly services: ReadonlyMap<string, Service>
  /** Keys are namespace/name of the slice. */
  readonly endpointSlices: ReadonlyMap<string, EndpointSlice>
}

/** A fault that a person should hear of. Shown in status, logged once, counted, sent as an Event where RBAC allows. */
export interface Finding {
  /** Stable: from the one list. */
  readonly id: FindingId
  readonly severity: 'error' | 'warning'
  /** What it is about: `node k8s-w1`, `service default/web`. */
  readonly subject: string
  /** What was found. */
  readonly text: string
  /** What to do about it; may hold a command. */
  readonly remedy: string
}
