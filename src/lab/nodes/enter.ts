/** How a program is started inside a node: in its cgroups first, then in all its namespaces. */
import { controlPlaneNode } from '#lab/nodes/topology.ts'
import { procsFile } from '#lab/nodes/up.ts'
import { nodePath, repo } from '#lab/repo.ts'
import type { NodeState } from '#lab/state.ts'

/** argv that runs `command` on the node, with cwd /. */
export function onNode(lab: string, node: Pick<NodeState, 'name' | 'init'>, command: readonly string[]): string[] {
  const enter = ['nsenter', '--target', String(node.init.pid), '--mount', '--uts', '--ipc', '--net', '--pid', '--', ...command]
  return [`${repo}/lab/join.sh`, procsFile(lab, node.name), ...enter]
}

/** argv that runs `command` outside of the nodes, in a network namespace of the lab. */
export function inNetns(lab: string, owner: string, netns: string, command: readonly string[]): string[] {
  return [`${repo}/lab/join.sh`, procsFile(lab, owner), 'nsenter', `--net=/run/netns/${netns}`, '--', ...command]
}

/** The environment of a login on the node; nothing of the caller's but its terminal and language. */
export function nodeEnvironment(node: string): Record<string, string> {
  const { TERM, LANG, NO_COLOR } = process.env
  return {
    PATH: nodePath,
    HOME: '/root',
    USER: 'root',
    LOGNAME: 'root',
    SHELL: '/bin/bash',
    ...(TERM ? { TERM } : {}),
    ...(LANG ? { LANG } : {}),
    ...(NO_COLOR ? { NO_COLOR } : {}),
    ...(node === controlPlaneNode ? { KUBECONFIG: '/etc/kubernetes/admin.conf' } : {}),
  }
}
