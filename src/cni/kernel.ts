/** The door to the kernel as CNI needs it; the daemon stands behind it. @module */
import type { Courier, HostView, Item, Op, Outcome } from '#model/kernel.ts'

export interface PodKernel {
  /** Carries out `ops` at once and in order, and keeps `wanted` (repairs it) for `owner` from then on. One outcome an op. */
  commit(owner: string, wanted: readonly Item[], ops: readonly Op[], courier?: Courier): Promise<readonly Outcome[]>
  /** Forgets what was wanted for `owner`, then carries out `ops`. */
  release(owner: string, ops: readonly Op[]): Promise<readonly Outcome[]>
  /** The node's device by which packets to `ip` leave; undefined if there is no route. */
  deviceTo(ip: string): Promise<string | undefined>
  /** Links, addresses and routes of the node, or of the namespace at `netns`. */
  host(netns?: string): Promise<HostView>
}

/** Takes what the reference plugins left in the node's firewall for one interface. @returns how much there was. */
export type RemoveReferenceRules = (key: {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
}) => Promise<number>

/** Who waits for a request's answer. */
export interface Caller {
  /** Aborts when no one waits any more. */
  readonly gone: AbortSignal
  /** The shim, which can wire up a pod itself and run other plugins while it waits; absent for a request out of the delete queue. */
  readonly courier?: Courier
}
