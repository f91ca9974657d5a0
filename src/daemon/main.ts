/**
 * `twill agent`: flanneld's command line in, the agent's life, an exit status out.
 * What is not needed to answer the first health probe is loaded while that server already listens.
 * @module
 */
import { readFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { systemClock } from '#base/clock.ts'
import { messageOf, TwillError } from '#base/errors.ts'
import { type Log, openLog } from '#base/log.ts'
import { VERSION } from '#base/version.ts'
import { configError } from '#config/errors.ts'
import type { Flags } from '#config/flags.ts'
import { type NetConf, parseNetConf } from '#config/net-conf.ts'
import { type CommandLine, type Environment, parseCommandLine, shownFlags, usage } from '#config/parse.ts'
import { annotationPrefix } from '#config/prefix.ts'
import { Agent, type AgentParts } from '#daemon/agent.ts'
import { startHealth, startStatusSocket } from '#daemon/listen.ts'
import { metricsOf } from '#daemon/metrics.ts'
import { planOf, statusOf } from '#daemon/status.ts'
import type { FileItem } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'
import type { Backend } from '#plan/backends/backend.ts'
import { STOCK_CONFLIST } from '#plan/files.ts'

/** Socket of `twill status`, below --run-dir. */
export const STATUS_SOCKET = 'agent.sock'

/** Runs the agent until a signal. @returns the exit status: 0 clean stop, help, version; 1 what no waiting can mend; 2 bad flags. */
export async function runAgent(argv: readonly string[], env: Environment): Promise<number> {
  let line: CommandLine
  try {
    line = parseCommandLine(argv, env)
  } catch (error) {
    const { message, remedy } = error as TwillError
    process.stderr.write(`${message}\n${remedy}\n`)
    return 2
  }
  if (line.ask !== 'run') {
    process.stderr.write(line.ask === 'help' ? usage() : `${VERSION}\n`)
    return 0
  }
  const log = openLog('twill', line.flags.v >= 2 ? 'debug' : 'info')
  log.info({ version: VERSION, pid: process.pid, flags: shownFlags(line.flags) }, 'starting')
  if (line.rest.length > 0) log.warn({ words: line.rest }, 'words after the flags are ignored, as flanneld does')
  const servers: Server[] = []
  try {
    await live(line.flags, env, log, servers)
    log.info({}, 'stopped; the data plane stays as it is')
    return 0
  } catch (error) {
    log.error(
      { ...(error instanceof TwillError && { code: error.code, remedy: error.remedy }), stack: (error as Error).stack },
      messageOf(error),
    )
    return 1
  } finally {
    for (const server of servers) server.close().closeAllConnections()
  }
}

async function live(flags: Flags, env: Environment, log: Log, servers: Server[]): Promise<void> {
  const stop = new AbortController()
  // The second signal kills at once, as the handler is gone by then.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

  let agent: Agent | undefined
  if (flags['healthz-port'] > 0) {
    servers.push(
      await startHealth({
        ip: flags['healthz-ip'],
        port: flags['healthz-port'],
        ready: () => agent?.ready ?? false,
        metrics: () => agent && metricsOf(statusOf(agent)),
      }),
    )
  }
  agent = new Agent(await parts(flags, env, log))
  const answers = { '/status': () => statusOf(agent), '/plan': () => planOf(agent) }
  servers.push(await startStatusSocket(join(flags['run-dir'], STATUS_SOCKET), answers, () => metricsOf(statusOf(agent))))
  await agent.run(stop.signal)
}

/** The real world for an agent. */
async function parts(flags: Flags, env: Environment, log: Log): Promise<AgentParts> {
  if (!flags['kube-subnet-mgr']) throw configError.ERR_ETCD_MODE({ endpoints: flags['etcd-endpoints'] })
  const conf = readNetConf(flags['net-config-path'])
  const prefix = annotationPrefix(flags['kube-annotation-prefix'])
  const [{ openLinux }, { openCluster }, { releaseMemory }] = await Promise.all([
    import('#kernel/linux.ts'),
    import('#cluster/cluster.ts'),
    import('#kernel/memory.ts'),
  ])
  return {
    flags,
    conf,
    prefix,
    env,
    log,
    clock: systemClock,
    openKernel: openLinux,
    cluster: openCluster({
      kubeApiUrl: flags['kube-api-url'] || undefined,
      kubeconfigFile: flags['kubeconfig-file'] || undefined,
      env,
      annotationPrefix: prefix,
      services: flags.services,
      log,
      clock: systemClock,
    }),
    ...(flags.cni && { openDoor: (pods) => openDoor(flags, networkOf(conflistOf(flags)), log, pods), conflist: conflistOf(flags) }),
    ...(env.NOTIFY_SOCKET && { notify: await notifier(env.NOTIFY_SOCKET, log) }),
    sinceExecMs,
    onQuiet: releaseMemory,
  }
}

/** To the service manager (systemd, Type=notify) that started us. That it does not listen is no reason to stop. */
async function notifier(socket: string, log: Log): Promise<(state: string) => void> {
  const { notifyManager } = await import('#kernel/notify.ts')
  return (state) => {
    try {
      notifyManager(socket, state)
    } catch (error) {
      log.warn({ socket, state, err: messageOf(error) }, 'could not tell the service manager')
    }
  }
}

async function openDoor(flags: Flags, network: string | undefined, log: Log, kernel: Parameters<NonNullable<AgentParts['openDoor']>>[0]) {
  const [{ startCniServer }, { lockFile }, { ReferenceRules }] = await Promise.all([
    import('#cni/server.ts'),
    import('#kernel/lock.ts'),
    import('#kernel/reference-rules.ts'),
  ])
  const reference = ReferenceRules.open()
  const server = await startCniServer({
    runDir: flags['run-dir'],
    kernel,
    takeLock: (path) => lockFile(path, systemClock),
    clock: systemClock,
    log,
    flannel: { subnetFile: flags['subnet-file'], dataDir: '/var/lib/cni/flannel' },
    ...(network !== undefined && { network }),
    removeReferenceRules: (key) => reference.remove(key),
    listReferencePorts: () => reference.list(),
  })
  return { count: () => server.attachments().length, close: () => server.close().finally(() => reference.close()) }
}

function readNetConf(path: string): NetConf<Backend> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw configError.ERR_NET_CONF_READ({ path }, error)
  }
  return parseNetConf(text, path, backends)
}

/** The ConfigMap's conflist where it is mounted, else the stock one: byte for byte either way. */
function conflistOf(flags: Flags): FileItem {
  const content = readFile(flags['cni-conf-source']) ?? STOCK_CONFLIST
  return { kind: 'file', path: join(flags['cni-conf-dir'], flags['cni-conf-file']), content, mode: 0o644 }
}

/** The name of the network in a conflist; undefined if it is none: the runtime says so for every pod. */
function networkOf({ content }: FileItem): string | undefined {
  try {
    const { name } = JSON.parse(content) as { name?: unknown }
    return typeof name === 'string' && name !== '' ? name : undefined
  } catch {
    return undefined
  }
}

function readFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** Milliseconds since exec, which is earlier than JavaScript: the process started `process.uptime()` ago. */
const sinceExecMs = (): number => process.uptime() * 1000
