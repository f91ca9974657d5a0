/**
 * Who has which address on this node: what host-local's files say, and what the pods there have.
 * @module
 */

/** One file of host-local. */
export interface Reservation {
  readonly network: string
  readonly address: string
  readonly path: string
  /** Empty: the file is torn. */
  readonly containerId: string
  /** False: another maker's network, whose addresses are its own. */
  readonly ours: boolean
  /** A pod of this container is there: its network namespace exists, or the runtime knows it. */
  readonly live: boolean
  /** Where the pod's network namespace is, if this agent made it. */
  readonly netns?: string
}

/** An address that a running pod of ours has. */
export interface PodAddress {
  readonly network: string
  readonly address: string
  readonly containerId: string
  /** namespace/name, where the runtime said it. */
  readonly podName?: string
}

export interface AddressBooks {
  readonly reservations: readonly Reservation[]
  readonly pods: readonly PodAddress[]
}

export type AddressFaultId = 'address-without-pod' | 'torn-file' | 'pod-without-address' | 'two-owners'

export interface AddressFault {
  readonly id: AddressFaultId
  readonly network: string
  readonly address: string
  readonly text: string
  readonly remedy: string
  /** The file whose deletion mends it; absent where none does. */
  readonly path?: string
}

/** What `twill ipam -o json` prints. Fields are added, never renamed, within one version. */
export interface IpamDocument extends AddressBooks {
  readonly kind: 'TwillIpam'
  readonly version: 1
  readonly faults: readonly AddressFault[]
}
