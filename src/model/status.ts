/**
 * What the agent says about itself: the JSON behind `twill status -o json`. Fields are added, never renamed, within one version.
 * @module
 */
import type { Finding } from '#model/cluster.ts'
import type { Feature } from '#model/kernel.ts'

export type Phase = 'starting' | 'waiting' | 'serving' | 'stopping'

export interface StatusDocument {
  readonly kind: 'TwillStatus'
  readonly version: 1
  readonly agent: {
    readonly version: string
    readonly pid: number
    readonly phase: Phase
    /** What it waits for before it can serve, for people. */
    readonly waitingFor?: string
    readonly uptimeSeconds: number
    /** From exec to the data plane read back and found right, in milliseconds. */
    readonly startMs?: number
  }
  readonly node?: { readonly name: string; readonly internalIPs: readonly string[] }
  readonly lease?: {
    readonly network: string
    /** The node's pod CIDR. */
    readonly subnet: string
    readonly publicIp: string
    /** The node's annotations say so. */
    readonly announced: boolean
  }
  readonly interface?: { readonly name: string; readonly address: string; readonly mtu: number; readonly why: string }
  readonly backend?: { readonly type: string; readonly device?: string; readonly mac?: string; readonly mtu: number }
  readonly peers: readonly PeerStatus[]
  readonly findings: readonly Finding[]
  /** Objects kept in the kernel, by kind. */
  readonly objects: Readonly<Record<string, number>>
  readonly pods: number
  readonly services: boolean
  readonly repairs: {
    readonly total: number
    /** By kind of object, since the start. */
    readonly byKind: Readonly<Record<string, number>>
    readonly recent: readonly Repair[]
    /** Objects that others keep changing. */
    readonly contested: readonly {
      readonly object: string
      /** Times found changed since the quarrel began. */
      readonly times: number
      readonly by: readonly string[]
      /** How long a repair waits now. */
      readonly delaySeconds: number
    }[]
  }
  readonly kernel: {
    readonly release: string
    /** Mutating messages sent since the start. */
    readonly mutations: number
    /** What this kernel may lack: present or not, and what is done then. */
    readonly features: readonly Feature[]
    /** Operations that the kernel refused in the last pass. */
    readonly refused: readonly { readonly op: string; readonly owner: string; readonly error: string }[]
  }
  readonly api: {
    readonly server?: string
    readonly connected: boolean
    readonly lastContactSeconds?: number
    readonly error?: string
  }
}

export interface PeerStatus {
  readonly node: string
  readonly subnet: string
  readonly publicIp: string
  readonly backendType: string
  /** Objects in our kernel for it; 0 if it cannot be served. */
  readonly objects: number
  /** The device by which packets leave for its pods. */
  readonly dev?: string
}

/** A change that others made, put right. */
export interface Repair {
  /** ISO 8601. */
  readonly at: string
  /** What was done: `put route 10.244.2.0/24 via …`. */
  readonly op: string
  /** The object's key: `route 10.244.2.0/24`. */
  readonly object: string
  readonly owner: string
  /** What others had done. */
  readonly found: 'deleted' | 'changed' | 'added'
  /** Process name and id, as far as the kernel tells. */
  readonly by?: string
}

/** The answer of the agent's dry run: `twill plan`. */
export interface PlanDocument {
  readonly kind: 'TwillPlan'
  readonly version: 1
  readonly node: string
  /** Why there is nothing to plan yet. */
  readonly waitingFor?: string
  readonly ops: readonly { readonly verb: 'put' | 'del'; readonly object: string; readonly owner?: string; readonly reason?: string }[]
}
