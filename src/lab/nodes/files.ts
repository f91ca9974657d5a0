/**
 * What lies in a node's file system: directories that outlive its processes, and files of its own over the machine's.
 * Written to <state>/nodes/<node>/ for lab/node-init.sh to mount and copy.
 * @module
 */
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { CgroupTrees } from '#lab/nodes/cgroups.ts'
import { mountsBesideRoot, readMounts } from '#lab/nodes/mounts.ts'
import { controlPlaneNode, type LabNode, natNet, type Topology } from '#lab/nodes/topology.ts'
import { labEntry, nodeBinary, nodePath, repo } from '#lab/repo.ts'
import { stateDir } from '#lab/state.ts'

/** Directories of a node that are kept in <state>/nodes/<node>/, by their path in the node. */
const kept = [
  '/var/lib/kubelet',
  '/var/lib/cni',
  '/var/lib/containerd',
  '/opt/cni/bin',
  '/etc/cni/net.d',
  '/etc/kubernetes',
  '/etc/kube-flannel',
  '/etc/containerd',
  '/var/log/pods',
  '/var/log/containers',
] as const

export type KeptDirectory = (typeof kept)[number]

export const nodeDir = (lab: string, node: string): string => `${stateDir(lab)}/nodes/${node}`

/** Where the node's directory `path` lies on the machine. */
export const keptDir = (lab: string, node: string, path: KeptDirectory): string =>
  `${nodeDir(lab, node)}/kept/${path.slice(1).replaceAll('/', '-')}`

/** The API server's directory, seen at the same path by the machine and by the control plane node. */
export const controlDir = (lab: string): string => `${stateDir(lab)}/control`

/** Prepares a node's directory. @param kubectl  The kubectl that the node shall see, if there is one. */
export function prepareNode(topology: Topology, node: LabNode, trees: CgroupTrees, kubectl: string | undefined): void {
  const dir = nodeDir(topology.lab, node.name)
  mkdirSync(`${dir}/root`, { recursive: true })
  for (const path of kept) mkdirSync(keptDir(topology.lab, node.name, path), { recursive: true })
  writeFileSync(`${dir}/cgroups`, lines([...trees.v1, trees.v2]))
  writeFileSync(`${dir}/dirs`, lines(mountsOf(topology.lab, node, kubectl).map((mount) => mount.join('\t'))))
  for (const [path, text] of Object.entries(filesOf(topology, node))) {
    mkdirSync(dirname(`${dir}/files${path}`), { recursive: true })
    writeFileSync(`${dir}/files${path}`, text)
  }
  const bin = `${dir}/files/usr/local/bin`
  mkdirSync(bin, { recursive: true })
  const ready = `${repo}/lab/node-files`
  if (existsSync(ready)) for (const name of readdirSync(ready)) copyFileSync(`${ready}/${name}`, `${bin}/${name}`)
  const part = (name: string): string => `#!/bin/sh\nexec ${nodeBinary} --disable-warning=ExperimentalWarning ${labEntry} part ${name}\n`
  if (kubectl) symlinkSync(kubectl, `${bin}/kubectl`)
  else writeFileSync(`${bin}/kubectl`, part('kubectl "$@"'), { mode: 0o755 })
  writeFileSync(`${bin}/twill-lab-kubelet`, part('kubelet'), { mode: 0o755 })
  mkdirSync(`${dir}/files/root`, { recursive: true })
  copyFileSync(`${repo}/lab/manifests/host-pod.yaml`, `${dir}/files/root/host-pod.yml`)
  const webPod = readFileSync(`${repo}/lab/manifests/webpod.yaml`, 'utf8')
  writeFileSync(`${dir}/files/root/webpod.yml`, sizedFor(topology.nodes.length, webPod))
}

/** Web pods that `nodes` nodes have room for: each wants a worker of its own. */
export const webReplicas = (nodes: number): number => Math.min(2, Math.max(1, nodes - 1))

/** The sample application for so many nodes: where there is no worker, its pod goes to the control plane. */
function sizedFor(nodes: number, manifest: string): string {
  const toleration = '      tolerations:\n        - key: node-role.kubernetes.io/control-plane\n          effect: NoSchedule\n'
  return manifest
    .replace(/^ {2}replicas: \d+$/m, `  replicas: ${webReplicas(nodes)}`)
    .replace(/^ {6}affinity:$/m, (line) => (nodes === 1 ? toleration : '') + line)
}

/** Bind mounts: source, target, options. */
function mountsOf(lab: string, node: LabNode, kubectl: string | undefined): [string, string, string][] {
  const seen = (dir: string): [string, string, string] => [dir, dir, 'ro']
  return [
    ...mountsBesideRoot(readMounts()).map(seen),
    seen(repo),
    // Below /usr the node's root shows it; one that the lab built lies in a home directory, which a node has its own of.
    ...(kubectl && !kubectl.startsWith('/usr/') ? [seen(dirname(kubectl))] : []),
    ...kept.map((path): [string, string, string] => [keptDir(lab, node.name, path), path, '']),
    ...(node.name === controlPlaneNode ? [[controlDir(lab), controlDir(lab), ''] as [string, string, string]] : []),
  ]
}

function filesOf(topology: Topology, node: LabNode): Record<string, string> {
  const { lab, nodes } = topology
  return {
    '/etc/hostname': `${node.name}\n`,
    '/etc/hosts': lines(['127.0.0.1 localhost', ...nodes.map((n) => `${n.ip} ${n.name}`)]),
    '/etc/resolv.conf': `nameserver ${natNet.dns}\n`,
    '/etc/machine-id': `${createHash('md5').update(`${lab}/${node.name}`).digest('hex')}\n`,
    '/root/.bash_profile': `${lines([
      `export PATH=${nodePath}`,
      ...(node.name === controlPlaneNode ? ['export KUBECONFIG=/etc/kubernetes/admin.conf'] : []),
      `PS1='root@\\h:\\w# '`,
      'alias k=kubectl',
    ])}`,
  }
}

const lines = (items: readonly string[]): string => items.map((item) => `${item}\n`).join('')
