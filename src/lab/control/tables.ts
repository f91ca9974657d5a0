/**
 * `kubectl get`'s columns, computed here as kube-apiserver does: a meta/v1 Table for a list of objects.
 * Source of columns and cell texts: k8s.io/kubernetes/pkg/printers/internalversion/printers.go.
 * @module
 */
import type { Resource } from '#lab/control/resources.ts'
import { type LabelSelector, showSelector } from '#lab/control/selectors.ts'
import type { KubeObject } from '#lab/control/store.ts'
import { at, isTree, numberAt, type Tree, textAt, textMapAt, textsAt, treeAt, treesAt } from '#lab/control/tree.ts'

/** `wide` columns show with -owide only. */
interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date'
  readonly wide: boolean
}

interface Printer {
  readonly columns: readonly Column[]
  cells(object: KubeObject, now: number): (string | number)[]
}

/** `Name|Ready|*IP` → columns; a star marks a wide one, a hash an integer. */
function columns(text: string): Column[] {
  return text.split('|').map((part) => {
    const name = part.replace(/^[*#]+/, '')
    const mark = part.slice(0, part.length - name.length)
    return { name, type: mark.includes('#') ? 'integer' : 'string', wide: mark.includes('*') }
  })
}

/** k8s.io/apimachinery/pkg/util/duration.HumanDuration: two units while the first one is small. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000)
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  const two = (a: number, unitA: string, b: number, unitB: string) => (b === 0 ? `${a}${unitA}` : `${a}${unitA}${b}${unitB}`)
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.trunc(seconds / 60)
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.trunc(minutes / 60)
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.trunc(hours / 24)
  if (hours < 192) return two(days, 'd', hours % 24, 'h')
  if (days < 730) return `${days}d`
  const years = Math.trunc(days / 365)
  return days < 2920 ? two(years, 'y', days % 365, 'd') : `${years}y`
}

const since = (time: unknown, now: number) => (typeof time === 'string' ? humanDuration(now - Date.parse(time)) : '<unknown>')
const age = (o: KubeObject, now: number) => since(o.metadata.creationTimestamp, now)
const name = (o: KubeObject) => o.metadata.name
const orNone = (text: string) => text || '<none>'
const labelsText = (labels: Record<string, string>) =>
  orNone(
    Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .toSorted()
      .join(','),
  )
const selectorText = (o: KubeObject) => showSelector(at(o, 'spec.selector') as LabelSelector | undefined)
const containerCells = (o: KubeObject) => {
  const containers = treesAt(o, 'spec.template.spec.containers')
  return [containers.map((c) => textAt(c, 'name')).join(','), containers.map((c) => textAt(c, 'image')).join(',')]
}

// Pods

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

const pods: Printer = {
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

// Nodes

const nodes: Printer = {
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

// Workloads

const deployments: Printer = {
  columns: columns('Name|Ready|Up-to-date|Available|Age|*Containers|*Images|*Selector').map((c) =>
    c.name === 'Up-to-date' || c.name === 'Available' ? { ...c, type: 'integer' } : c,
  ),
  cells: (o, now) => [
    name(o),
    `${numberAt(o, 'status.readyReplicas')}/${numberAt(o, 'spec.replicas')}`,
    numberAt(o, 'status.updatedReplicas'),
    numberAt(o, 'status.availableReplicas'),
    age(o, now),
    ...containerCells(o),
    selectorText(o),
  ],
}

const replicaSets: Printer = {
  columns: columns('Name|#Desired|#Current|#Ready|Age|*Containers|*Images|*Selector'),
  cells: (o, now) => [
    name(o),
    numberAt(o, 'spec.replicas'),
    numberAt(o, 'status.replicas'),
    numberAt(o, 'status.readyReplicas'),
    age(o, now),
    ...containerCells(o),
    selectorText(o),
  ],
}

const daemonSets: Printer = {
  columns: columns('Name|#Desired|#Current|#Ready|#Up-to-date|#Available|Node Selector|Age|*Containers|*Images|*Selector'),
  cells: (o, now) => [
    name(o),
    numberAt(o, 'status.desiredNumberScheduled'),
    numberAt(o, 'status.currentNumberScheduled'),
    numberAt(o, 'status.numberReady'),
    numberAt(o, 'status.updatedNumberScheduled'),
    numberAt(o, 'status.numberAvailable'),
    labelsText(textMapAt(o, 'spec.template.spec.nodeSelector')),
    age(o, now),
    ...containerCells(o),
    selectorText(o),
  ],
}

// Services and what is behind them

function externalIPs(service: KubeObject): string {
  if (textAt(service, 'spec.type') === 'ExternalName') return textAt(service, 'spec.externalName')
  const balanced = treesAt(service, 'status.loadBalancer.ingress').map((ingress) => textAt(ingress, 'ip') || textAt(ingress, 'hostname'))
  const all = [...balanced, ...textsAt(service, 'spec.externalIPs')].join(',')
  return all || (textAt(service, 'spec.type') === 'LoadBalancer' ? '<pending>' : '<none>')
}

const services: Printer = {
  columns: columns('Name|Type|Cluster-IP|External-IP|Port(s)|Age|*Selector'),
  cells(o, now) {
    const ports = treesAt(o, 'spec.ports').map((port) => {
      const nodePort = numberAt(port, 'nodePort')
      return `${textAt(port, 'port')}${nodePort > 0 ? `:${nodePort}` : ''}/${textAt(port, 'protocol')}`
    })
    const selector = labelsText(textMapAt(o, 'spec.selector'))
    return [
      name(o),
      textAt(o, 'spec.type'),
      orNone(textAt(o, 'spec.clusterIP')),
      externalIPs(o),
      orNone(ports.join(',')),
      age(o, now),
      selector,
    ]
  },
}

/** The first three, then how many more. */
function someOf(texts: readonly string[]): string {
  return texts.length <= 3 ? orNone(texts.join(',')) : `${texts.slice(0, 3).join(',')} + ${texts.length - 3} more...`
}

const endpoints: Printer = {
  columns: columns('Name|Endpoints|Age'),
  cells(o, now) {
    const all = treesAt(o, 'subsets').flatMap((subset) => {
      const ips = treesAt(subset, 'addresses').map((address) => textAt(address, 'ip'))
      const ports = treesAt(subset, 'ports').map((port) => textAt(port, 'port'))
      return ports.length === 0 ? ips : ports.flatMap((port) => ips.map((ip) => `${ip}:${port}`))
    })
    return [name(o), someOf(all), age(o, now)]
  },
}

const endpointSlices: Printer = {
  columns: columns('Name|AddressType|Ports|Endpoints|Age'),
  cells(o, now) {
    const ports = treesAt(o, 'ports').map((port) => textAt(port, 'port') || '*')
    const addresses = treesAt(o, 'endpoints').flatMap((endpoint) => textsAt(endpoint, 'addresses'))
    const shown = at(o, 'ports') === undefined ? '*' : ports.length === 0 ? '<unset>' : someOf(ports)
    return [name(o), textAt(o, 'addressType'), shown, addresses.length === 0 ? '<unset>' : someOf(addresses), age(o, now)]
  },
}

// The rest

const subjectsOf = (o: KubeObject, kind: string) =>
  treesAt(o, 'subjects')
    .filter((subject) => subject.kind === kind)
    .map((subject) => (kind === 'ServiceAccount' ? `${textAt(subject, 'namespace')}/${textAt(subject, 'name')}` : textAt(subject, 'name')))
    .join(', ')

const bindings: Printer = {
  columns: columns('Name|Role|Age|*Users|*Groups|*ServiceAccounts'),
  cells: (o, now) => [
    name(o),
    `${textAt(o, 'roleRef.kind')}/${textAt(o, 'roleRef.name')}`,
    age(o, now),
    ...['User', 'Group', 'ServiceAccount'].map((kind) => subjectsOf(o, kind)),
  ],
}

const roles: Printer = { columns: columns('Name|Created At'), cells: (o) => [name(o), o.metadata.creationTimestamp] }

const events: Printer = {
  columns: columns('Last Seen|Type|Reason|Object|*Subobject|*Source|Message|*First Seen|*#Count|*Name'),
  cells(o, now) {
    const eventTime = textAt(o, 'eventTime')
    const first = textAt(o, 'firstTimestamp') || eventTime
    const last = textAt(o, 'series.lastObservedTime') || textAt(o, 'lastTimestamp') || first
    const source = [textAt(o, 'source.component') || textAt(o, 'reportingComponent'), textAt(o, 'source.host')].filter(Boolean).join(', ')
    const on = treeAt(o, 'involvedObject')
    return [
      since(last || undefined, now),
      textAt(o, 'type'),
      textAt(o, 'reason'),
      `${textAt(on, 'kind').toLowerCase()}/${textAt(on, 'name')}`,
      textAt(on, 'fieldPath'),
      source,
      textAt(o, 'message').trim(),
      since(first || undefined, now),
      numberAt(o, 'series.count') || numberAt(o, 'count') || 1,
      name(o),
    ]
  },
}

const printers: Readonly<Record<string, Printer>> = {
  pods,
  nodes,
  services,
  endpoints,
  events,
  'events.events.k8s.io': events,
  'deployments.apps': deployments,
  'replicasets.apps': replicaSets,
  'daemonsets.apps': daemonSets,
  'endpointslices.discovery.k8s.io': endpointSlices,
  'roles.rbac.authorization.k8s.io': roles,
  'clusterroles.rbac.authorization.k8s.io': roles,
  'rolebindings.rbac.authorization.k8s.io': bindings,
  'clusterrolebindings.rbac.authorization.k8s.io': bindings,
  namespaces: { columns: columns('Name|Status|Age'), cells: (o, now) => [name(o), textAt(o, 'status.phase'), age(o, now)] },
  configmaps: {
    columns: columns('Name|Data|Age'),
    cells: (o, now) => [name(o), String(Object.keys({ ...treeAt(o, 'data'), ...treeAt(o, 'binaryData') }).length), age(o, now)],
  },
  secrets: {
    columns: columns('Name|Type|#Data|Age'),
    cells: (o, now) => [name(o), textAt(o, 'type'), Object.keys(treeAt(o, 'data')).length, age(o, now)],
  },
  serviceaccounts: {
    columns: columns('Name|Secrets|Age'),
    cells: (o, now) => [name(o), String(treesAt(o, 'secrets').length), age(o, now)],
  },
  'leases.coordination.k8s.io': {
    columns: columns('Name|Holder|Age'),
    cells: (o, now) => [name(o), textAt(o, 'spec.holderIdentity'), age(o, now)],
  },
  'controllerrevisions.apps': {
    columns: columns('Name|Controller|Revision|Age'),
    cells(o, now) {
      const owner = o.metadata.ownerReferences?.find((reference) => reference.controller)
      const group = owner?.apiVersion.includes('/') ? `.${owner.apiVersion.split('/')[0]}` : ''
      return [name(o), owner ? `${owner.kind.toLowerCase()}${group}/${owner.name}` : '<none>', textAt(o, 'revision'), age(o, now)]
    },
  },
}

/**
 * @param include  What each row carries beside its cells: kubectl asks for Metadata, and needs it.
 * @param view  The object as the asked-for API version shows it (events.k8s.io has another shape than what is stored).
 */
export function tableOf(
  resource: Resource,
  objects: readonly KubeObject[],
  listMeta: Tree,
  o: { include: string; now: number; headers: boolean; view(object: KubeObject): KubeObject },
): Tree {
  const printer = printers[resource.id]!
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: listMeta,
    columnDefinitions: o.headers
      ? printer.columns.map((column) => ({
          name: column.name,
          type: column.type,
          format: column.name === 'Name' ? 'name' : '',
          description: `${resource.kind}: ${column.name}`,
          priority: column.wide ? 1 : 0,
        }))
      : null,
    rows: objects.map((object) => ({
      cells: printer.cells(object, o.now),
      object:
        o.include === 'None'
          ? undefined
          : o.include === 'Object'
            ? o.view(object)
            : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata },
    })),
  }
}
