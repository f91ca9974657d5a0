/**
 * `twill lab up`: machines, then the control plane, then a kubelet a node, up to a cluster without a pod network.
 * Each step waits for its condition, with a deadline, and names the part that died if one did.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, copyFileSync, cpSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { Api, accessFromKubeconfig } from '#lab/api.ts'
import { makePki, writeKubeconfig } from '#lab/control/pki.ts'
import { createAll } from '#lab/create.ts'
import { labError } from '#lab/errors.ts'
import { cgroupTrees } from '#lab/nodes/cgroups.ts'
import { sweep } from '#lab/nodes/down.ts'
import { inNetns, nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import { controlDir, keptDir } from '#lab/nodes/files.ts'
import { run } from '#lab/nodes/run.ts'
import { clusterNet, controlPlaneNode, netns, netnsOf, type Topology } from '#lab/nodes/topology.ts'
import { until } from '#lab/nodes/until.ts'
import { logFile, makeNodes, outside } from '#lab/nodes/up.ts'
import { labEntry, nodeBinary, repo } from '#lab/repo.ts'
import { identify, isAlive, type LabState, type NodeState, type PartState, stateDir, writeState } from '#lab/state.ts'

/** kubeconfig for the machine itself, below the lab's state directory. */
export const hostKubeconfig = (lab: string): string => `${controlDir(lab)}/pki/admin-host.conf`

/** Builds the lab, having removed what an earlier one of this name left.
 * @param say  Told of each step as it is done.
 * @throws {TwillError} ERR_LAB_* */
export async function bringUp(topology: Topology, kubectl: string | undefined, say: (text: string) => void): Promise<LabState> {
  const { lab, nodes } = topology
  await sweep(lab)
  const listener = createServer()
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const apiPort = (listener.address() as { port: number }).port
  let state: LabState = {
    ...{ lab, createdAt: new Date().toISOString(), complete: false, apiPort },
    ...{ netns: netnsOf(topology), nodes: [], parts: [] },
  }
  const note = (change: Partial<LabState>): void => {
    state = { ...state, ...change }
    writeState(state)
  }
  const addPart = (part: PartState): void => note({ parts: [...state.parts, part] })
  note({})

  const pki = `${controlDir(lab)}/pki`
  const controlPlaneIp = nodes.find((n) => n.name === controlPlaneNode)!.ip
  const keys = makePki(pki, { nodes, controlPlaneIp }).then(() =>
    writeKubeconfig(pki, { file: 'admin-host.conf', server: `https://127.0.0.1:${apiPort}`, user: 'admin' }),
  )
  const [made] = await Promise.all([makeNodes(topology, cgroupTrees(), kubectl), keys])
  note({ nodes: made })
  for (const node of made) furnish(lab, node)
  say(`${made.length} nodes: ${made.map((n) => `${n.name} ${n.ip}`).join(', ')}`)

  const options = `${controlDir(lab)}/options.json`
  const { serviceCidr, podCidr, dns: clusterDns } = clusterNet
  const plane = {
    stateDir: controlDir(lab),
    nodes,
    controlPlaneNode,
    listenFd: 3,
    port: clusterNet.apiPort,
    serviceCidr,
    podCidr,
    clusterDns,
  }
  writeFileSync(options, JSON.stringify(plane))
  const topologyFile = `${stateDir(lab)}/topology.json`
  writeFileSync(topologyFile, JSON.stringify(topology))
  const first = made.find((n) => n.name === controlPlaneNode)!
  // The control plane's second listening socket was born in the machine's own network namespace; it is handed over as fd 3.
  const socket = (listener as unknown as { _handle: { fd: number } })._handle.fd
  const controlPlane = startPart(lab, 'control-plane', onNode(lab, first, part('control-plane', options)), { node: first.name, socket })
  listener.close()
  const internet = startPart(lab, 'internet', inNetns(lab, outside, netns.internet(lab), part('internet', topologyFile)))
  addPart(await controlPlane)
  addPart(await internet)
  const api = new Api(accessFromKubeconfig(readFileSync(hostKubeconfig(lab), 'utf8')))
  await answered(state, 'the API server', () => api.has('/readyz'))
  say(`the API server answers at https://127.0.0.1:${apiPort}, and in the nodes at https://${controlPlaneIp}:${clusterNet.apiPort}`)

  // The control plane's node registers first, as with kubeadm: it gets the first pod CIDR.
  await startKubelet(lab, first)
  await answered(state, `node ${first.name} to register`, () => api.has(`/api/v1/nodes/${first.name}`))
  // Cluster DNS is the last thing that kubeadm init installs, before workers join.
  await createAll(api, readFileSync(`${repo}/lab/manifests/coredns.yaml`, 'utf8'))
  await Promise.all(made.filter((n) => n !== first).map((n) => startKubelet(lab, n)))
  await Promise.all(made.map((n) => answered(state, `node ${n.name} to register`, () => api.has(`/api/v1/nodes/${n.name}`))))
  for (const node of made) addPart(kubeletPart(lab, node))
  note({ complete: true })
  say(`a kubelet on each node (a stand-in), all registered`)
  return state
}

const part = (...words: string[]): string[] => [nodeBinary, '--disable-warning=ExperimentalWarning', labEntry, 'part', ...words]

/** What kubeadm would have left on the node. */
function furnish(lab: string, node: NodeState): void {
  const pki = `${controlDir(lab)}/pki`
  const kubernetes = keptDir(lab, node.name, '/etc/kubernetes')
  mkdirSync(`${kubernetes}/pki`, { recursive: true })
  mkdirSync(`${kubernetes}/manifests`, { recursive: true })
  copyFileSync(`${pki}/ca.crt`, `${kubernetes}/pki/ca.crt`)
  copyFileSync(`${pki}/kubelet-${node.name}.conf`, `${kubernetes}/kubelet.conf`)
  for (const end of ['crt', 'key']) copyFileSync(`${pki}/kubelet-serving-${node.name}.${end}`, `${kubernetes}/pki/kubelet.${end}`)
  // Whoever runs kubeadm init names the address to advertise; joining workers is where --node-ip is forgotten.
  const nodeIp = node.name === controlPlaneNode ? `--node-ip=${node.ip} ` : ''
  writeFileSync(
    `${keptDir(lab, node.name, '/var/lib/kubelet')}/kubeadm-flags.env`,
    `KUBELET_KUBEADM_ARGS="${nodeIp}--container-runtime-endpoint=unix:///run/containerd/containerd.sock --pod-infra-container-image=registry.k8s.io/pause:3.10"\n`,
  )
  if (node.name !== controlPlaneNode) return
  copyFileSync(`${pki}/admin.conf`, `${kubernetes}/admin.conf`)
  cpSync(`${repo}/lab/manifests/static`, `${kubernetes}/manifests`, { recursive: true })
}

/** Starts one long-running program of the lab, detached, its output in its log. */
async function startPart(
  lab: string,
  name: string,
  argv: readonly string[],
  o: { node?: string; socket?: number } = {},
): Promise<PartState> {
  const path = logFile(lab, name)
  const log = openSync(path, 'w')
  const child: ChildProcess = spawn(argv[0]!, argv.slice(1), {
    stdio: ['ignore', log, log, ...(o.socket === undefined ? [] : [o.socket])],
    detached: true,
    cwd: '/',
    ...(o.node === undefined ? {} : { env: nodeEnvironment(o.node) }),
  })
  closeSync(log)
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (error) => reject(labError.ERR_LAB_COMMAND({ argv, status: -1, stderr: '' }, error)))
  })
  child.unref()
  return { ...identify(child.pid!)!, name, ...(o.node === undefined ? {} : { node: o.node }), log: path }
}

async function startKubelet(lab: string, node: NodeState): Promise<void> {
  await run(onNode(lab, node, ['systemctl', 'start', 'kubelet']), { env: nodeEnvironment(node.name), cwd: '/' })
}

/** The kubelet is started on its node, as a user would, and may be restarted: see alive.ts for what it is by now. */
function kubeletPart(lab: string, node: NodeState): PartState {
  return { ...node.init, name: `kubelet-${node.name}`, node: node.name, log: logFile(lab, `kubelet-${node.name}`) }
}

/** Waits until `condition` holds; says which part died, with its last lines, if one did. */
async function answered(state: LabState, waitingFor: string, condition: () => Promise<boolean>, deadlineMs = 30_000): Promise<void> {
  const dead = (): PartState | undefined => state.parts.find((p) => !isAlive(p))
  const held = await until(async () => (await condition()) || dead() !== undefined, { everyMs: 25, deadlineMs })
  const gone = dead()
  if (gone) {
    const log = readFileSync(gone.log, 'utf8').trim().split('\n').slice(-15).join('\n')
    throw labError.ERR_LAB_PART_DIED({ part: gone.name, waitingFor, log })
  }
  if (!held) throw labError.ERR_LAB_TIMEOUT({ waitingFor, seconds: deadlineMs / 1000, last: '' })
}
