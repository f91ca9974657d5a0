/**
 * What the cluster room offers: the API server's nodes, services and endpoint slices as a snapshot that keeps itself current,
 * and the few writes that Flannel's RBAC allows.
 * @module
 */
import type { Clock } from '#base/clock.ts'
import type { Log } from '#base/log.ts'
import type { Client } from '#cluster/http.ts'
import type { Finding, NodeRecord, Snapshot } from '#model/cluster.ts'

export interface ClusterOptions {
  /** --kube-api-url: replaces the server of whatever configuration is found. */
  readonly kubeApiUrl?: string | undefined
  /** --kubeconfig-file. */
  readonly kubeconfigFile?: string | undefined
  /** The process environment: KUBERNETES_SERVICE_HOST/PORT, KUBECONFIG, HOME. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Normalised: ends in `/` or `-` (flannel.alpha.coreos.com/). */
  readonly annotationPrefix: string
  /** Watch services and endpoint slices too. */
  readonly services: boolean
  readonly log: Log
  readonly clock: Clock
  /** Stands in for the API server (the simulation). */
  readonly client?: Client
}

export type KindName = 'nodes' | 'services' | 'endpointSlices'

/** How the watch of one kind does. Times are `clock.now()` milliseconds. */
export interface KindHealth {
  readonly synced: boolean
  /** A watch is open now. */
  readonly watching: boolean
  /** When the server last said anything about this kind; undefined before its first word. */
  readonly lastContactMs?: number
  /** Why the last list or watch failed; absent while all is well. */
  readonly error?: string
}

export interface ClusterHealth {
  /** The API server's URL, once known. */
  readonly server?: string
  /** Only the kinds that are watched. */
  readonly kinds: Readonly<Partial<Record<KindName, KindHealth>>>
}

export interface NodeEvent {
  readonly node: { readonly name: string; readonly uid: string }
  readonly type: 'Normal' | 'Warning'
  /** CamelCase, for machines: DuplicatePublicIP. */
  readonly reason: string
  /** For people; at most 1,024 characters are kept. */
  readonly message: string
}

export interface Cluster {
  /**
   * What is known now. Records are values; the maps are live (an event changes one entry, never copies the rest), so read them
   * within one turn of the event loop. Kinds that are not watched count as synced and are empty.
   */
  readonly snapshot: Snapshot
  readonly health: ClusterHealth
  /** bad-object, api-unreachable, api-refused: what this room found, as long as it holds. */
  readonly findings: readonly Finding[]
  /**
   * Lists and watches until `signal` aborts. `touch` gets the owner of each record that really changed: `node NAME`,
   * `service NS/NAME` (for its endpoint slices too).
   * @returns  Resolves at the first full sync of every watched kind, however long that takes; rejects if aborted before.
   */
  start(touch: (owner: string) => void, signal: AbortSignal): Promise<void>
  /** One node, read now. @throws {TwillError} ERR_API_STATUS (status 404), ERR_API_FORBIDDEN, ERR_API_UNREACHABLE … */
  ownNode(name: string): Promise<NodeRecord>
  /** spec.nodeName of a pod. @throws {TwillError} ERR_POD_UNSCHEDULED if it has none, and as `ownNode`. */
  podNodeName(namespace: string, pod: string): Promise<string>
  /** Strategic merge PATCH of nodes/NAME/status: the one write that Flannel's RBAC grants. Throws as `ownNode`; the caller retries. */
  patchNodeStatus(name: string, patch: object): Promise<void>
  /** Posts an Event about a node in namespace default; the same words again raise the count of the first. */
  event(event: NodeEvent): Promise<'sent' | 'forbidden'>
}
