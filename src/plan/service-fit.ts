/**
 * What of a service can be served, and what is refused: an address that is the node's own, or no host's, would catch packets that are
 * none of the service's; of two ports with one number only one can be meant; and no service may be so large that others wait for it.
 * The rest of the service is served. What no API server would store is judged at the door (cluster/decode.ts), not here.
 * @module
 */
import { quoted } from '#base/printable.ts'
import type { EndpointSlice, Finding, Service, ServicePort } from '#model/cluster.ts'
import { contains, parseCidr, parseIp, specialOf } from '#net/ip.ts'
import { MAX_ENDPOINTS } from '#plan/service.ts'

/** The node that serves. */
export interface Place {
  /** The pod network. */
  readonly network: string
  /** Addresses by which the node is reached. */
  readonly addresses: ReadonlySet<string>
}

/** What is left to serve. */
export interface FitService {
  readonly service: Service
  readonly slices: readonly EndpointSlice[]
  /** At most one. */
  readonly findings: readonly Finding[]
}

/** Ports times endpoints of one service; a port counts for ten endpoints at least. */
const MAX_WAYS = 20_000
/** So many faults of one service are told. */
const TOLD = 4

/** Takes out of `service` and its `slices` what cannot be served at `place`. */
export function fit(service: Service, slices: readonly EndpointSlice[], place: Place): FitService {
  const faults: string[] = []
  const clusterIPs = without(service.clusterIPs, (ip) => wrongClusterIp(ip, place), 'spec.clusterIPs', faults)
  const kept = slices.map((slice) => soundSlice(slice, faults))
  const ports = atMost(MAX_WAYS, distinct(service.ports, faults), kept, faults)
  const subject = `service ${service.namespace}/${service.name}`
  const refused: Finding = {
    id: 'service-part-refused',
    severity: 'warning',
    subject,
    text: `Of ${subject} this is refused: ${faults.slice(0, TOLD).join('; ')}${faults.length > TOLD ? `; and ${faults.length - TOLD} more` : ''}`,
    remedy: 'Correct the service or its endpoint slices (kubectl edit). The rest of the service is served.',
  }
  return { service: { ...service, clusterIPs, ports }, slices: kept, findings: faults.length === 0 ? [] : [refused] }
}

function wrongClusterIp(ip: string, { network, addresses }: Place): string | undefined {
  const parsed = parseIp(ip)
  if (!parsed) return 'is no address'
  const what = specialOf(parsed)
  if (what !== undefined) return `is ${what}`
  if (addresses.has(ip)) return 'is an address of this node'
  return contains(parseCidr(network)!, parsed) ? `lies in the pod network ${network}` : undefined
}

/** Those of `values` with which nothing is wrong. */
function without(values: readonly string[], wrong: (value: string) => string | undefined, where: string, faults: string[]): string[] {
  return values.filter((value) => {
    const why = wrong(value)
    if (why !== undefined) faults.push(`${where} ${quoted(value)} ${why}`)
    return why === undefined
  })
}

/** What clients knock at: a port of the service's addresses, and one of the node's. */
const knocksOf = ({ protocol, port, nodePort }: ServicePort): string[] => [
  `port ${port}/${protocol}`,
  ...(nodePort === undefined ? [] : [`nodePort ${nodePort}/${protocol}`]),
]

/** Of ports with one number the first is meant. */
function distinct(ports: readonly ServicePort[], faults: string[]): ServicePort[] {
  const taken = new Set<string>()
  return ports.filter((port) => {
    const knocks = knocksOf(port)
    const twice = knocks.find((knock) => taken.has(knock))
    if (twice !== undefined) faults.push(`spec.ports ${quoted(port.name)}: ${twice} is there already`)
    else for (const knock of knocks) taken.add(knock)
    return twice === undefined
  })
}

/** A slice without the addresses that are no host's, or of another family than it says. */
function soundSlice(slice: EndpointSlice, faults: string[]): EndpointSlice {
  const wrong = (ip: string): string | undefined => {
    const parsed = parseIp(ip)
    if (parsed?.family !== slice.family) return `is no IPv${slice.family} address`
    const what = specialOf(parsed)
    return what && `is ${what}`
  }
  const where = `in endpointslice ${quoted(slice.name)} the address`
  const endpoints = slice.endpoints.map((endpoint) => ({ ...endpoint, addresses: without(endpoint.addresses, wrong, where, faults) }))
  return { ...slice, endpoints }
}

/** The ports that may be served, so that ports times endpoints is at most `most`. */
function atMost(most: number, ports: readonly ServicePort[], slices: readonly EndpointSlice[], faults: string[]): readonly ServicePort[] {
  const count = slices.reduce((sum, { endpoints }) => sum + endpoints.length, 0)
  if (count > MAX_ENDPOINTS) faults.push(`${count - MAX_ENDPOINTS} of ${count} endpoints: a port has ${MAX_ENDPOINTS} at most`)
  const room = Math.floor(most / Math.max(10, Math.min(count, MAX_ENDPOINTS)))
  if (ports.length <= room) return ports
  faults.push(`${ports.length - room} of ${ports.length} ports: ports times endpoints is ${most} at most`)
  return ports.slice(0, room)
}
