/**
 * Probes of one run of one container: startup first, then liveness and readiness side by side. Defaults as core/v1 Probe.
 * @module
 */
import http from 'node:http'
import https from 'node:https'
import { connect } from 'node:net'
import type { Container, Probe } from '#lab/kubelet/types.ts'

export interface ProbeTarget {
  readonly container: Container
  /** The pod's address; the node's for a pod in its network. */
  readonly ip: string
  /** A kubelet before us found it ready: it stays so until a probe says otherwise. */
  readonly wasReady: boolean
  exec(command: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }>
  /** Readiness or startup has changed. */
  onChange(): void
  /** A probe failed once (event Unhealthy). */
  onUnhealthy(kind: ProbeKind, text: string): void
  /** Liveness or startup failed for good: the container is to be killed. */
  onDead(kind: ProbeKind): void
}
export type ProbeKind = 'Startup' | 'Liveness' | 'Readiness'

export class Prober {
  ready: boolean
  started: boolean
  readonly #target: ProbeTarget
  readonly #stop = new AbortController()

  constructor(target: ProbeTarget) {
    this.#target = target
    const { startupProbe, readinessProbe } = target.container
    this.started = startupProbe === undefined || target.wasReady
    this.ready = readinessProbe === undefined || target.wasReady
    if (startupProbe && !this.started) void this.#loop('Startup', startupProbe)
    else this.#afterStart()
  }

  stop(): void {
    this.#stop.abort()
  }

  #afterStart(): void {
    const { livenessProbe, readinessProbe } = this.#target.container
    if (livenessProbe) void this.#loop('Liveness', livenessProbe)
    if (readinessProbe) void this.#loop('Readiness', readinessProbe)
  }

  async #loop(kind: ProbeKind, probe: Probe): Promise<void> {
    const signal = this.#stop.signal
    const { periodSeconds = 10, initialDelaySeconds = 0, timeoutSeconds = 1, failureThreshold = 3, successThreshold = 1 } = probe
    let successes = 0
    let failures = 0
    await pause(initialDelaySeconds * 1000, signal)
    while (!signal.aborted) {
      const trouble = await ask(probe, this.#target, timeoutSeconds * 1000)
      if (signal.aborted) return
      successes = trouble === undefined ? successes + 1 : 0
      failures = trouble === undefined ? 0 : failures + 1
      if (trouble !== undefined) this.#target.onUnhealthy(kind, trouble)
      if (kind === 'Startup' && successes >= successThreshold) {
        this.started = true
        this.#target.onChange()
        return this.#afterStart()
      }
      if (kind === 'Readiness') this.#setReady(successes >= successThreshold || (this.ready && failures < failureThreshold))
      else if (failures >= failureThreshold) {
        this.#target.onDead(kind)
        return
      }
      // A pod that is not ready yet is asked again soon: the real kubelet does so too when a container has just started.
      await pause(kind === 'Readiness' && !this.ready ? Math.min(periodSeconds * 1000, 1000) : periodSeconds * 1000, signal)
    }
  }

  #setReady(ready: boolean): void {
    if (ready === this.ready) return
    this.ready = ready
    this.#target.onChange()
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  signal.addEventListener(
    'abort',
    () => {
      clearTimeout(timer)
      resolve()
    },
    { once: true },
  )
  return promise
}

/** undefined if the probe succeeded, else what it said. */
async function ask(probe: Probe, target: ProbeTarget, timeoutMs: number): Promise<string | undefined> {
  if (probe.httpGet) return askHttp(probe.httpGet, target, timeoutMs)
  if (probe.tcpSocket) return askTcp(probe.tcpSocket.host ?? target.ip, portOf(target.container, probe.tcpSocket.port), timeoutMs)
  if (probe.exec) {
    const late = pause(timeoutMs, AbortSignal.timeout(timeoutMs + 1)).then(() => undefined)
    const ran = await Promise.race([target.exec(probe.exec.command), late])
    if (!ran) return `command timed out after ${timeoutMs / 1000}s`
    return ran.status === 0 ? undefined : (ran.stdout + ran.stderr).trim() || `command ended with status ${ran.status}`
  }
  return 'the lab has the probes httpGet, tcpSocket and exec, and this is another'
}

/** A port by number, or by the name the container gives it. */
export function portOf(container: Container, port: number | string): number {
  return typeof port === 'number' ? port : (container.ports?.find((p) => p.name === port)?.containerPort ?? Number(port))
}

function askHttp(get: NonNullable<Probe['httpGet']>, target: ProbeTarget, timeoutMs: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const secure = get.scheme === 'HTTPS'
  const host = get.host ?? target.ip
  const port = portOf(target.container, get.port)
  const path = get.path?.startsWith('/') ? get.path : `/${get.path ?? ''}`
  const headers = {
    'user-agent': 'kube-probe/1.33',
    accept: '*/*',
    connection: 'close',
    ...Object.fromEntries((get.httpHeaders ?? []).map((h) => [h.name, h.value])),
  }
  const request = (secure ? https : http).request(
    { host, port, path, headers, agent: false, ...(secure ? { rejectUnauthorized: false } : {}) },
    (answer) => {
      answer.resume()
      const status = answer.statusCode!
      resolve(status >= 200 && status < 400 ? undefined : `HTTP probe failed with statuscode: ${status}`)
    },
  )
  const url = `${secure ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}${path}`
  const timer = setTimeout(
    () => request.destroy(new Error('context deadline exceeded (Client.Timeout exceeded while awaiting headers)')),
    timeoutMs,
  )
  request.once('error', (error) => resolve(`Get "${url}": ${dialText(error, host, port)}`))
  request.end()
  return promise.finally(() => clearTimeout(timer))
}

function askTcp(host: string, port: number, timeoutMs: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const socket = connect({ host, port, timeout: timeoutMs })
  socket.once('connect', () => resolve(undefined))
  socket.once('timeout', () => resolve(`dial tcp ${host}:${port}: i/o timeout`))
  socket.once('error', (error) => resolve(dialText(error, host, port)))
  return promise.finally(() => socket.destroy())
}

/** Go's words for a refused connection, as `kubectl describe` shows them. */
function dialText(error: NodeJS.ErrnoException, host: string, port: number): string {
  const words: Readonly<Record<string, string>> = { ECONNREFUSED: 'connect: connection refused', EHOSTUNREACH: 'connect: no route to host' }
  const why = words[error.code ?? '']
  return why === undefined ? error.message : `dial tcp ${host}:${port}: ${why}`
}
