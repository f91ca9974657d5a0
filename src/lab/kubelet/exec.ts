/**
 * kubectl exec at the kubelet's end: a WebSocket whose binary messages begin with the channel they belong to.
 *     0 stdin   1 stdout   2 stderr   3 how it ended (a Status)   4 size of the terminal, {"Width":80,"Height":24}
 *     255 n     (v5) channel n is closed: the end of stdin
 * Source: k8s.io/apimachinery/pkg/util/remotecommand; kubelet server.go.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { WebSocket } from 'ws'
import { exitStatus } from '#lab/nodes/run.ts'

export const protocols = ['v5.channel.k8s.io', 'v4.channel.k8s.io']

export interface ExecOptions {
  readonly command: readonly string[]
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
  readonly tty: boolean
}

export function execOptions(query: URLSearchParams): ExecOptions {
  const flag = (...names: string[]): boolean => names.some((name) => ['true', '1'].includes(query.get(name) ?? ''))
  const tty = flag('tty')
  const stdout = flag('output', 'stdout')
  return { command: query.getAll('command'), stdin: flag('input', 'stdin'), stdout, stderr: !tty && flag('error', 'stderr'), tty }
}

/** How a command ended, as kubectl reads its exit status. */
export function endStatus(code: number, complaint: string): object {
  if (complaint !== '') {
    const message = `error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: ${complaint}: unknown`
    return {
      metadata: {},
      status: 'Failure',
      message: `Internal error occurred: ${message}`,
      reason: 'InternalError',
      details: { causes: [{ message }] },
      code: 500,
    }
  }
  if (code === 0) return { metadata: {}, status: 'Success' }
  return {
    ...{
      metadata: {},
      status: 'Failure',
      message: `command terminated with non-zero exit code: command terminated with exit code ${code}`,
    },
    ...{ reason: 'NonZeroExitCode', details: { causes: [{ reason: 'ExitCode', message: String(code) }] } },
  }
}

/** Runs `argv` (podrun exec …) behind the socket. A socket that closes ends the command. */
export function serveExec(socket: WebSocket, argv: readonly string[], env: NodeJS.ProcessEnv, o: ExecOptions): void {
  const child = spawn(argv[0]!, argv.slice(1), { env, stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'] })
  const [stdin, , , complaints, sizes] = child.stdio as unknown as [Writable, Readable, Readable, Readable, Writable]
  let complaint = ''
  complaints.on('data', (bytes: Buffer) => {
    complaint += bytes.toString()
  })
  for (const stream of [stdin, sizes]) stream.on('error', () => {}) // a command that has ended reads no more
  forward(child.stdout!, socket, 1, o.stdout)
  forward(child.stderr!, socket, 2, o.stderr)
  if (!o.stdin) stdin.end()
  socket.on('message', (data: Buffer) => {
    const channel = data[0]
    const bytes = data.subarray(1)
    if (channel === 0 && o.stdin) {
      if (!stdin.write(bytes)) {
        socket.pause()
        stdin.once('drain', () => socket.resume())
      }
    } else if (channel === 255 && bytes[0] === 0) stdin.end()
    else if (channel === 4 && o.tty) resize(sizes, bytes)
  })
  child.once('error', (error) => finish(socket, 255, error.message))
  child.once('close', (code, signal) => finish(socket, exitStatus(code, signal), complaint))
  socket.once('close', () => end(child))
}

function forward(from: Readable, socket: WebSocket, channel: number, wanted: boolean): void {
  from.on('data', (bytes: Buffer) => {
    if (!wanted || socket.readyState !== socket.OPEN) return
    socket.send(Buffer.concat([Buffer.of(channel), bytes]), () => {
      if (socket.bufferedAmount < 262_144) from.resume()
    })
    if (socket.bufferedAmount > 1_048_576) from.pause() // a slow reader holds the command, not our memory
  })
}

function resize(sizes: Writable, bytes: Buffer): void {
  try {
    const { Width, Height } = JSON.parse(bytes.toString()) as { Width: number; Height: number }
    sizes.write(`${Number(Height)} ${Number(Width)}\n`)
  } catch {
    // no size: the terminal keeps the one it has
  }
}

function finish(socket: WebSocket, code: number, complaint: string): void {
  if (socket.readyState !== socket.OPEN) return
  socket.send(Buffer.concat([Buffer.of(3), Buffer.from(JSON.stringify(endStatus(code, complaint)))]))
  socket.close(1000)
}

/** podrun dies, and its child with it (PR_SET_PDEATHSIG). */
function end(child: ChildProcess): void {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
