/** One service as elements: its frontends (addresses, node ports), and where each may lead. What holds them is in services.ts. */
import type { Endpoint, EndpointSlice, Finding, Service, ServicePort } from '#model/cluster.ts'
import type { FlowsItem, Item } from '#model/kernel.ts'
import { compareIp, type Family, familyOf } from '#net/ip.ts'
import { type Affinity, affinityMemory } from '#plan/services.ts'
import { element, suffixOf } from '#plan/table.ts'

/** Endpoints that a port has at most, as in an Endpoints object of Kubernetes (over-capacity): each position needs maps and a chain. */
export const MAX_ENDPOINTS = 1000

/** Where clients knock: an address of the service's own, or a port of every address of the node. */
interface Frontend {
  readonly kind: 'address' | 'nodeport'
  readonly family: Family
  readonly port: ServicePort
  /** 0.0.0.0 or :: for a node port. */
  readonly ip: string
  readonly number: number
  /** Only endpoints on this node serve it. */
  readonly local: boolean
}

function frontendsOf({ type, clusterIPs, ports, internalLocal, externalLocal }: Service): Frontend[] {
  if (type === 'ExternalName') return []
  return clusterIPs.flatMap((ip) =>
    ports.flatMap((port): Frontend[] => {
      const family = familyOf(ip)
      const any = family === 4 ? '0.0.0.0' : '::'
      const { port: number, nodePort } = port
      return [
        { kind: 'address', family, port, ip, number, local: internalLocal === true },
        ...(nodePort === undefined
          ? []
          : [{ kind: 'nodeport', family, port, ip: any, number: nodePort, local: externalLocal === true } as const]),
      ]
    }),
  )
}

/** Items for one service; its owner is `service NAMESPACE/NAME`.
 * @param slices  The service's own.
 * @param node  Name of this node: an endpoint elsewhere cannot be its own client here. Absent: any endpoint may be. */
export function serviceItems(service: Service, slices: readonly EndpointSlice[], node?: string): Item[] {
  return frontendsOf(service).flatMap((frontend) => frontendItems(frontend, service, slices, node))
}

function frontendItems(frontend: Frontend, { affinitySeconds }: Service, slices: readonly EndpointSlice[], node?: string): Item[] {
  const { kind, family, port, ip, number, local } = frontend
  const suffix = suffixOf(family)
  const protocol = port.protocol.toLowerCase() as FlowsItem['protocol']
  const key = [...(kind === 'address' ? [ip] : []), protocol, String(number)]
  const isHere = ({ nodeName }: Target): boolean => node === undefined || nodeName === undefined || nodeName === node
  const all = targetsOf(port, family, slices)
  const targets = local ? all.filter(isHere) : all
  // Elsewhere there are endpoints: who asked for local ones only would rather have no answer than be refused.
  const verdict = targets.length === 0 && all.length > 0 ? 'drop' : `goto endpoints-${targets.length}`
  const flows = (memory: FlowsItem['memory'], to: readonly Target[]): FlowsItem => {
    const texts = new Set(to.map((target) => `${target.ip} . ${target.port}`))
    return { kind: 'flows', memory, protocol, ip, port: number, targets: [...texts].toSorted() }
  }
  const [way, position] = kind === 'address' ? ['service', 'endpoint'] : ['nodeport', 'nodeport']
  return [
    element(`${way}-${suffix}`, key, [verdict]),
    ...targets.map((to, i) => element(`${position}-${i}-${suffix}`, key, [to.ip, String(to.port)])),
    ...(kind === 'nodeport' && !local ? [element('nodeport-masquerade', key)] : []),
    ...targets.filter(isHere).flatMap((to) => hairpinItems(frontend, to)),
    // Flows that were there before may go on for as long as the endpoint serves, also while it ends.
    ...(protocol === 'udp'
      ? [
          flows(
            'conntrack',
            endpointsOf(port, family, slices)
              .filter(mayKeep)
              .filter((to) => !local || isHere(to)),
          ),
        ]
      : []),
    ...(affinitySeconds === undefined
      ? []
      : [...rememberItems(frontend, affinitySeconds, key, targets), flows(affinityMemory(family), targets)]),
  ]
}

/** `to` may be its own client. That of a node port that is masqueraded anyway needs nothing. */
function hairpinItems({ kind, family, port, ip, local }: Frontend, to: Target): Item[] {
  const end = [port.protocol.toLowerCase(), String(to.port)]
  if (kind === 'address') return [element(`hairpin-${suffixOf(family)}`, [to.ip, to.ip, ip, ...end])]
  return local ? [element(`hairpin-nodeport-${suffixOf(family)}`, [to.ip, to.ip, ...end])] : []
}

/** Which connections session affinity remembers. */
function rememberItems({ kind, family }: Frontend, seconds: number, key: readonly string[], targets: readonly Target[]): Item[] {
  const suffix = suffixOf(family)
  if (kind === 'address') return [element(`affinity-${seconds}-${suffix}`, key)]
  const reached = targets.map((to) => element(`affinity-nodeport-${seconds}-${suffix}`, [to.ip, String(to.port), ...key]))
  return [element('affinity-nodeports', key), ...reached]
}

/** What session affinity of `service` needs. */
export function affinitiesOf(service: Service): Affinity[] {
  const { affinitySeconds: seconds } = service
  const families = new Set(frontendsOf(service).map(({ family }) => family))
  return seconds === undefined ? [] : [...families].map((family) => ({ family, seconds }))
}

/** The largest number of endpoints that a port of the service has. */
export function endpointCount(service: Service, slices: readonly EndpointSlice[]): number {
  return Math.max(0, ...frontendsOf(service).map(({ port, family }) => targetsOf(port, family, slices).length))
}

/** What `service` asks for and does not get here. */
export function serviceFindings({ namespace, name, unserved = [] }: Service): Finding[] {
  if (unserved.length === 0) return []
  return [
    {
      id: 'service-part-unserved',
      severity: 'warning',
      subject: `service ${namespace}/${name}`,
      text: `${unserved.join(' and ')} of service ${namespace}/${name}: Twill does not serve that. Its other ways in work`,
      remedy: 'Reach it by its cluster address or a node port. Or let kube-proxy serve services, and run the agent without --services.',
    },
  ]
}

interface Target {
  readonly ip: string
  readonly port: number
  readonly nodeName: string | undefined
  readonly endpoint: Endpoint
}

const mayKeep = ({ endpoint }: Target): boolean => endpoint.ready || endpoint.serving

/** Where new connections to `port` go: ready endpoints; if there are none, those that end but still serve (KEP-1669). In order of
 * address, so that one state gives one set of elements. */
function targetsOf(port: ServicePort, family: Family, slices: readonly EndpointSlice[]): Target[] {
  const all = endpointsOf(port, family, slices)
  const usable = (when: (endpoint: Endpoint) => boolean): Map<string, Target> =>
    new Map(all.filter(({ endpoint }) => when(endpoint)).map((target) => [`${target.ip} ${target.port}`, target]))
  const ready = usable((endpoint) => endpoint.ready)
  const targets = ready.size > 0 ? ready : usable((endpoint) => endpoint.serving && endpoint.terminating)
  return [...targets.values()].toSorted((a, b) => compareIp(a.ip, b.ip) || a.port - b.port).slice(0, MAX_ENDPOINTS)
}

/** Everything in `slices` that answers for `port`, in whatever state; perhaps twice. */
function endpointsOf(port: ServicePort, family: Family, slices: readonly EndpointSlice[]): Target[] {
  return slices
    .filter((slice) => slice.family === family)
    .flatMap((slice) =>
      slice.ports
        .filter(({ name, protocol }) => name === port.name && protocol === port.protocol)
        .flatMap((to) =>
          slice.endpoints.flatMap((endpoint) =>
            endpoint.addresses.slice(0, 1).map((ip) => ({ endpoint, ip, port: to.port, nodeName: endpoint.nodeName })),
          ),
        ),
    )
}
