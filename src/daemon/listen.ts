/** The agent's two HTTP servers: health for the kubelet, and the unix socket that `twill status` and `twill plan` read. */
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { daemonError } from '#daemon/errors.ts'
import { METRICS_TYPE } from '#daemon/metrics.ts'

/** Answers /healthz at once and /readyz once `ready` says so, with flanneld's words; and /metrics as soon as there are any. */
export async function startHealth(o: {
  ip: string
  port: number
  ready: () => boolean
  metrics?: () => string | undefined
}): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url === '/healthz') response.end('flanneld is running')
    else if (request.url === '/metrics') respondMetrics(response, o.metrics?.())
    else if (request.url === '/readyz' && o.ready()) response.end('flanneld is ready')
    else response.writeHead(request.url === '/readyz' ? 503 : 404).end(request.url === '/readyz' ? 'flanneld is not ready yet' : '')
  })
  await listening(server, 'health probes', `${o.ip}:${o.port}`, () => server.listen(o.port, o.ip))
  return server
}

function respondMetrics(response: ServerResponse, text: string | undefined): void {
  if (text === undefined) response.writeHead(503).end()
  else response.setHeader('content-type', METRICS_TYPE).end(text)
}

/** Each path answers with the JSON of what its function gives, /metrics with text. Mode 0600: root reads it. */
export async function startStatusSocket(
  path: string,
  answers: Readonly<Record<string, () => unknown>>,
  metrics?: () => string,
): Promise<Server> {
  if (await answersOn(path)) throw daemonError.ERR_AGENT_RUNNING({ socket: path })
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  rmSync(path, { force: true })
  const server = createServer(respond(answers, metrics))
  await listening(server, 'the status socket', path, () => {
    const umask = process.umask(0o177) // libuv binds within listen(): the socket is never open to others
    server.listen(path)
    process.umask(umask)
  })
  chmodSync(path, 0o600)
  return server
}

function respond(answers: Readonly<Record<string, () => unknown>>, metrics: (() => string) | undefined): RequestListener {
  return async (request, response) => {
    if (request.url === '/metrics') return respondMetrics(response, metrics?.())
    const answer = answers[request.url ?? '']
    if (!answer) {
      response.writeHead(404).end()
      return
    }
    try {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(await answer()))
    } catch (error) {
      response.writeHead(500).end(JSON.stringify({ error: (error as Error).message }))
    }
  }
}

async function listening(server: Server, what: string, address: string, listen: () => void): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).once('listening', resolve)
      listen()
    })
  } catch (error) {
    throw daemonError.ERR_LISTEN({ what, address, code: (error as NodeJS.ErrnoException).code ?? 'failed' }, error)
  }
}

function answersOn(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const done = (alive: boolean): void => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => done(true)).once('error', () => done(false))
  })
}
