/**
 * What is on record of a pod's sandboxes and container runs: the files that outlive a kubelet, and what the shims leave in them.
 * @module
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { identify, isAlive, type ProcessId } from '#lab/state.ts'

export interface Sandbox {
  readonly id: string
  /** '' for a pod in the node's network. */
  readonly netns: string
  readonly attempt: number
  readonly createdAt: string
  /** Its pause process, which holds the uts and ipc namespaces. */
  process?: ProcessId
  /** ADD succeeded: a DEL that fails must be tried again. */
  attached: boolean
  ips: string[]
}

/** One run of a container. */
export interface Instance {
  readonly id: string
  readonly attempt: number
  readonly image: string
  /** Id of the sandbox it ran in. */
  readonly sandbox: string
  readonly dir: string
  process?: ProcessId
  shim?: ProcessId
  startedAt?: string
  /** Set once it has ended. */
  end?: {
    readonly exitCode: number
    readonly signal: number
    readonly finishedAt: string
    readonly reason: string
    readonly message?: string
  }
}

/** Takes in what the shim has left: `pid` holds "<pid> <shim's pid>", `exit` "<code> <signal> <time> [reason message]". Who they are is noted in started.json: a pid alone
 * may be someone else's after a reboot. */
export function refreshInstance(instance: Instance): void {
  const pids = readText(join(instance.dir, 'pid'))
  if (pids !== undefined && !instance.startedAt) {
    const noted = readJson<Pick<Instance, 'process' | 'shim' | 'startedAt'>>(join(instance.dir, 'started.json'))
    const [process, shim] = noted ? [noted.process, noted.shim] : pids.split(' ').map((pid) => identify(Number(pid)))
    if (process) instance.process = process
    if (shim) instance.shim = shim
    instance.startedAt = noted?.startedAt ?? new Date().toISOString()
    if (!noted) writeJson(join(instance.dir, 'started.json'), { process, shim, startedAt: instance.startedAt })
  }
  // The shim is asked first: while it lives, the exit file is still to come, and once it is dead the file is as complete as it will be.
  const running = instance.shim && isAlive(instance.shim)
  const exit = readText(join(instance.dir, 'exit'))
  const [, code, signal, finishedAt, reason, message] = /^(\d+) (\d+) (\S+)(?: (\S+) (.*))?$/s.exec(exit ?? '') ?? []
  if (finishedAt !== undefined) {
    const why = reason ?? (code === '0' ? 'Completed' : 'Error')
    instance.end = {
      exitCode: Number(code),
      signal: Number(signal),
      finishedAt,
      reason: why,
      ...(message === undefined ? {} : { message }),
    }
  } else if (!running) {
    // Killed together with its shim: the node went down, or a kubelet died in the middle of the start.
    const lost = 'The container could not be located when the pod was terminated'
    instance.end = { exitCode: 137, signal: 0, finishedAt: new Date().toISOString(), reason: 'ContainerStatusUnknown', message: lost }
  }
}

export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

export function readJson<T>(path: string): T | undefined {
  const text = readText(path)
  try {
    return text === undefined ? undefined : (JSON.parse(text) as T)
  } catch {
    return undefined
  }
}

export function writeJson(path: string, value: unknown): void {
  writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}
