/** Facts of this node for the doctor: the agent's word, the kernel read natively, and files. Nothing is changed. */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { TwillError } from '#base/errors.ts'
import { VERSION } from '#base/version.ts'
import { ask } from '#cli/ask.ts'
import { type BookPaths, readBooks, readConfs } from '#cni/books.ts'
import { parseSubnetEnv } from '#cni/subnet-env.ts'
import { openLinux } from '#kernel/linux.ts'
import { readSysctl } from '#kernel/sysctl.ts'
import type { Kernel } from '#model/kernel.ts'
import type { StatusDocument } from '#model/status.ts'
import type { AgentFacts, Facts, FileFacts, KernelFacts } from '#plan/doctor/facts.ts'
import { sysctlsOf } from '#plan/doctor/kernel.ts'

/** Where things lie on a node; tests move them. */
export interface NodePaths extends BookPaths {
  readonly binDir: string
  readonly subnetFile: string
  readonly kubeletFlags: string
}

export const nodePaths: NodePaths = {
  confDir: '/etc/cni/net.d',
  binDir: '/opt/cni/bin',
  subnetFile: '/run/flannel/subnet.env',
  networks: '/var/lib/cni/networks',
  results: '/var/lib/cni/results',
  runDir: '/run/twill',
  scratch: '/var/lib/cni/flannel',
  kubeletFlags: '/var/lib/kubelet/kubeadm-flags.env',
}

export type LocalFacts = Omit<Facts, 'probes' | 'cluster' | 'trouble' | 'forwarding'>

/** Everything that this node tells without asking another. @throws {TwillError} ERR_NETLINK_SOCKET without the right to look. */
export async function lookAround(o: { socket: string; paths?: NodePaths; patienceMs?: number }): Promise<LocalFacts> {
  const paths = o.paths ?? nodePaths
  const kernel = await openLinux()
  try {
    const [agent, host] = await Promise.all([askAgent(o.socket, o.patienceMs ?? 3000), kernel.host()])
    const devices = host.links.filter(({ kind, name }) => kind === 'vxlan' && name.startsWith('flannel')).map(({ name }) => name)
    return {
      hostname: hostname(),
      version: VERSION,
      host,
      ...agent,
      kernel: await lookIntoKernel(kernel, [...devices, 'cni0'], host.links),
      files: readFiles(paths),
    }
  } finally {
    await kernel.close()
  }
}

async function askAgent(socket: string, patienceMs: number): Promise<{ agent: AgentFacts; status?: StatusDocument }> {
  const process = agentProcess()
  if (process?.stopped) return { agent: { state: 'silent', process } } // no use to wait for its answer
  try {
    return { agent: { state: 'answers' }, status: await ask<StatusDocument>(socket, '/status', patienceMs) }
  } catch (error) {
    if (!(error instanceof TwillError)) throw error
    return { agent: { state: process ? 'silent' : 'absent', ...(process && { process }) } }
  }
}

/** The agent among this node's processes: a Node that runs agent.mjs. */
function agentProcess(): AgentFacts['process'] {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const words = read(`/proc/${name}/cmdline`)?.split('\0')
    if (!words?.[0]?.endsWith('node') || !words.some((one) => one.endsWith('/agent.mjs'))) continue
    const state = /\) (\w)/.exec(read(`/proc/${name}/stat`) ?? '')?.[1]
    return { pid: Number(name), stopped: state === 'T' }
  }
  return undefined
}

async function lookIntoKernel(kernel: Kernel, devices: string[], links: readonly { name: string }[]): Promise<KernelFacts> {
  const items = await kernel.dump({
    links: devices,
    bridges: [],
    routeProtocol: 0,
    routeLinks: [],
    nftTables: [],
    sysctls: [],
    files: [],
  })
  const of = <K extends string>(kind: K) => items.filter((item): item is Extract<typeof item, { kind: K }> => item.kind === kind)
  const sysctls: Record<string, string> = {}
  for (const path of sysctlsOf(links.map(({ name }) => name))) {
    const value = readSysctl(path)
    if (value !== undefined) sysctls[path] = value
  }
  return {
    links: of('link').filter(({ name }) => devices.includes(name)),
    neighbors: of('neighbor'),
    fdb: of('fdb'),
    sysctls,
    routes: {},
  }
}

/** The way of a packet to each of `ips`. */
export async function routesTo(ips: readonly string[]): Promise<KernelFacts['routes']> {
  const kernel = await openLinux()
  try {
    const found = await Promise.all(ips.map(async (ip) => [ip, await kernel.routeTo(ip)] as const))
    return Object.fromEntries(found.filter((one): one is [string, NonNullable<(typeof one)[1]>] => one[1] !== undefined))
  } finally {
    await kernel.close()
  }
}

function readFiles(paths: NodePaths): FileFacts {
  const env = subnetEnv(paths.subnetFile)
  const flags = read(paths.kubeletFlags)
  const nodeIp = flags && /--node-ip[= ]([^\s"]+)/.exec(flags)?.[1]
  return {
    ...(env && { subnetEnv: env }),
    confDir: paths.confDir,
    confs: readConfs(paths.confDir),
    binDir: paths.binDir,
    plugins: list(paths.binDir).filter((name) => executable(join(paths.binDir, name))),
    addresses: readBooks(paths),
    ...(flags !== undefined && { kubelet: { path: paths.kubeletFlags, ...(nodeIp && { nodeIp }) } }),
    programs: ['iptables', 'iptables-nft', 'nft', 'ufw', 'firewall-cmd', 'ethtool'].filter((name) =>
      (process.env.PATH ?? '').split(':').some((dir) => executable(join(dir, name))),
    ),
  }
}

function subnetEnv(path: string): FileFacts['subnetEnv'] {
  try {
    const { networks, subnets, mtu } = parseSubnetEnv(read(path) ?? '', path)
    return { path, network: networks[0]!, subnet: subnets[0]!, mtu }
  } catch {
    return undefined // the CNI plugin says why, to whoever asks for a pod
  }
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}
