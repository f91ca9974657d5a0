/**
 * The rows of pods and nodes, whose STATUS is put together from many fields.
 * Source: k8s.io/kubernetes/pkg/printers/internalversion/printers.go: printPod, printNode.
 * @module
 */
import { age, columns, name, orNone, type Printer, since } from '#lab/control/columns.ts'
import type { KubeObject } from '#lab/control/store.ts'
import { at, isTree, numberAt, type Tree, textAt, treesAt } from '#lab/control/tree.ts'

/** STATUS of one pod: the phase, or what its containers are stuck in. */
function podStatus(pod: KubeObject): { reason: string; ready: number; total: number; restarts: number; lastRestart: string } {
  const statuses = treesAt(pod, 'status.containerStatuses')
  let reason = textAt(pod, 'status.reason') || textAt(pod, 'status.phase')
  if (treesAt(pod, 'status.conditions').some((c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated')) reason = 'SchedulingGated'
  let restarts = 0
  let ready = 0
  let lastRestart = ''
  const countRestarts = (status: Tree) => {
    restarts += numberAt(status, 'restartCount')
    const finished = textAt(status, 'lastState.terminated.finishedAt')
    if (finished > lastRestart) lastRestart = finished
  }
  const ended = (terminated: Tree) => {
    if (textAt(terminated, 'reason') !== '') return textAt(terminated, 'reason')
    return numberAt(terminated, 'signal') !== 0
      ? `Signal:${numberAt(terminated, 'signal')}`
      : `ExitCode:${numberAt(terminated, 'exitCode')}`
  }
  const inits = treesAt(pod, 'spec.initContainers')
  const stuckInit = treesAt(pod, 'status.initContainerStatuses').findIndex((status, i) => {
    countRestarts(status)
    const terminated = at(status, 'state.terminated')
    if (terminated && numberAt(terminated, 'exitCode') === 0) return false
    const waiting = textAt(status, 'state.waiting.reason')
    if (terminated) reason = `Init:${ended(terminated as Tree)}`
    else if (waiting !== '' && waiting !== 'PodInitializing') reason = `Init:${waiting}`
    else reason = `Init:${i}/${inits.length}`
    return true
  })
  if (stuckInit < 0) {
    let running = false
    restarts = 0
    for (const status of statuses.toReversed()) {
      countRestarts(status)
      const waiting = textAt(status, 'state.waiting.reason')
      const terminated = at(status, 'state.terminated')
      if (waiting !== '') reason = waiting
      else if (isTree(terminated)) reason = ended(terminated)
      else if (status.ready === true && at(status, 'state.running')) {
        running = true
        ready++
      }
    }
    if (reason === 'Completed' && running) reason = hasCondition(pod, 'Ready') ? 'Running' : 'NotReady'
  }
  if (pod.metadata.deletionTimestamp) {
    const phase = textAt(pod, 'status.phase')
    if (textAt(pod, 'status.reason') === 'NodeLost') reason = 'Unknown'
    else if (phase !== 'Succeeded' && phase !== 'Failed') reason = 'Terminating'
  }
  return { reason, ready, total: treesAt(pod, 'spec.containers').length, restarts, lastRestart }
}

const hasCondition = (o: KubeObject, type: string) => treesAt(o, 'status.conditions').some((c) => c.type === type && c.status === 'True')

export const pods: Printer = {
  columns: columns('Name|Ready|Status|Restarts|Age|*IP|*Node|*Nominated Node|*Readiness Gates'),
  cells(pod, now) {
    const { reason, ready, total, restarts, lastRestart } = podStatus(pod)
    const ip = textAt(treesAt(pod, 'status.podIPs')[0], 'ip') || textAt(pod, 'status.podIP')
    const gates = treesAt(pod, 'spec.readinessGates')
    const passed = gates.filter((gate) => hasCondition(pod, textAt(gate, 'conditionType'))).length
    return [
      name(pod),
      `${ready}/${total}`,
      reason,
      restarts > 0 && lastRestart !== '' ? `${restarts} (${since(lastRestart, now)} ago)` : String(restarts),
      age(pod, now),
      orNone(ip),
      orNone(textAt(pod, 'spec.nodeName')),
      orNone(textAt(pod, 'status.nominatedNodeName')),
      gates.length === 0 ? '<none>' : `${passed}/${gates.length}`,
    ]
  },
}

export const nodes: Printer = {
  columns: columns('Name|Status|Roles|Age|Version|*Internal-IP|*External-IP|*OS-Image|*Kernel-Version|*Container-Runtime'),
  cells(node, now) {
    const ready = treesAt(node, 'status.conditions').find((c) => c.type === 'Ready')
    const status = [ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady']
    if (at(node, 'spec.unschedulable') === true) status.push('SchedulingDisabled')
    const roles = Object.entries(node.metadata.labels ?? {}).flatMap(([key, value]) => {
      if (key.startsWith('node-role.kubernetes.io/')) return [key.slice('node-role.kubernetes.io/'.length)]
      return key === 'kubernetes.io/role' ? [value] : []
    })
    const address = (type: string) =>
      orNone(
        textAt(
          treesAt(node, 'status.addresses').find((a) => a.type === type),
          'address',
        ),
      )
    const info = (key: string) => textAt(node, `status.nodeInfo.${key}`) || '<unknown>'
    return [
      name(node),
      status.join(','),
      orNone(roles.filter(Boolean).toSorted().join(',')),
      age(node, now),
      textAt(node, 'status.nodeInfo.kubeletVersion'),
      address('InternalIP'),
      address('ExternalIP'),
      info('osImage'),
      info('kernelVersion'),
      info('containerRuntimeVersion'),
    ]
  },
}
