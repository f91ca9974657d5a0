/**
 * The kubelet's https server on :10250, for the API server: logs, exec, port-forward, the list of pods, health. Who asks must show a certificate
 * of the cluster's CA.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import https from 'node:https'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { Log } from '#base/log.ts'
import type { KubeletConfig } from '#lab/kubelet/config.ts'
import { execOptions, protocols, serveExec } from '#lab/kubelet/exec.ts'
import { logOptions, sendLog } from '#lab/kubelet/logs.ts'
import { acceptPortForward, type Target } from '#lab/kubelet/port-forward.ts'
import { type Container, type Pod, podKey } from '#lab/kubelet/types.ts'
import type { PodWorker } from '#lab/kubelet/worker.ts'

export interface ServerOptions {
  readonly config: KubeletConfig
  readonly ca: Buffer
  readonly log: Log
  /** The worker of a pod by namespace and name. */
  find(namespace: string, name: string): PodWorker | undefined
  pods(): Pod[]
}

/** An answer that is no success, as plain text: what the API server wraps for kubectl. */
class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** Starts listening; resolves with the server. @throws {Error} if there is no serving certificate, naming where it was looked for. */
export async function serve(o: ServerOptions): Promise<https.Server> {
  const { cert, key } = servingPair(o.config)
  const server = https.createServer({ cert, key, ca: o.ca, requestCert: true, rejectUnauthorized: true })
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => protocols.find((p) => offered.has(p)) ?? false })
  server.on('request', (request, response) => void answer(request, response, o))
  server.on('upgrade', (request, socket, head) => {
    try {
      const url = new URL(request.url!, 'https://kubelet')
      if (url.pathname.startsWith('/portForward/')) {
        acceptPortForward(request, socket, head, portForwardTarget(url, o))
        return
      }
      const { worker, container, query } = target(url, 'exec', o)
      const options = execOptions(query)
      const instance = worker.runtime.current(container.name)
      if (!instance || instance.end) throw new Refusal(500, `container not found ("${container.name}")`)
      if (options.command.length === 0) throw new Refusal(400, 'you must specify at least 1 command for the container')
      const environment = worker.environment(container)
      sockets.handleUpgrade(request, socket, head, (ws) =>
        serveExec(
          ws,
          worker.runtime.execArgv(container, instance, options.command, options.tty),
          { ...environment, ...(options.tty ? { TERM: 'xterm' } : {}) },
          options,
        ),
      )
    } catch (error) {
      refuseUpgrade(socket, error)
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(o.config.port, '::', resolve)
  })
  return server
}

function servingPair(config: KubeletConfig): { cert: Buffer; key: Buffer } {
  const tried = config.paths.pki.flatMap((dir) => ['kubelet', `kubelet-serving-${config.node}`].map((name) => join(dir, name)))
  const found = tried.find((path) => existsSync(`${path}.crt`) && existsSync(`${path}.key`))
  if (found === undefined) throw new Error(`no serving certificate: looked for ${tried.map((path) => `${path}.crt`).join(', ')}`)
  return { cert: readFileSync(`${found}.crt`), key: readFileSync(`${found}.key`) }
}

async function answer(request: IncomingMessage, response: ServerResponse, o: ServerOptions): Promise<void> {
  const url = new URL(request.url!, 'https://kubelet')
  try {
    if (url.pathname === '/healthz') response.end('ok')
    else if (url.pathname === '/pods') {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ kind: 'PodList', apiVersion: 'v1', metadata: {}, items: o.pods() }))
    } else if (url.pathname.startsWith('/containerLogs/')) await sendLogs(url, request, response, o)
    else if (url.pathname.startsWith('/exec/')) throw new Refusal(400, 'exec needs a WebSocket (v5.channel.k8s.io): kubectl 1.30 or later')
    else
      throw new Refusal(404, `the lab's kubelet has no ${url.pathname}: it serves /containerLogs, /exec, /portForward, /pods and /healthz`)
  } catch (error) {
    if (!response.headersSent) response.writeHead(error instanceof Refusal ? error.status : 500, { 'content-type': 'text/plain' })
    response.end((error as Error).message)
    if (!(error instanceof Refusal)) o.log.warn({ path: url.pathname, error: String(error) }, 'request failed')
  }
}

async function sendLogs(url: URL, request: IncomingMessage, response: ServerResponse, o: ServerOptions): Promise<void> {
  const { worker, container, query } = target(url, 'containerLogs', o)
  const runs = worker.runtime.instances.get(container.name) ?? []
  const previous = ['true', '1'].includes(query.get('previous') ?? '')
  const instance = previous ? runs.findLast((run, i) => run.end && (i < runs.length - 1 || worker.isWaiting(container.name))) : runs.at(-1)
  const where = `container "${container.name}" in pod "${worker.pod.metadata.name}"`
  if (!instance) {
    if (previous) throw new Refusal(400, `previous terminated ${where.replace(' in ', ' in ')} not found`)
    throw new Refusal(400, `${where} is waiting to start: ${worker.waitingReason(container.name)}`)
  }
  const path = worker.runtime.logFile(container.name, instance.attempt)
  const stop = new AbortController()
  request.once('close', () => stop.abort())
  response.once('close', () => stop.abort())
  response.writeHead(200, { 'content-type': 'text/plain' })
  response.flushHeaders()
  if (existsSync(path)) await sendLog(path, response, logOptions(query, Date.now()), () => instance.end !== undefined, stop.signal)
  response.end()
}

/** /VERB/NAMESPACE/POD */
function podAt(url: URL, verb: string, o: ServerOptions): PodWorker {
  const [, first, namespace, name] = url.pathname.split('/').map(decodeURIComponent)
  const worker = o.find(namespace ?? '', name ?? '')
  if (first !== verb) throw new Refusal(404, `no ${url.pathname}`)
  if (!worker) throw new Refusal(404, `pod does not exist: ${namespace}/${name} is not on node ${o.config.node}`)
  return worker
}

function portForwardTarget(url: URL, o: ServerOptions): Target {
  const { pod, runtime } = podAt(url, 'portForward', o)
  if (!runtime.sandbox) throw new Refusal(500, `pod ${podKey(pod)} is not running`)
  return { pod: runtime.sandbox.id, uid: pod.metadata.uid!, netns: runtime.sandbox.netns }
}

/** /VERB/NAMESPACE/POD/CONTAINER */
function target(url: URL, verb: string, o: ServerOptions): { worker: PodWorker; container: Container; query: URLSearchParams } {
  const worker = podAt(url, verb, o)
  const [, , namespace, name, containerName] = url.pathname.split('/').map(decodeURIComponent)
  const { spec } = worker.pod
  const container = [...(spec.initContainers ?? []), ...spec.containers].find((c) => c.name === containerName)
  if (!container) throw new Refusal(404, `container ${containerName} not found in pod ${name}_${namespace}`)
  return { worker, container, query: url.searchParams }
}

function refuseUpgrade(socket: Duplex, error: unknown): void {
  const status = error instanceof Refusal ? error.status : 500
  const text = (error as Error).message
  const length = Buffer.byteLength(text)
  socket.end(`HTTP/1.1 ${status} Refused\r\nContent-Type: text/plain\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n${text}`)
}
