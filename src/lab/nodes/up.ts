/**
 * Makes the lab's machines: namespaces and cables by iproute2, then each node's pid 1 by util-linux and lab/node-init.sh.
 * Everything is named after the lab or lives in its cgroup before it does anything, so `sweep` finds it whenever this ends.
 * @module
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { addAbortSignal, type Readable } from 'node:stream'
import { labError } from '#lab/errors.ts'
import { loadBridgeFilter } from '#lab/nodes/bridge-filter.ts'
import { type CgroupTrees, makeCgroup } from '#lab/nodes/cgroups.ts'
import { controlDir, nodeDir, prepareNode } from '#lab/nodes/files.ts'
import { cables, wirings } from '#lab/nodes/links.ts'
import { ensurePause } from '#lab/nodes/pause.ts'
import { run } from '#lab/nodes/run.ts'
import { type LabNode, netns, type Topology } from '#lab/nodes/topology.ts'
import { repo } from '#lab/repo.ts'
import { identify, type NodeState, stateDir } from '#lab/state.ts'

export const logFile = (lab: string, name: string): string => `${stateDir(lab)}/logs/${name}.log`
/** The file that names the cgroup.procs files of `owner`, for lab/join.sh. */
export const procsFile = (lab: string, owner: string): string => `${stateDir(lab)}/cgroups/${owner}`
/** What lives outside of the nodes (the internet's servers) has a cgroup of this name. */
export const outside = 'outside'

/** Makes all machines at once; resolves when every node's root, mounts and links stand. */
export async function makeNodes(topology: Topology, trees: CgroupTrees, kubectl: string | undefined): Promise<NodeState[]> {
  const { lab, nodes } = topology
  for (const dir of ['logs', 'cgroups', 'nodes', 'control']) mkdirSync(`${stateDir(lab)}/${dir}`, { recursive: true, mode: 0o700 })
  mkdirSync(controlDir(lab), { recursive: true })
  for (const owner of [outside, ...nodes.map((n) => n.name)])
    writeFileSync(
      procsFile(lab, owner),
      makeCgroup(trees, lab, owner)
        .map((f) => `${f}\n`)
        .join(''),
    )
  for (const node of nodes) prepareNode(topology, node, trees, kubectl)
  const pause = ensurePause()
  await loadBridgeFilter()
  await batch(cables(topology))
  const [made] = await Promise.all([
    pause.then((program) => Promise.all(nodes.map((node) => makeNode(lab, node, program)))),
    ...wirings(topology).map(async (wiring) => {
      const inside = ['nsenter', `--net=/run/netns/${wiring.netns}`]
      await batch(wiring.ip, wiring.netns)
      // A key that is not there is of a module that this kernel lacks (br_netfilter).
      await run([...inside, 'sysctl', '--quiet', '--ignore', '--load=-'], { input: wiring.sysctls.join('\n') })
      if (wiring.nft !== '') await run([...inside, 'nft', '-f', '-'], { input: wiring.nft })
    }),
  ])
  return made
}

/** Runs `ip` lines in one process, in a namespace of its own if one is named. */
async function batch(lines: readonly string[], inNetns?: string): Promise<void> {
  await run(['ip', ...(inNetns ? ['-n', inNetns] : []), '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** A node stands within a second; one that takes this long hangs on a mount. */
const initMs = 30_000

/** Starts a node's pid 1 and waits until it says that it is ready. */
async function makeNode(lab: string, node: LabNode, pause: string): Promise<NodeState> {
  const log = openSync(logFile(lab, `init-${node.name}`), 'w')
  const child = spawn(
    `${repo}/lab/join.sh`,
    [
      procsFile(lab, node.name),
      ...['nsenter', `--net=/run/netns/${netns.node(lab, node.name)}`],
      ...['unshare', '--mount', '--uts', '--ipc', '--pid', '--fork', '--propagation', 'private'],
      ...[`${repo}/lab/node-init.sh`, node.name, nodeDir(lab, node.name), pause],
    ],
    { stdio: ['ignore', log, log, 'pipe'], detached: true, cwd: '/' },
  )
  closeSync(log)
  const { said, late } = await untilReady(child.stdio[3] as Readable, initMs)
  const pid = Number(/^pid (\d+)$/m.exec(said)?.[1])
  const init = /^ready$/m.test(said) ? identify(pid) : undefined
  if (!init) {
    if (late) process.kill(-child.pid!, 'SIGKILL') // the group: its pid 1 is in it too
    const log = readFileSync(logFile(lab, `init-${node.name}`), 'utf8').trim()
    throw labError.ERR_LAB_NODE_INIT({ node: node.name, log: late ? `${log}\nnot ready within ${initMs / 1000} s`.trim() : log })
  }
  child.unref()
  return { name: node.name, ip: node.ip, init }
}

/** What a node's pid 1 says up to "ready", its end, or the deadline. */
export async function untilReady(stream: Readable, deadlineMs: number): Promise<{ said: string; late: boolean }> {
  const deadline = new AbortController()
  const timer = setTimeout(() => deadline.abort(), deadlineMs)
  let said = ''
  try {
    // Not read to its end: `unshare` holds the other side open for as long as the node lives.
    for await (const chunk of addAbortSignal(deadline.signal, stream)) {
      said += chunk
      if (said.endsWith('ready\n')) break
    }
  } catch (error) {
    if (!deadline.signal.aborted) throw error
  } finally {
    clearTimeout(timer)
  }
  return { said, late: deadline.signal.aborted }
}
