/**
 * The agent's end of the CNI socket: takes the shim's requests, one a connection, and answers them.
 *
 * One request at a time an interface, a bounded number in all; the rest waits in line. A connection that closes before its
 * answer has no one waiting any more (the runtime kills the shim at its deadline): its ADD takes itself back. As a DEL of the
 * same interface waits for that ADD to end, no ADD can outlive a DEL that came after it.
 * @module
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import type { Clock } from '#base/clock.ts'
import type { Log } from '#base/log.ts'
import { adopt } from '#cni/adopt.ts'
import { Attachments } from '#cni/attachments.ts'
import { cniError } from '#cni/errors.ts'
import { CniError, cniCode, failureAnswer } from '#cni/failure.ts'
import { type FlannelPaths, removeScratch } from '#cni/flannel.ts'
import { HostPorts } from '#cni/hostports.ts'
import type { Caller, PodKernel, RemoveReferenceRules } from '#cni/kernel.ts'
import { Network } from '#cni/network.ts'
import { callPlugin, type PluginContext } from '#cni/plugins.ts'
import { decodeRequest, encodeAnswer, encodeErrand, frameLength, HEADER_BYTES, MAX_FRAME_BYTES, type RawRequest } from '#cni/protocol.ts'
import { replayDeletes } from '#cni/queue.ts'
import { type Boot, freeAfterReboot, noteBoot, notesAreOf, runningBoot } from '#cni/reboot.ts'
import { parseRequest } from '#cni/request.ts'
import type { TakeLock } from '#cni/store.ts'
import { Turns } from '#cni/turns.ts'
import { sweepHalfWritten } from '#cni/whole-file.ts'
import type { Courier } from '#model/kernel.ts'
import type { Attachment, CniAnswer, ReferencePorts } from '#model/pod.ts'

export interface CniServerOptions {
  /** Directory of the socket, the delete queue and the journal: /run/twill. */
  readonly runDir: string
  readonly kernel: PodKernel
  readonly takeLock: TakeLock
  readonly clock: Clock
  readonly log: Log
  readonly flannel?: FlannelPaths
  /** Absent: nothing is looked for. */
  readonly removeReferenceRules?: RemoveReferenceRules
  /** hostPorts in the reference portmap's rules. Absent: nothing is looked for. */
  readonly listReferencePorts?: () => Promise<readonly ReferencePorts[]>
  /** host-local's directory; /var/lib/cni/networks. */
  readonly networksDir?: string
  /** libcni's cache, which tells of pods that the reference plugins made; /var/lib/cni/results. */
  readonly resultsDir?: string
  /** Name of our network, cbr0: after a reboot its addresses are freed; other networks' plugins are those whose place ours took, if
   * there were any. Absent: no one's addresses are freed, and every network is ours. */
  readonly network?: string
  /** Tests have reboots of their own. */
  readonly boot?: Boot
  /** Requests carried out at once. */
  readonly concurrency?: number
}

export interface CniServer {
  readonly socketPath: string
  /** The pod interfaces in place. */
  attachments(): Attachment[]
  /** Stops listening and lets what has begun come to its end. */
  close(): Promise<void>
}

/** As many pods as a node has by default, 110, and some: those of a burst of DELs wait for the kernel together. */
const AT_ONCE = 128
const RETRY_QUEUE_MS = 30_000
const IDLE_MS = 10_000

/** Serves CNI. Resolves when what the last agent left is taken over and the delete queue is done: the node can take pods.
 * @throws {TwillError} ERR_CNI_SOCKET_BUSY */
export async function startCniServer(o: CniServerOptions): Promise<CniServer> {
  const socketPath = `${o.runDir}/cni.sock`
  mkdirSync(o.runDir, { recursive: true, mode: 0o700 })
  chmodSync(o.runDir, 0o700)
  const { attachments, unfinished } = Attachments.open(`${o.runDir}/attachments`)
  const { kernel, takeLock, clock, log } = o
  const networksDir = o.networksDir ?? '/var/lib/cni/networks'
  const network = new Network({ kernel, attachments, takeLock, clock, log, dataDir: networksDir })
  const flannel = o.flannel ?? { subnetFile: '/run/flannel/subnet.env', dataDir: '/var/lib/cni/flannel' }
  sweepHalfWritten(flannel.dataDir)
  const hostPorts = HostPorts.open({ dir: `${o.runDir}/hostports`, kernel, log })
  const removeReferenceRules = o.removeReferenceRules ?? (() => Promise.resolve(0))
  const context: PluginContext = {
    ...{ network, kernel, flannel, hostPorts, removeReferenceRules },
    ...(o.network === undefined ? {} : { ownNetwork: o.network }),
  }
  const turns = new Turns(o.concurrency ?? AT_ONCE)
  const answer = (request: RawRequest, caller: Caller): Promise<CniAnswer> => answerRequest(request, context, turns, o, caller)

  const closing = new AbortController()
  const takenOver = Promise.withResolvers<void>()
  const open = new Set<Promise<void>>()
  // The socket is open before the queue is read: a shim that found it closed has its file in the queue by then.
  const server = await listen(socketPath, (socket) => {
    const served = serve(socket, log, async (request, caller) => {
      await takenOver.promise
      return answer(request, caller)
    }).finally(() => open.delete(served))
    open.add(served)
  })
  const boot = o.boot ?? runningBoot()
  const notes = notesAreOf(o.runDir, boot)
  if (notes === 'an earlier boot') {
    const ended = [...attachments.entries(), ...unfinished]
    hostPorts.bury()
    await network.bury(ended)
    for (const { attachment } of ended) removeScratch(flannel.dataDir, attachment.containerId)
    log.info({ pods: ended.length }, 'this machine was rebooted: forgot the pods of before')
  }
  await hostPorts.resume()
  await adopt({
    attachments,
    hostPorts,
    kernel,
    removeReferenceRules,
    listReferencePorts: o.listReferencePorts ?? (() => Promise.resolve([])),
    log,
    resultsDir: o.resultsDir ?? '/var/lib/cni/results',
    flannelDir: flannel.dataDir,
    networksDir,
  })
  if (notes !== 'this boot' && o.network !== undefined)
    await freeAfterReboot({
      boot,
      certain: notes === 'an earlier boot',
      name: o.network,
      networksDir,
      flannel,
      network,
      attachments,
      kernel,
      log,
    })
  noteBoot(o.runDir, boot)
  await network.resume(notes === 'an earlier boot' ? [] : unfinished)
  const replay = (): Promise<number> =>
    replayDeletes(`${o.runDir}/delete-queue`, log, (request) => answer(request, { gone: new AbortController().signal }))
  let left = await replay()
  takenOver.resolve()
  const retrying = (async () => {
    while (left > 0 && !closing.signal.aborted) {
      await clock.sleep(RETRY_QUEUE_MS, closing.signal)
      if (!closing.signal.aborted) left = await replay()
    }
  })()
  return {
    socketPath,
    attachments: () => attachments.list(),
    async close() {
      closing.abort()
      server.close()
      await Promise.all([retrying, ...open])
    },
  }
}

/** One request, judged, done in its turn, and answered whatever happens. */
async function answerRequest(
  request: RawRequest,
  context: PluginContext,
  turns: Turns,
  { log, clock }: Pick<CniServerOptions, 'log' | 'clock'>,
  caller: Caller,
): Promise<CniAnswer> {
  const began = clock.now()
  const about = {
    plugin: request.env.get('PLUGIN'),
    command: request.env.get('CNI_COMMAND'),
    containerId: request.env.get('CNI_CONTAINERID'),
  }
  try {
    const call = parseRequest(request)
    const carryOut = (): Promise<string> => {
      if (call.command === 'ADD' && caller.gone.aborted) throw new CniError(cniCode.tryAgainLater, 'the runtime went away before ADD began')
      return callPlugin(call, context, caller)
    }
    // A plugin that we have run calls us again: its turn is part of the one that waits for it.
    const stdout = await (call.depth > 0 ? carryOut() : turns.run(`${call.containerId}/${call.ifname}`, carryOut))
    log.info({ ...about, ifname: call.ifname, ms: Math.round((clock.now() - began) * 10) / 10 }, 'CNI request done')
    if (Buffer.byteLength(stdout) > MAX_FRAME_BYTES - HEADER_BYTES) throw new CniError(cniCode.generic, 'the result is larger than 1 MiB')
    return { exit: 0, stdout }
  } catch (error) {
    const answer = failureAnswer(error)
    log.warn({ ...about, answer: JSON.parse(answer.stdout) as object }, 'CNI request failed')
    return answer
  }
}

/** Reads one request from `socket`, hands it to `answer` and writes what comes; errands go out and their reports come in
 * between. Resolves when the socket is closed. */
function serve(socket: Socket, log: Log, answer: (request: RawRequest, caller: Caller) => Promise<CniAnswer>): Promise<void> {
  const gone = new AbortController()
  let unread: Buffer = Buffer.alloc(0)
  let working: Promise<void> | undefined
  let reported: ((report: Uint8Array | undefined) => void) | undefined
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.once('close', () => {
    gone.abort()
    reported?.(undefined)
  })
  socket.on('error', (error) => log.debug({ err: error.message }, 'CNI connection'))
  socket.setTimeout(IDLE_MS, () => {
    if (working === undefined) socket.destroy()
  })
  const reply = (one: CniAnswer): void => {
    if (!socket.destroyed) socket.end(encodeAnswer(one))
  }
  const refuse = (problem: string): void => {
    if (working) return void socket.destroy() // it has been asked for a report and sends something else
    socket.removeAllListeners('data')
    reply(failureAnswer(new CniError(cniCode.tryAgainLater, problem)))
    socket.resume()
  }
  const courier: Courier = (program) =>
    new Promise((resolve) => {
      if (gone.signal.aborted) return resolve(undefined)
      reported = resolve
      socket.write(encodeErrand(program))
    })
  const take = (frame: Buffer): void => {
    if (working && reported) {
      reported(frame.subarray(HEADER_BYTES))
      reported = undefined
      return
    }
    const request = working ? undefined : decodeRequest(frame)
    if (request === undefined) refuse('the environment of the request has no end')
    else working = answer(request, { gone: gone.signal, courier }).then(reply)
  }
  socket.on('data', (chunk: Buffer) => {
    unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk])
    if (unread.length > MAX_FRAME_BYTES) return refuse('the request is larger than 1 MiB')
    const header = frameLength(unread)
    if (header === undefined) return
    if ('problem' in header) return refuse(header.problem)
    if (unread.length < header.length) return
    const frame = unread.subarray(0, header.length)
    unread = unread.subarray(header.length)
    take(frame)
  })
  return closed.then(() => working)
}

/** Listens on `path` for root alone. A socket file that no one answers is what a killed agent left. */
async function listen(path: string, serveOne: (socket: Socket) => void): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  if (await someoneAnswers(path)) throw cniError.ERR_CNI_SOCKET_BUSY({ path })
  rmSync(path, { force: true })
  const server = createServer(serveOne)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog: 1024 }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  chmodSync(path, 0o600)
  return server
}

function someoneAnswers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
