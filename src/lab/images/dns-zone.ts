/**
 * What a cluster's DNS answers: pure, a view of the cluster and a question in, records out. Source: the Kubernetes DNS specification 1.1.0
 * (dns/docs/specification.md), CoreDNS's kubernetes plugin for TTLs, SOA and `pods insecure`.
 *
 *     SERVICE.NS.svc.ZONE        A, AAAA   cluster IPs; of a headless service the ready endpoints
 *     HOST.SERVICE.NS.svc.ZONE   A, AAAA   one endpoint: its hostname, or its address with dashes
 *     _PORT._PROTO.SERVICE.NS.svc.ZONE  SRV
 *     10-244-1-5.NS.pod.ZONE     A
 * @module
 */
import type { Answer, StringAnswer } from 'dns-packet'
import { formatIp, parseIp } from '#net/ip.ts'

export interface ZoneService {
  readonly namespace: string
  readonly name: string
  /** Empty for a headless service. */
  readonly clusterIps: readonly string[]
  readonly externalName?: string
  readonly publishNotReady: boolean
  readonly ports: readonly ZonePort[]
}

export interface ZonePort {
  readonly name: string
  readonly protocol: string
  readonly port: number
}

export interface ZoneEndpoint {
  readonly address: string
  readonly hostname?: string
  readonly ready: boolean
  readonly ports: readonly ZonePort[]
}

export interface View {
  /** cluster.local */
  readonly zone: string
  readonly ttl: number
  /** Version of the SOA record. */
  readonly serial: number
  service(namespace: string, name: string): ZoneService | undefined
  /** Endpoints of a service. */
  endpoints(namespace: string, name: string): readonly ZoneEndpoint[]
  hasNamespace(name: string): boolean
  /** Names, without the zone, that an address has: for PTR. */
  namesOf(address: string): readonly string[]
}

export interface Reply {
  readonly rcode: 'NOERROR' | 'NXDOMAIN'
  readonly answers: readonly Answer[]
  readonly additionals: readonly Answer[]
  readonly authorities: readonly Answer[]
}

const familyOf = (ip: string): 'A' | 'AAAA' => (ip.includes(':') ? 'AAAA' : 'A')

/** The name of an endpoint in DNS: its hostname, or 10-244-1-5. */
export const endpointName = (e: ZoneEndpoint): string => e.hostname ?? e.address.replaceAll(/[.:]/g, '-')

/** Answers a question below the zone or in the reverse zones; undefined if the name is none of ours (the next server is asked). */
export function resolve(view: View, name: string, type: string): Reply | undefined {
  const lower = name.toLowerCase().replace(/\.$/, '')
  if (/\.(in-addr|ip6)\.arpa$/.test(lower)) return reverse(view, name, lower, type)
  if (lower !== view.zone && !lower.endsWith(`.${view.zone}`)) return undefined
  const labels = lower === view.zone ? [] : lower.slice(0, -view.zone.length - 1).split('.')
  const records = recordsOf(view, name, labels)
  if (!records) return negative(view, 'NXDOMAIN')
  const answers = records.filter((r) => r.type === type || r.type === 'CNAME')
  if (answers.length === 0) return negative(view, 'NOERROR')
  return { rcode: 'NOERROR', answers, additionals: type === 'SRV' ? targetsOf(view, answers) : [], authorities: [] }
}

function negative(view: View, rcode: 'NOERROR' | 'NXDOMAIN'): Reply {
  const data = {
    mname: `ns.dns.${view.zone}`,
    rname: `hostmaster.${view.zone}`,
    serial: view.serial,
    refresh: 7200,
    retry: 1800,
    expire: 86400,
    minimum: view.ttl,
  }
  return { rcode, answers: [], additionals: [], authorities: [{ type: 'SOA', name: view.zone, ttl: view.ttl, data }] }
}

/** All records of a name, or undefined if it does not exist. A name that only has names below it exists, with no records. */
function recordsOf(view: View, name: string, labels: readonly string[]): Answer[] | undefined {
  const last = labels.at(-1)
  if (labels.length === 0) {
    return [
      { type: 'NS', name, ttl: view.ttl, data: `ns.dns.${view.zone}` },
      ...negative(view, 'NOERROR').authorities.map((soa) => ({ ...soa, name }) as Answer),
    ]
  }
  if (labels.length === 1 && last === 'dns-version') return [{ type: 'TXT', name, ttl: view.ttl, data: '1.1.0' }]
  if (last === 'dns') return labels.length === 1 ? [] : labels.length === 2 && labels[0] === 'ns' ? dnsAddresses(view, name) : undefined
  if (last !== 'svc' && last !== 'pod') return undefined
  if (labels.length === 1) return []
  const namespace = labels.at(-2)!
  if (labels.length === 2) return view.hasNamespace(namespace) ? [] : undefined
  if (last === 'pod') return labels.length === 3 && view.hasNamespace(namespace) ? podRecords(view, name, labels[0]!) : undefined
  return serviceRecords(view, name, namespace, labels.slice(0, -2))
}

const dnsAddresses = (view: View, name: string): Answer[] =>
  addressRecords(view, name, view.service('kube-system', 'kube-dns')?.clusterIps ?? [])

function addressRecords(view: View, name: string, ips: readonly string[]): StringAnswer[] {
  return ips.map((data) => ({ type: familyOf(data), name, ttl: view.ttl, data }))
}

/** 10-244-1-5 is 10.244.1.5 whether or not such a pod runs (`pods insecure`). */
function podRecords(view: View, name: string, label: string): Answer[] | undefined {
  const ip = parseIp(label.replaceAll('-', '.')) ?? parseIp(label.replaceAll('-', ':'))
  return ip && addressRecords(view, name, [formatIp(ip.bytes)])
}

function serviceRecords(view: View, name: string, namespace: string, labels: readonly string[]): Answer[] | undefined {
  const service = view.service(namespace, labels.at(-1)!)
  if (!service) return undefined
  const full = `${service.name}.${service.namespace}.svc.${view.zone}`
  const headless = service.clusterIps.length === 0
  const endpoints = view.endpoints(namespace, service.name).filter((e) => e.ready || service.publishNotReady)
  if (labels.length === 1) {
    if (service.externalName) return [{ type: 'CNAME', name, ttl: view.ttl, data: service.externalName }]
    if (headless && endpoints.length === 0) return undefined // CoreDNS: a headless service without endpoints is no name
    const ips = headless ? endpoints.map((e) => e.address) : service.clusterIps
    return [...addressRecords(view, name, [...new Set(ips)]), ...portRecords(view, name, full, service, endpoints, () => true)]
  }
  if (labels.length === 2 && headless) {
    const one = endpoints.filter((e) => endpointName(e) === labels[0])
    return one.length > 0
      ? addressRecords(
          view,
          name,
          one.map((e) => e.address),
        )
      : undefined
  }
  if (labels.length === 3 && labels[0]!.startsWith('_') && labels[1]!.startsWith('_')) {
    const wanted = (p: ZonePort): boolean => p.name === labels[0]!.slice(1) && p.protocol.toLowerCase() === labels[1]!.slice(1)
    const records = portRecords(view, name, full, service, endpoints, wanted)
    return records.length > 0 ? records : undefined
  }
  return undefined
}

function portRecords(
  view: View,
  name: string,
  full: string,
  service: ZoneService,
  endpoints: readonly ZoneEndpoint[],
  wanted: (p: ZonePort) => boolean,
): Answer[] {
  const srv = (port: number, target: string, weight: number): Answer => ({
    type: 'SRV',
    name,
    ttl: view.ttl,
    data: { priority: 0, weight, port, target },
  })
  if (service.clusterIps.length > 0) return service.ports.filter(wanted).map((p) => srv(p.port, full, 100))
  const all = endpoints.flatMap((e) => e.ports.filter(wanted).map((p) => ({ port: p.port, target: `${endpointName(e)}.${full}` })))
  return all.map(({ port, target }) => srv(port, target, Math.max(1, Math.floor(100 / all.length))))
}

/** Addresses of the targets of SRV records. */
function targetsOf(view: View, answers: readonly Answer[]): Answer[] {
  const targets = new Set(answers.flatMap((a) => (a.type === 'SRV' ? [a.data.target] : [])))
  return [...targets].flatMap((target) =>
    (recordsOf(view, target, target.slice(0, -view.zone.length - 1).split('.')) ?? []).filter((r) => r.type === 'A' || r.type === 'AAAA'),
  )
}

/** The address in 1.2.0.192.in-addr.arpa or 1.0.…ip6.arpa. */
export function reverseAddress(name: string): string | undefined {
  const v4 = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name)
  if (v4) return v4.slice(1).toReversed().join('.')
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)
  if (!v6) return undefined
  const digits = v6[1]!.split('.').filter(Boolean).toReversed().join('')
  const groups = Array.from({ length: 8 }, (_, i) => Number.parseInt(digits.slice(4 * i, 4 * i + 4), 16).toString(16))
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

function reverse(view: View, name: string, lower: string, type: string): Reply | undefined {
  const address = reverseAddress(lower)
  const names = address === undefined ? [] : view.namesOf(address)
  if (names.length === 0) return undefined // fallthrough in-addr.arpa ip6.arpa
  if (type !== 'PTR') return negative(view, 'NOERROR')
  const answers = names.map((data): Answer => ({ type: 'PTR', name, ttl: view.ttl, data: `${data}.${view.zone}` }))
  return { rcode: 'NOERROR', answers, additionals: [], authorities: [] }
}
