/**
 * What one lab has on this machine, written down as it comes into being: <state>/lab.json, replaced atomically.
 * A process is remembered with its start time (field 22 of /proc/<pid>/stat), so that a recycled pid is never taken for it.
 * @module
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'

export interface ProcessId {
  readonly pid: number
  /** Clock ticks after boot at which it started. */
  readonly start: string
}

export interface PartState extends ProcessId {
  /** Name of the part, such as control-plane or kubelet-k8s-w1. */
  readonly name: string
  /** The node it lives on, or none for what stands outside of them. */
  readonly node?: string
  readonly log: string
}

export interface NodeState {
  readonly name: string
  readonly ip: string
  /** Its pid 1. */
  readonly init: ProcessId
}

export interface LabState {
  readonly lab: string
  readonly createdAt: string
  /** `up` has come to its end. */
  readonly complete: boolean
  readonly apiPort: number
  readonly netns: readonly string[]
  readonly nodes: readonly NodeState[]
  readonly parts: readonly PartState[]
}

/** Where a lab keeps everything: logs/, control/ (API server, PKI), nodes/<node>/. Closed to other users. */
export const labsDir = '/run/twill-lab'
export const stateDir = (lab: string): string => `${labsDir}/${lab}`
const stateFile = (lab: string): string => `${stateDir(lab)}/lab.json`

/** The lab's state, or undefined if there is none (never started, or taken down). */
export function readState(lab: string): LabState | undefined {
  if (!existsSync(stateFile(lab))) return undefined
  return JSON.parse(readFileSync(stateFile(lab), 'utf8')) as LabState
}

export function writeState(state: LabState): void {
  mkdirSync(stateDir(state.lab), { recursive: true, mode: 0o700 })
  const temporary = `${stateFile(state.lab)}.new`
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 })
  renameSync(temporary, stateFile(state.lab))
}

/** Names of the labs that have a state directory. */
export function labNames(): string[] {
  return existsSync(labsDir) ? readdirSync(labsDir).toSorted() : []
}

/** The process with this pid as it is now, or undefined if there is none or it is a zombie. */
export function identify(pid: number): ProcessId | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The name, in parentheses, may hold anything: fields are counted from behind it, where field 3 (the state) comes first.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' ? undefined : { pid, start: fields[19]! }
}

/** Whether this very process still runs. */
export function isAlive(process: ProcessId): boolean {
  return identify(process.pid)?.start === process.start
}

/** The process that an entering program (nsenter forks for a pid namespace) runs on behalf of, or itself if it has no child. */
export function innerPid(pid: number): number {
  try {
    const child = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0]
    return child ? Number(child) : pid
  } catch {
    return pid
  }
}
