/**
 * What the kubelet is told: KUBELET_KUBEADM_ARGS, and where things lie on a node. Read once; `systemctl restart kubelet` reads it anew.
 * @module
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { readMounts } from '#lab/nodes/mounts.ts'

/** Where a kubelet and its runtime keep things, as kubeadm and containerd have them. Tests move them. */
export interface Paths {
  readonly kubeadmFlags: string
  readonly kubeconfig: string
  readonly manifests: string
  readonly kubelet: string
  readonly podLogs: string
  readonly containerLogs: string
  readonly netns: string
  readonly cniConf: string
  readonly cniBin: string
  readonly cniCache: string
  /** Directories where the serving pair may lie: kubelet.crt and .key, or kubelet-serving-<node>.crt and .key. */
  readonly pki: readonly string[]
  readonly pidFile: string
}

export const nodePaths: Paths = {
  kubeadmFlags: '/var/lib/kubelet/kubeadm-flags.env',
  kubeconfig: '/etc/kubernetes/kubelet.conf',
  manifests: '/etc/kubernetes/manifests',
  kubelet: '/var/lib/kubelet',
  podLogs: '/var/log/pods',
  containerLogs: '/var/log/containers',
  netns: '/var/run/netns',
  cniConf: '/etc/cni/net.d',
  cniBin: '/opt/cni/bin',
  cniCache: '/var/lib/cni/results',
  pki: ['/var/lib/kubelet/pki', '/etc/kubernetes/pki'],
  pidFile: '/run/kubelet.pid',
}

export interface KubeletConfig {
  readonly node: string
  /** --node-ip if given, else the address of the interface with the default route: 10.0.2.15 on every node of this lab. */
  readonly nodeIp: string
  readonly controlPlane: boolean
  readonly clusterDns: string
  readonly clusterDomain: string
  readonly paths: Paths
  /** The node's cgroup2 directory, or undefined if no cgroup2 tree is to be seen. */
  readonly cgroup: string | undefined
  readonly port: number
}

/** The flags in `KUBELET_KUBEADM_ARGS="--a=b --c d"`. A flag without a value is 'true', as the real kubelet's booleans. */
export function parseKubeadmFlags(text: string): Map<string, string> {
  const flags = new Map<string, string>()
  const line = text
    .split('\n')
    .findLast((l) => /^\s*KUBELET_KUBEADM_ARGS=/.test(l))
    ?.replace(/^\s*KUBELET_KUBEADM_ARGS=/, '')
    .trim()
  const words = (line ?? '')
    .replace(/^(["'])(.*)\1$/, '$2')
    .split(/\s+/)
    .filter(Boolean)
  for (let i = 0; i < words.length; i++) {
    const [, name, value] = /^--?([^=]+)(?:=(.*))?$/.exec(words[i]!) ?? []
    if (name === undefined) throw new Error(`KUBELET_KUBEADM_ARGS: "${words[i]}" is no flag; write --name=value`)
    if (value !== undefined) flags.set(name, value)
    else if (words[i + 1] !== undefined && !words[i + 1]!.startsWith('-')) flags.set(name, words[++i]!)
    else flags.set(name, 'true')
  }
  return flags
}

/** @throws {Error} if the flags cannot be read or --node-ip is no address of this node: the real kubelet ends then too. */
export function readConfig(argv: readonly string[], paths: Paths = nodePaths): KubeletConfig {
  const flags = existsSync(paths.kubeadmFlags) ? parseKubeadmFlags(readFileSync(paths.kubeadmFlags, 'utf8')) : new Map<string, string>()
  const node = flags.get('hostname-override') ?? hostname()
  const nodeIp = flags.get('node-ip')?.split(',')[0] || defaultRouteAddress(readFileSync('/proc/net/route', 'utf8'))
  if (nodeIp === undefined) throw new Error('no --node-ip, and no interface with a default route to take the address of')
  const local = localAddresses().map(({ local }) => local)
  if (!local.includes(nodeIp)) {
    throw new Error(`--node-ip=${nodeIp} in ${paths.kubeadmFlags} is no address of this node; it has ${[...new Set(local)].join(', ')}`)
  }
  return {
    node,
    nodeIp,
    controlPlane: argv.includes('--control-plane') || existsSync(`${paths.manifests}/kube-apiserver.yaml`),
    clusterDns: flags.get('cluster-dns') ?? '10.96.0.10',
    clusterDomain: flags.get('cluster-domain') ?? 'cluster.local',
    paths,
    cgroup: nodeCgroup(readFileSync('/proc/1/cgroup', 'utf8')),
    port: Number(flags.get('port') ?? 10250),
  }
}

/** First IPv4 address of the interface that /proc/net/route gives the default route with the least metric. */
export function defaultRouteAddress(routes: string): string | undefined {
  const device = routes
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((f) => f[1] === '00000000' && f[7] === '00000000')
    .toSorted((a, b) => Number(a[6]) - Number(b[6]))[0]?.[0]
  return device === undefined ? undefined : localAddresses().find((one) => one.device === device && one.family === 'inet')?.local
}

interface LocalAddress {
  readonly device: string
  readonly family: 'inet' | 'inet6'
  readonly local: string
}

/** Every address of the node. os.networkInterfaces() leaves out devices that are not RUNNING, which the kernel tells of a device
 * that is up as late as a second after (net/core/link_watch.c); the real kubelet takes them all. */
function localAddresses(): LocalAddress[] {
  const devices = JSON.parse(execFileSync('ip', ['-j', 'addr'], { encoding: 'utf8' })) as {
    readonly ifname: string
    readonly addr_info?: readonly Pick<LocalAddress, 'family' | 'local'>[]
  }[]
  return devices.flatMap(({ ifname, addr_info = [] }) => addr_info.map(({ family, local }) => ({ device: ifname, family, local })))
}

/** The node's directory in the cgroup2 tree: that of its pid 1, which the lab keeps in `<node>/system`. */
function nodeCgroup(pid1: string): string | undefined {
  const path = /^0::(.*)$/m.exec(pid1)?.[1]
  const mount = readMounts().find((m) => m.type === 'cgroup2')
  if (path === undefined || !mount || path.startsWith('/..')) return undefined
  const dir = `${mount.target}${path === '/' ? '' : path}`
  if (!existsSync(dir)) return undefined
  return dir.endsWith('/system') ? dirname(dir) : dir
}
