/** What a backend is: pure, a lease in, items out. A new one is one file, one line in all.ts, one table of cases. */
import type { NetConf } from '#config/net-conf.ts'
import type { Lease } from '#model/cluster.ts'
import type { Item } from '#model/kernel.ts'
import type { Family } from '#net/ip.ts'
import type { Uplink } from '#plan/interface.ts'

/** The node that plans. */
export interface Self {
  readonly node: string
  readonly family: Family
  /** The cluster's pod network and this node's part of it, masked. */
  readonly network: string
  readonly subnet: string
  readonly uplink: Uplink
  readonly conf: NetConf
  /** Address of the tunnel device; ignored by backends without one. */
  readonly mac: string
  /** Outer source address: the public IP if an interface of ours holds it, else the uplink's. */
  readonly local: string
  /** The device that reaches `ip` without a router between, or undefined. */
  directDevice(ip: string): string | undefined
}

export interface Backend {
  /** Backend.Type in net-conf.json, in lower case. */
  readonly type: string
  /** What the annotation backend-type says. */
  readonly announcedType: string
  /** The tunnel device, if the backend makes one. */
  device(conf: NetConf): string | undefined
  /** MTU of pods and of the tunnel device. */
  mtu(self: Self): number
  /** The annotation backend-data, byte for byte as Flannel writes it. */
  data(self: Self): string
  /** What the node itself needs. */
  own(self: Self): Item[]
  /** Why `lease` cannot be served, or undefined. */
  problem(lease: Lease): string | undefined
  /** Pure: no clock, no kernel, no memory; an event for one lease recomputes that lease only. `lease` has no problem. */
  peer(self: Self, lease: Lease): Item[]
}
