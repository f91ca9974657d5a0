/** Which process a part of the lab is now: read from the machine, not from what was written down when it started. */
import { existsSync, readFileSync } from 'node:fs'
import { procsFile } from '#lab/nodes/up.ts'
import { innerPid, isAlive, type LabState, type PartState } from '#lab/state.ts'

/** The living process of a part, or undefined if it is dead. A kubelet may have been restarted by hand: its pid file names the present one. */
export function pidOf(state: LabState, part: PartState): number | undefined {
  if (!part.name.startsWith('kubelet-')) return isAlive(part) ? innerPid(part.pid) : undefined
  const node = state.nodes.find((n) => n.name === part.node)
  if (!node || !isAlive(node.init)) return undefined
  const file = `/proc/${node.init.pid}/root/run/kubelet.pid`
  if (!existsSync(file)) return undefined
  // The file has the node's own number for it; the kernel tells both (NSpid), and the node's cgroup which processes to ask.
  const inside = readFileSync(file, 'utf8').trim()
  const procs = readFileSync(procsFile(state.lab, node.name), 'utf8').split('\n')[0]!
  const pids = readFileSync(procs, 'utf8').split('\n').filter(Boolean).map(Number)
  return pids.find((pid) => pidInNode(pid) === inside)
}

/** The number a process has in its innermost pid namespace; undefined if it is gone or a zombie. */
function pidInNode(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return /^State:\tZ/m.test(status) ? undefined : /^NSpid:.*\t(\d+)$/m.exec(status)?.[1]
  } catch {
    return undefined
  }
}
