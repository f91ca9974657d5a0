/**
 * The environment of a container: env, envFrom, the downward API, the variables of services, and $(NAME) in values and commands.
 * Pure: what is looked up comes in as functions. Source: core/v1 EnvVar; kubelet's expansion rules ($$ is a plain dollar sign).
 * @module
 */
import type { Container, Pod, ServiceObject } from '#lab/kubelet/types.ts'
import { namespaceOf } from '#lab/kubelet/types.ts'
import { quantity } from '#lab/quantity.ts'

/** Something a pod refers to is not there; the pod waits for it (CreateContainerConfigError). */
export class ConfigMissing extends Error {
  override name = 'ConfigMissing'
}

export interface Lookups {
  /** Data of a ConfigMap or (decoded) Secret of the pod's namespace; undefined if there is none. */
  data(kind: 'configmap' | 'secret', name: string): Promise<Readonly<Record<string, string>> | undefined>
  readonly services: readonly ServiceObject[]
  readonly podIps: readonly string[]
  readonly hostIp: string
}

/** The value of a downward API field of the pod.
 * @throws {ConfigMissing} if the path names nothing a pod has. */
export function fieldOf(pod: Pod, path: string, o: Pick<Lookups, 'podIps' | 'hostIp'>): string {
  const keyed = /^metadata\.(annotations|labels)\['(.+)'\]$/.exec(path)
  if (keyed) return pod.metadata[keyed[1] as 'annotations' | 'labels']?.[keyed[2]!] ?? ''
  const lines = (map: Record<string, string> | undefined): string =>
    Object.entries(map ?? {})
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => `${k}=${JSON.stringify(v)}`)
      .join('\n')
  const fields: Record<string, () => string> = {
    'metadata.name': () => pod.metadata.name,
    'metadata.namespace': () => namespaceOf(pod),
    'metadata.uid': () => pod.metadata.uid ?? '',
    'metadata.labels': () => lines(pod.metadata.labels),
    'metadata.annotations': () => lines(pod.metadata.annotations),
    'spec.nodeName': () => pod.spec.nodeName ?? '',
    'spec.serviceAccountName': () => pod.spec.serviceAccountName ?? 'default',
    'status.hostIP': () => o.hostIp,
    'status.hostIPs': () => o.hostIp,
    'status.podIP': () => o.podIps[0] ?? '',
    'status.podIPs': () => o.podIps.join(','),
  }
  const field = fields[path]
  if (!field) throw new ConfigMissing(`unsupported fieldPath: ${path}`)
  return field()
}

/** $(NAME) becomes its value if it is known and stays as it is if not; $$(NAME) is the text $(NAME). */
export function expand(text: string, known: ReadonlyMap<string, string>): string {
  return text.replace(/\$\$|\$\(([^)]*)\)/g, (all, name: string | undefined) => (name === undefined ? '$' : (known.get(name) ?? all)))
}

/** KUBERNETES_SERVICE_HOST and its kin: the default/kubernetes service, and those of the pod's namespace unless enableServiceLinks is false. */
export function serviceVariables(pod: Pod, services: readonly ServiceObject[]): Map<string, string> {
  const out = new Map<string, string>()
  for (const { metadata, spec } of services) {
    const always = metadata.namespace === 'default' && metadata.name === 'kubernetes'
    if (!always && (pod.spec.enableServiceLinks === false || metadata.namespace !== namespaceOf(pod))) continue
    const ports = spec.ports ?? []
    if (!spec.clusterIP || spec.clusterIP === 'None' || ports.length === 0) continue
    const name = metadata.name.toUpperCase().replaceAll('-', '_')
    out.set(`${name}_SERVICE_HOST`, spec.clusterIP)
    out.set(`${name}_SERVICE_PORT`, String(ports[0]!.port))
    for (const port of ports) {
      if (port.name) out.set(`${name}_SERVICE_PORT_${port.name.toUpperCase().replaceAll('-', '_')}`, String(port.port))
    }
    const url = (port: (typeof ports)[number]): string => `${(port.protocol ?? 'TCP').toLowerCase()}://${spec.clusterIP}:${port.port}`
    out.set(`${name}_PORT`, url(ports[0]!))
    for (const port of ports) {
      const protocol = port.protocol ?? 'TCP'
      const prefix = `${name}_PORT_${port.port}_${protocol}`
      out.set(prefix, url(port))
      out.set(`${prefix}_PROTO`, protocol.toLowerCase())
      out.set(`${prefix}_PORT`, String(port.port))
      out.set(`${prefix}_ADDR`, spec.clusterIP)
    }
  }
  return out
}

/** All variables of `container`. Later ones win: services, envFrom, env.
 * @throws {ConfigMissing} for a ConfigMap, Secret or key that is not there and not optional. */
export async function environmentOf(pod: Pod, container: Container, o: Lookups): Promise<Map<string, string>> {
  const out = serviceVariables(pod, o.services)
  const data = async (kind: 'configmap' | 'secret', name: string, optional = false): Promise<Readonly<Record<string, string>>> => {
    const found = await o.data(kind, name)
    if (!found && !optional) throw new ConfigMissing(`${kind} "${name}" not found`)
    return found ?? {}
  }
  for (const { prefix = '', configMapRef, secretRef } of container.envFrom ?? []) {
    const ref = configMapRef ?? secretRef
    if (!ref) continue
    const map = await data(configMapRef ? 'configmap' : 'secret', ref.name, ref.optional)
    for (const [key, value] of Object.entries(map)) out.set(prefix + key, value)
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const key = valueFrom?.configMapKeyRef ?? valueFrom?.secretKeyRef
    if (key) {
      const kind = valueFrom?.configMapKeyRef ? 'configmap' : 'secret'
      const found = (await data(kind, key.name, key.optional))[key.key]
      if (found !== undefined) out.set(name, found)
      else if (!key.optional) throw new ConfigMissing(`couldn't find key ${key.key} in ${kind} ${namespaceOf(pod)}/${key.name}`)
    } else if (valueFrom?.fieldRef) out.set(name, fieldOf(pod, valueFrom.fieldRef.fieldPath, o))
    else if (valueFrom?.resourceFieldRef) out.set(name, resourceOf(container, valueFrom.resourceFieldRef.resource))
    else out.set(name, expand(value ?? '', out))
  }
  return out
}

/** limits.cpu and the like in whole units (CPUs rounded up, bytes); '0' where none is set. */
function resourceOf(container: Container, path: string): string {
  const [kind, ...rest] = path.split('.')
  return String(Math.ceil(quantity(container.resources?.[kind as 'limits' | 'requests']?.[rest.join('.')])))
}
