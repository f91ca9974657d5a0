/**
 * kubectl port-forward at the kubelet's end: SPDY inside a WebSocket (KEP-4006). Each connection of kubectl's is two streams of one
 * requestid: `error`, on which we say why a port cannot be reached, and `data`, the bytes.
 * Source: k8s.io/api/core/v1 (streamType, port, requestID); kubelet's portforward/httpstream.go.
 * @module
 */
import { spawn } from 'node:child_process'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type WebSocket, WebSocketServer } from 'ws'
import { SpdyServer, type SpdyStream } from '#lab/kubelet/spdy.ts'
import { nodeBinary } from '#lab/repo.ts'

const protocol = 'SPDY/3.1+portforward.k8s.io'
const sockets = new WebSocketServer({ noServer: true })
sockets.on('headers', (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`))

/** Takes the upgrade. The protocol's name is no token (RFC 6455 wants one), and our WebSocket library would refuse it: it is not shown it. */
export function acceptPortForward(request: IncomingMessage, socket: Duplex, head: Buffer, target: Target): void {
  delete request.headers['sec-websocket-protocol']
  sockets.handleUpgrade(request, socket, head, (ws) => servePortForward(ws, target))
}

/** Dials in the pod: a process of its own, since a network namespace belongs to a process. */
const dial = `
const socket = require('node:net').connect({ port: Number(process.argv[1]), host: 'localhost', allowHalfOpen: true })
socket.on('error', (error) => { process.stderr.write((error.errors ?? [error]).map((one) => one.message).join(', ')); process.exit(1) })
process.stdin.pipe(socket).pipe(process.stdout)`

/** What kubectl is forwarded to. */
export interface Target {
  readonly pod: string
  readonly uid: string
  /** Path of the pod's network namespace; '' for one on the node's network. */
  readonly netns: string
}

function servePortForward(socket: WebSocket, target: Target): void {
  const pairs = new Map<string, { data?: SpdyStream; error?: SpdyStream }>()
  const server = new SpdyServer(
    (bytes, sent) => socket.send(bytes, sent),
    (stream) => {
      const request = stream.headers.get('requestid') ?? ''
      const kind = stream.headers.get('streamtype') === 'error' ? 'error' : 'data'
      const pair = { ...pairs.get(request), [kind]: stream }
      pairs.set(request, pair)
      if (!pair.data || !pair.error) return
      pairs.delete(request)
      forward(Number(pair.data.headers.get('port')), pair.data.bytes, pair.error.bytes, target)
    },
  )
  socket.on('message', (bytes: Buffer) => void server.feed(bytes).catch(() => socket.close(1002)))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => server.close())
}

function forward(port: number, data: Duplex, error: Duplex, { pod, uid, netns }: Target): void {
  const enter = netns === '' ? [] : ['nsenter', `--net=${netns}`, '--']
  const [program, ...args] = [...enter, nodeBinary, '-e', dial, String(port)]
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', (bytes: Buffer) => {
    complaint += bytes.toString()
  })
  child.stdin.on('error', () => {}) // the other side has closed: it reads no more
  child.once('error', (cause) => {
    complaint += cause.message
  })
  data.pipe(child.stdin)
  child.stdout.pipe(data)
  child.once('close', (code) => {
    if (code !== 0)
      error.write(`error forwarding port ${port} to pod ${pod}, uid ${uid}: failed to connect to localhost:${port}: ${complaint}`)
    error.end()
    data.end()
  })
  data.once('close', () => {
    if (child.exitCode === null) child.kill('SIGKILL')
  })
  error.resume() // kubectl sends nothing there but its end
}
