/**
 * `kubectl get`'s columns, computed here as kube-apiserver does: a meta/v1 Table for a list of objects.
 * Source of columns and cell texts: k8s.io/kubernetes/pkg/printers/internalversion/printers.go.
 * @module
 */
import { age, columns, containerCells, labelsText, name, orNone, type Printer, selectorText, since } from '#lab/control/columns.ts'
import { nodes, pods } from '#lab/control/pod-rows.ts'
import type { Resource } from '#lab/control/resources.ts'
import { type LabelSelector, showSelector } from '#lab/control/selectors.ts'
import type { KubeObject } from '#lab/control/store.ts'
import { at, numberAt, type Tree, textAt, textMapAt, textsAt, treeAt, treesAt } from '#lab/control/tree.ts'

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
  'networkpolicies.networking.k8s.io': {
    columns: columns('Name|Pod-Selector|Age'),
    cells: (o, now) => [name(o), showSelector(at(o, 'spec.podSelector') as LabelSelector | undefined) || '<none>', age(o, now)],
  },
  'poddisruptionbudgets.policy': {
    columns: columns('Name|Min Available|Max Unavailable|#Allowed Disruptions|Age'),
    cells: (o, now) => [
      name(o),
      textAt(o, 'spec.minAvailable') || 'N/A',
      textAt(o, 'spec.maxUnavailable') || 'N/A',
      numberAt(o, 'status.disruptionsAllowed'),
      age(o, now),
    ],
  },
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
