/**
 * What a backend is: pure, a lease in, items out. A new one is one file here, one line in all.ts and one table of cases
 * (docs/backends.md shows a whole one). It has no clock, no kernel and no memory, so an event for one lease recomputes that lease only.
 * @module
 */
import type { Keys } from '#config/net-conf.ts'
import type { Finding, Lease } from '#model/cluster.ts'
import type { Item } from '#model/kernel.ts'
import type { Family } from '#net/ip.ts'
import type { Uplink } from '#plan/interface.ts'
import type { Underlay, Way } from '#plan/ways.ts'

/** The node that plans, in one family. */
export interface Self {
  readonly node: string
  readonly family: Family
  /** The cluster's pod network and this node's part of it, masked. */
  readonly network: string
  readonly subnet: string
  readonly uplink: Uplink
  /** Address of the tunnel device; ignored by backends without one. */
  readonly mac: string
  /** Outer source address: the public IP if an interface of ours holds it, else the uplink's. */
  readonly local: string
  /** What `wayTo` answers from. */
  readonly underlay: Underlay
  /** How packets leave for `ip` (a peer's public IP); undefined if there is no route. */
  wayTo(ip: string): Way | undefined
}

/** Why something cannot be served: a finding whose subject the caller knows. */
export type Fault = Pick<Finding, 'id' | 'text' | 'remedy'>

/** A type of backend, as all.ts lists it. */
export interface BackendType {
  /** Backend.Type in net-conf.json, in lower case. */
  readonly type: string
  /** Reads the type's own keys of Backend in net-conf.json. */
  configure(keys: Keys): Backend
}

/** A backend as it is configured. */
export interface Backend {
  readonly type: string
  /** What the annotation backend-type says. Peers that say something else are not served. */
  readonly announcedType: string
  /** The tunnel device, if the backend makes one. */
  device(family: Family): string | undefined
  /** MTU of pods and of the tunnel device. */
  mtu(self: Self): number
  /** The annotation backend-data, byte for byte as Flannel writes it. */
  data(self: Self): string
  /** Why this node cannot speak this backend, or undefined. */
  unfit(self: Self): Fault | undefined
  /** What the node itself needs; asked only if it is fit. */
  own(self: Self): Item[]
  /** Why `lease` cannot be served, or undefined. */
  fault(self: Self, lease: Lease): Fault | undefined
  /** What `lease` needs, which has no fault. Routes carry TWILL_ROUTE_PROTOCOL: by it a restarted agent knows its own. */
  peer(self: Self, lease: Lease): Item[]
}
