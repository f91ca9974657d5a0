/**
 * What `twill doctor` says: findings with where, why and the commands that mend them.
 * The JSON behind `-o json`. Fields are added, never renamed, within one version.
 * @module
 */
import type { Finding } from '#model/cluster.ts'

export interface Diagnosis extends Finding {
  /** The object or file at fault, as an operator would name it. */
  readonly where: string
  readonly why: string
  /** Shell commands, in order, to be run as root on this node; kubectl runs wherever the cluster is reached. Empty: see `remedy`. */
  readonly fix: readonly string[]
}

export interface DoctorDocument {
  readonly kind: 'TwillDoctor'
  readonly version: 1
  readonly node: string
  /** What could be looked at; the rest is not known to be well. */
  readonly looked: {
    readonly kernel: boolean
    readonly agent: boolean
    readonly cluster: boolean
    /** Peers that were probed. */
    readonly peers: number
  }
  readonly findings: readonly Diagnosis[]
}
