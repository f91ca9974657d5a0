/**
 * What an object may not say, in kube-apiserver's words (kubectl prints them as they are). The common mistakes, not every rule.
 * Source: k8s.io/kubernetes/pkg/apis/core/validation, k8s.io/apimachinery/pkg/util/validation.
 * @module
 */
import { isIPv4 } from 'node:net'
import { type LabelSelector, selects } from '#lab/control/selectors.ts'
import type { FieldError } from '#lab/control/status.ts'
import { type KubeObject, sameData } from '#lab/control/store.ts'
import { at, isTree, type Tree, textAt, textMapAt, textsAt, treesAt } from '#lab/control/tree.ts'

const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const serviceLabel = /^[a-z]([-a-z0-9]*[a-z0-9])?$/
const qualifiedPart = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/

const notLabel =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character " +
  "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const notSubdomain =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric " +
  "character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
const notServiceLabel =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an " +
  "alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
const notLabelValue =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric " +
  "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
const notQualified =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " +
  "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"

const required = (field: string, detail?: string): FieldError => ({ type: 'Required value', field, ...(detail && { detail }) })
const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'Invalid value', field, value, detail })
const forbiddenField = (field: string, detail: string): FieldError => ({ type: 'Forbidden', field, detail })
const unsupported = (field: string, value: unknown, allowed: readonly string[]): FieldError => ({
  type: 'Unsupported value',
  field,
  value,
  detail: `supported values: ${allowed
    .toSorted()
    .map((text) => `"${text}"`)
    .join(', ')}`,
})
const immutable = (field: string, value: unknown) => wrong(field, value, 'field is immutable')

function* labelErrors(labels: Record<string, string>, field: string): Generator<FieldError> {
  for (const [key, value] of Object.entries(labels)) {
    const name = key.slice(key.lastIndexOf('/') + 1)
    if (!qualifiedPart.test(name) || name.length > 63) yield wrong(field, key, notQualified)
    if (value !== '' && (!qualifiedPart.test(value) || value.length > 63)) yield wrong(field, value, notLabelValue)
  }
}

/** RBAC names may hold colons: a path segment is all they must be. */
const isPathSegment = (name: string) => name !== '.' && name !== '..' && !/[/%]/.test(name)

function* metadataErrors(resource: string, o: KubeObject): Generator<FieldError> {
  const { name, labels } = o.metadata
  if (!name) yield required('metadata.name', 'name or generateName is required')
  else if (/rbac/.test(resource)) {
    if (!isPathSegment(name)) yield wrong('metadata.name', name, `may not contain '/' or '%'`)
  } else if (resource === 'namespaces') {
    if (!label.test(name) || name.length > 63) yield wrong('metadata.name', name, notLabel)
  } else if (resource === 'services') {
    if (!serviceLabel.test(name) || name.length > 63) yield wrong('metadata.name', name, notServiceLabel)
  } else if (!subdomain.test(name) || name.length > 253) yield wrong('metadata.name', name, notSubdomain)
  yield* labelErrors(labels ?? {}, 'metadata.labels')
  for (const key of Object.keys(o.metadata.annotations ?? {})) {
    if (!qualifiedPart.test(key.slice(key.lastIndexOf('/') + 1))) yield wrong('metadata.annotations', key, notQualified)
  }
}

const isPort = (value: unknown) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65535
const notPort = 'must be between 1 and 65535, inclusive'
const protocols = ['SCTP', 'TCP', 'UDP']

function* containerErrors(c: Tree, path: string, volumes: ReadonlySet<string>): Generator<FieldError> {
  const name = textAt(c, 'name')
  if (name === '') yield required(`${path}.name`)
  else if (!label.test(name)) yield wrong(`${path}.name`, name, notLabel)
  if (textAt(c, 'image') === '') yield required(`${path}.image`)
  else if (/^\s|\s$/.test(textAt(c, 'image'))) yield wrong(`${path}.image`, c.image, 'must not have leading or trailing whitespace')
  if (!['Always', 'IfNotPresent', 'Never'].includes(textAt(c, 'imagePullPolicy')))
    yield unsupported(`${path}.imagePullPolicy`, c.imagePullPolicy, ['Always', 'IfNotPresent', 'Never'])
  for (const [i, port] of treesAt(c, 'ports').entries()) {
    if (port.containerPort === undefined) yield required(`${path}.ports[${i}].containerPort`)
    else if (!isPort(port.containerPort)) yield wrong(`${path}.ports[${i}].containerPort`, port.containerPort, notPort)
    if (port.hostPort !== undefined && !isPort(port.hostPort)) yield wrong(`${path}.ports[${i}].hostPort`, port.hostPort, notPort)
    if (!protocols.includes(textAt(port, 'protocol'))) yield unsupported(`${path}.ports[${i}].protocol`, port.protocol, protocols)
  }
  for (const [i, variable] of treesAt(c, 'env').entries()) if (textAt(variable, 'name') === '') yield required(`${path}.env[${i}].name`)
  for (const [i, mount] of treesAt(c, 'volumeMounts').entries()) {
    const at = `${path}.volumeMounts[${i}]`
    if (textAt(mount, 'mountPath') === '') yield required(`${at}.mountPath`)
    if (textAt(mount, 'name') === '') yield required(`${at}.name`)
    else if (!volumes.has(textAt(mount, 'name'))) yield { type: 'Not found', field: `${at}.name`, value: mount.name }
  }
}

export function* podSpecErrors(spec: unknown, path: string, restartPolicies: readonly string[]): Generator<FieldError> {
  const containers = treesAt(spec, 'containers')
  const volumes = new Set(treesAt(spec, 'volumes').map((volume) => textAt(volume, 'name')))
  for (const [i, volume] of treesAt(spec, 'volumes').entries()) {
    const name = textAt(volume, 'name')
    if (name === '') yield required(`${path}.volumes[${i}].name`)
    else if (!label.test(name)) yield wrong(`${path}.volumes[${i}].name`, name, notLabel)
  }
  if (containers.length === 0) yield required(`${path}.containers`)
  const names = new Set<string>()
  for (const list of ['initContainers', 'containers'] as const) {
    for (const [i, c] of treesAt(spec, list).entries()) {
      yield* containerErrors(c, `${path}.${list}[${i}]`, volumes)
      const name = textAt(c, 'name')
      if (name !== '' && names.has(name)) yield { type: 'Duplicate value', field: `${path}.${list}[${i}].name`, value: name }
      names.add(name)
    }
  }
  if (!restartPolicies.includes(textAt(spec, 'restartPolicy')))
    yield unsupported(`${path}.restartPolicy`, at(spec, 'restartPolicy'), restartPolicies)
  const dns = ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']
  if (!dns.includes(textAt(spec, 'dnsPolicy'))) yield unsupported(`${path}.dnsPolicy`, at(spec, 'dnsPolicy'), dns)
}

/** What a pod's writer may still change once it exists: images, tolerations added, deadlines; and the scheduler sets the node once. */
function* podUpdateErrors(pod: KubeObject, old: KubeObject): Generator<FieldError> {
  const comparable = (o: KubeObject) => {
    const spec = structuredClone(o.spec) as Tree
    for (const c of [...treesAt(spec, 'containers'), ...treesAt(spec, 'initContainers')]) delete c.image
    for (const key of ['tolerations', 'activeDeadlineSeconds', 'terminationGracePeriodSeconds', 'schedulingGates']) delete spec[key]
    if (textAt(old, 'spec.nodeName') === '') delete spec.nodeName
    return spec
  }
  if (!sameData(comparable(pod), comparable(old))) {
    yield forbiddenField(
      'spec',
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,' +
        '`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),' +
        '`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    )
  }
}

function* workloadErrors(o: KubeObject, old: KubeObject | undefined): Generator<FieldError> {
  const selector = at(o, 'spec.selector')
  const labels = textMapAt(o, 'spec.template.metadata.labels')
  const { matchLabels, matchExpressions } = (selector ?? {}) as LabelSelector
  if (!isTree(selector)) yield required('spec.selector')
  else if (!matchLabels && !matchExpressions)
    yield wrong('spec.selector', selector, `empty selector is invalid for ${o.kind.toLowerCase()}`)
  else if (!selects(selector as LabelSelector, labels))
    yield wrong('spec.template.metadata.labels', labels, '`selector` does not match template `labels`')
  if (old && !sameData(selector, at(old, 'spec.selector'))) yield immutable('spec.selector', selector)
  const replicas = at(o, 'spec.replicas')
  if (typeof replicas === 'number' && replicas < 0) yield wrong('spec.replicas', replicas, 'must be greater than or equal to 0')
  yield* labelErrors(labels, 'spec.template.labels')
  yield* podSpecErrors(at(o, 'spec.template.spec'), 'spec.template.spec', ['Always'])
}

const serviceTypes = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']
const trafficPolicies = ['Cluster', 'Local']
const affinities = ['ClientIP', 'None']
const MAX_AFFINITY_SECONDS = 86_400

function* serviceErrors(o: KubeObject, old: KubeObject | undefined): Generator<FieldError> {
  const type = textAt(o, 'spec.type')
  const ip = textAt(o, 'spec.clusterIP')
  const ports = treesAt(o, 'spec.ports')
  if (!serviceTypes.includes(type)) yield unsupported('spec.type', type, serviceTypes)
  if (ports.length === 0 && ip !== 'None' && type !== 'ExternalName') yield required('spec.ports')
  const names = new Set<string>()
  for (const [i, port] of ports.entries()) {
    const path = `spec.ports[${i}]`
    if (!isPort(port.port)) yield wrong(`${path}.port`, port.port ?? 0, notPort)
    if (!protocols.includes(textAt(port, 'protocol'))) yield unsupported(`${path}.protocol`, port.protocol, protocols)
    if (port.nodePort && type === 'ClusterIP') yield forbiddenField(`${path}.nodePort`, "may not be used when `type` is 'ClusterIP'")
    if (typeof port.targetPort === 'number' && !isPort(port.targetPort)) yield wrong(`${path}.targetPort`, port.targetPort, notPort)
    const name = textAt(port, 'name')
    if (name === '' && ports.length > 1) yield required(`${path}.name`)
    if (name !== '' && names.has(name)) yield { type: 'Duplicate value', field: `${path}.name`, value: name }
    names.add(name)
  }
  if (ip !== '' && ip !== 'None' && !isIPv4(ip))
    yield wrong('spec.clusterIPs[0]', ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')
  if (type === 'ExternalName' && textAt(o, 'spec.externalName') === '') yield required('spec.externalName')
  yield* trafficErrors(o, type === 'NodePort' || type === 'LoadBalancer')
  if (old && type !== 'ExternalName' && textAt(old, 'spec.type') !== 'ExternalName' && ip !== textAt(old, 'spec.clusterIP'))
    yield wrong('spec.clusterIPs[0]', ip, 'may not change once set')
}

function* trafficErrors(o: KubeObject, exposed: boolean): Generator<FieldError> {
  const external = textAt(o, 'spec.externalTrafficPolicy')
  const internal = textAt(o, 'spec.internalTrafficPolicy')
  if (external !== '' && !exposed) yield wrong('spec.externalTrafficPolicy', external, 'may only be set for externally-accessible services')
  else if (external !== '' && !trafficPolicies.includes(external))
    yield unsupported('spec.externalTrafficPolicy', external, trafficPolicies)
  if (internal !== '' && !trafficPolicies.includes(internal)) yield unsupported('spec.internalTrafficPolicy', internal, trafficPolicies)
  const affinity = textAt(o, 'spec.sessionAffinity')
  const seconds = at(o, 'spec.sessionAffinityConfig.clientIP.timeoutSeconds')
  if (!affinities.includes(affinity)) yield unsupported('spec.sessionAffinity', affinity, affinities)
  if (affinity === 'ClientIP' && typeof seconds === 'number' && (seconds <= 0 || seconds > MAX_AFFINITY_SECONDS)) {
    const allowed = `must be greater than 0 and less than ${MAX_AFFINITY_SECONDS}`
    yield wrong('spec.sessionAffinityConfig.clientIP.timeoutSeconds', seconds, allowed)
  }
}

function* immutableDataErrors(o: KubeObject, old: KubeObject | undefined): Generator<FieldError> {
  for (const key of Object.keys({ ...(o.data as Tree), ...(o.binaryData as Tree) })) {
    if (!/^[-._a-zA-Z0-9]+$/.test(key))
      yield wrong(
        `data[${key}]`,
        key,
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (regex '[-._a-zA-Z0-9]+')",
      )
  }
  if (old?.immutable !== true) return
  if (o.immutable !== true) yield forbiddenField('immutable', 'field is immutable when `immutable` is set')
  if (!sameData(o.data, old.data)) yield forbiddenField('data', 'field is immutable when `immutable` is set')
}

function* bindingErrors(o: KubeObject, old: KubeObject | undefined): Generator<FieldError> {
  const kinds = o.metadata.namespace ? ['ClusterRole', 'Role'] : ['ClusterRole']
  if (!kinds.includes(textAt(o, 'roleRef.kind'))) yield unsupported('roleRef.kind', at(o, 'roleRef.kind') ?? '', kinds)
  if (textAt(o, 'roleRef.name') === '') yield required('roleRef.name')
  if (old && !sameData(o.roleRef, old.roleRef)) yield wrong('roleRef', o.roleRef, 'cannot change roleRef')
  for (const [i, subject] of treesAt(o, 'subjects').entries()) {
    if (textAt(subject, 'name') === '') yield required(`subjects[${i}].name`)
    if (subject.kind === 'ServiceAccount' && textAt(subject, 'namespace') === '') yield required(`subjects[${i}].namespace`)
  }
}

function* ruleErrors(o: KubeObject): Generator<FieldError> {
  for (const [i, rule] of treesAt(o, 'rules').entries()) {
    if (textsAt(rule, 'verbs').length === 0) yield required(`rules[${i}].verbs`, 'verbs must contain at least one value')
    if (textsAt(rule, 'nonResourceURLs').length > 0) continue
    if (textsAt(rule, 'apiGroups').length === 0)
      yield required(`rules[${i}].apiGroups`, 'resource rules must supply at least one api group')
    if (textsAt(rule, 'resources').length === 0) yield required(`rules[${i}].resources`, 'resource rules must supply at least one resource')
  }
}

const byResource: Readonly<Record<string, (o: KubeObject, old: KubeObject | undefined) => Generator<FieldError>>> = {
  *pods(o, old) {
    if (old) yield* podUpdateErrors(o, old)
    yield* podSpecErrors(o.spec, 'spec', ['Always', 'Never', 'OnFailure'])
  },
  services: serviceErrors,
  configmaps: immutableDataErrors,
  *secrets(o, old) {
    if (old && o.type !== old.type) yield immutable('type', o.type)
    yield* immutableDataErrors(o, old)
  },
  'deployments.apps': workloadErrors,
  'replicasets.apps': workloadErrors,
  'daemonsets.apps': workloadErrors,
  'rolebindings.rbac.authorization.k8s.io': bindingErrors,
  'clusterrolebindings.rbac.authorization.k8s.io': bindingErrors,
  'roles.rbac.authorization.k8s.io': ruleErrors,
  'clusterroles.rbac.authorization.k8s.io': ruleErrors,
}

/** Every fault of `object`; empty if it may be stored. `old` is what it replaces. */
export const faultsOf = (resource: string, object: KubeObject, old: KubeObject | undefined): FieldError[] => [
  ...metadataErrors(resource, object),
  ...(byResource[resource]?.(object, old) ?? []),
]
