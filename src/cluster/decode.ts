/**
 * API objects cut down to what planners read. Strict on those fields, blind to all others: what no planner reads is dropped at
 * the door, so that a heartbeat decodes to the same record as before.
 * @module
 */

import { quoted } from '#base/printable.ts'
import { clusterError } from '#cluster/errors.ts'
import type { Endpoint, EndpointSlice, NodeRecord, Protocol, Service, ServicePort } from '#model/cluster.ts'
import { canonicalIp, canonicalNetwork } from '#net/ip.ts'

type Fields = Readonly<Record<string, unknown>>

/** metadata of any object, as far as watching needs it. */
export interface Meta {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly resourceVersion: string
  readonly created: string
}

/** @throws {TwillError} ERR_OBJECT_SHAPE, as all functions here. */
export function decodeMeta(raw: unknown): Meta {
  const meta = new Reader('an object', fieldsOf(raw)).fields('metadata')
  return {
    namespace: meta.text('namespace', ''),
    name: meta.text('name'),
    uid: meta.text('uid', ''),
    resourceVersion: meta.text('resourceVersion', ''),
    created: meta.text('creationTimestamp', ''),
  }
}

/** namespace/name of an object whose metadata is otherwise wrong; undefined if they are too. */
export function nameIn(raw: unknown): string | undefined {
  const { namespace = '', name } = fieldsOf(fieldsOf(raw).metadata)
  if (typeof name !== 'string' || name === '' || typeof namespace !== 'string') return undefined
  return namespace === '' ? name : `${namespace}/${name}`
}

/** @param prefix  Flannel's annotation prefix with its last `/` or `-`. */
export function decodeNode(raw: unknown, prefix: string): NodeRecord {
  const meta = decodeMeta(raw)
  const node = new Reader(`node ${meta.name}`, fieldsOf(raw))
  const annotations: Record<string, string> = {}
  const given = node.fields('metadata').fields('annotations')
  for (const key of given.keys()) if (key.startsWith(prefix)) annotations[key.slice(prefix.length)] = given.text(key, '')
  const spec = node.fields('spec')
  const single = spec.text('podCIDR', '')
  const podCIDRs = spec.texts('podCIDRs')
  const status = node.fields('status')
  const internalIPs = status
    .list('addresses')
    .filter((address) => address.text('type') === 'InternalIP')
    .map((address) => address.text('address'))
  const unavailable = status.list('conditions').find((condition) => condition.text('type') === 'NetworkUnavailable')
  return {
    name: meta.name,
    uid: meta.uid,
    ...(meta.created !== '' && { created: meta.created }),
    podCIDRs: (podCIDRs.length === 0 && single !== '' ? [single] : podCIDRs).map((cidr) => node.network('spec.podCIDRs', cidr)),
    annotations,
    internalIPs,
    ...(unavailable ? { networkUnavailable: unavailable.text('status') } : {}),
  }
}

export function decodeService(raw: unknown): Service {
  const { namespace, name, created } = decodeMeta(raw)
  const service = new Reader(`service ${namespace}/${name}`, fieldsOf(raw))
  const spec = service.fields('spec')
  const single = spec.text('clusterIP', '')
  const clusterIPs = spec.texts('clusterIPs')
  const sticky = spec.choice('sessionAffinity', ['None', 'ClientIP'], 'None') === 'ClientIP'
  const local = (field: string): boolean => spec.choice(field, ['Cluster', 'Local'], 'Cluster') === 'Local'
  const unserved = unservedOf(service)
  return {
    namespace,
    name,
    ...(created !== '' && { created }),
    type: spec.choice('type', ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'], 'ClusterIP'),
    clusterIPs: (clusterIPs.length === 0 && single !== '' ? [single] : clusterIPs)
      .filter((ip) => ip !== 'None')
      .map((ip) => service.ip('spec.clusterIPs', ip)),
    ports: spec.list('ports').map((port): ServicePort => {
      const nodePort = port.number('nodePort', 0)
      return {
        name: port.text('name', ''),
        protocol: port.choice('protocol', protocols, 'TCP'),
        port: port.port('port'),
        ...(nodePort === 0 ? {} : { nodePort: port.port('nodePort') }),
      }
    }),
    ...(sticky && { affinitySeconds: spec.fields('sessionAffinityConfig').fields('clientIP').seconds('timeoutSeconds', 10_800) }),
    ...(local('internalTrafficPolicy') && { internalLocal: true }),
    ...(local('externalTrafficPolicy') && { externalLocal: true }),
    ...(unserved.length > 0 && { unserved }),
  }
}

/** What a service may ask for and Twill does not do. */
function unservedOf(service: Reader): string[] {
  const spec = service.fields('spec')
  return [
    ...(spec.has('externalIPs') ? ['spec.externalIPs'] : []),
    ...(spec.number('healthCheckNodePort', 0) === 0 ? [] : ['spec.healthCheckNodePort']),
    ...(service.fields('status').fields('loadBalancer').list('ingress').length === 0 ? [] : ['status.loadBalancer.ingress']),
  ]
}

/** Undefined for a slice that leads nowhere by IP: of host names, or of no service. */
export function decodeEndpointSlice(raw: unknown): EndpointSlice | undefined {
  const { namespace, name } = decodeMeta(raw)
  const slice = new Reader(`endpointslice ${namespace}/${name}`, fieldsOf(raw))
  const addressType = slice.choice('addressType', ['IPv4', 'IPv6', 'FQDN'])
  const service = slice.fields('metadata').fields('labels').text('kubernetes.io/service-name', '')
  if (addressType === 'FQDN' || service === '') return undefined
  return {
    namespace,
    name,
    service,
    family: addressType === 'IPv6' ? 6 : 4,
    // A port without a number means all ports, which no service port can lead to.
    ports: slice
      .list('ports')
      .filter((port) => port.has('port'))
      .map((port) => ({ name: port.text('name', ''), protocol: port.choice('protocol', protocols, 'TCP'), port: port.port('port') })),
    endpoints: slice.list('endpoints').map((endpoint): Endpoint => {
      const conditions = endpoint.fields('conditions')
      const ready = conditions.flag('ready', true) // unknown counts as ready: EndpointConditions of discovery/v1
      const nodeName = endpoint.text('nodeName', '')
      return {
        addresses: endpoint.texts('addresses').map((ip) => slice.ip('endpoints[].addresses', ip)),
        ready,
        serving: conditions.flag('serving', ready),
        terminating: conditions.flag('terminating', false),
        ...(nodeName === '' ? {} : { nodeName }),
      }
    }),
  }
}

const protocols: readonly Protocol[] = ['TCP', 'UDP', 'SCTP']
const fieldsOf = (raw: unknown): Fields => (typeof raw === 'object' && raw !== null && !Array.isArray(raw) ? (raw as Fields) : {})

/** Reads typed fields of one object; a missing object or list reads as empty, a wrong type is an error that names the field. */
class Reader {
  readonly #object: string
  readonly #fields: Fields
  readonly #path: string

  constructor(object: string, fields: Fields, path = '') {
    this.#object = object
    this.#fields = fields
    this.#path = path
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null
  }

  keys(): readonly string[] {
    return Object.keys(this.#fields)
  }

  fields(name: string): Reader {
    const value = this.#fields[name] ?? {}
    if (typeof value !== 'object' || Array.isArray(value)) throw this.#wrong(name, 'an object')
    return new Reader(this.#object, value as Fields, `${this.#path}${name}.`)
  }

  list(name: string): readonly Reader[] {
    return this.#array(name).map((value, i) => {
      if (typeof value !== 'object' || value === null) throw this.#wrong(name, 'a list of objects')
      return new Reader(this.#object, value as Fields, `${this.#path}${name}[${i}].`)
    })
  }

  texts(name: string): readonly string[] {
    return this.#array(name).map((value) => {
      if (typeof value !== 'string') throw this.#wrong(name, 'a list of strings')
      return value
    })
  }

  text(name: string, otherwise?: string): string {
    const value = this.#fields[name] ?? otherwise
    if (typeof value !== 'string' || (value === '' && otherwise === undefined)) throw this.#wrong(name, 'a string')
    return value
  }

  choice<const T extends string>(name: string, allowed: readonly T[], otherwise?: T): T {
    const value = allowed.find((one) => one === (this.#fields[name] ?? otherwise))
    if (value === undefined) throw this.#wrong(name, allowed.join(' or '))
    return value
  }

  flag(name: string, otherwise: boolean): boolean {
    const value = this.#fields[name] ?? otherwise
    if (typeof value !== 'boolean') throw this.#wrong(name, 'true or false')
    return value
  }

  number(name: string, otherwise: number): number {
    const value = this.#fields[name] ?? otherwise
    if (typeof value !== 'number') throw this.#wrong(name, 'a number')
    return value
  }

  /** A time of at most a day. */
  seconds(name: string, otherwise: number): number {
    const value = this.number(name, otherwise)
    if (!Number.isInteger(value) || value < 1 || value > 86_400) throw this.#wrong(name, 'seconds from 1 to 86400')
    return value
  }

  port(name: string): number {
    const value = this.#fields[name]
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 65535) throw this.#wrong(name, 'a port from 1 to 65535')
    return value as number
  }

  ip(field: string, text: string): string {
    return canonicalIp(text) ?? this.#fail(field, text, 'an IP address')
  }

  network(field: string, text: string): string {
    return canonicalNetwork(text) ?? this.#fail(field, text, 'a CIDR')
  }

  #array(name: string): readonly unknown[] {
    const value = this.#fields[name] ?? []
    if (!Array.isArray(value)) throw this.#wrong(name, 'a list')
    return value
  }

  #wrong(name: string, allowed: string): Error {
    const value = this.#fields[name]
    const found = value === undefined ? 'absent' : quoted(value)
    return clusterError.ERR_OBJECT_SHAPE({ object: this.#object, field: this.#path + name, found, allowed })
  }

  #fail(field: string, found: string, allowed: string): never {
    throw clusterError.ERR_OBJECT_SHAPE({ object: this.#object, field, found: quoted(found), allowed })
  }
}
