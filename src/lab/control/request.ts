/**
 * What a request asks for, read from its method, path and query: the RequestInfo of a Kubernetes API server.
 *     /api/v1/namespaces/NS/pods/NAME/log          /apis/apps/v1/deployments?watch=true
 * @module
 */
import type { Action } from '#lab/control/authorize.ts'
import { type Resource, resourceAt, resources } from '#lab/control/resources.ts'
import { ApiError } from '#lab/control/status.ts'

export interface Target {
  readonly resource: Resource
  /** '' for cluster-wide resources and for a list over all namespaces. */
  readonly namespace: string
  /** '' for a collection. */
  readonly name: string
  readonly subresource: string
  readonly verb: string
  readonly query: URLSearchParams
}

const verbs: Readonly<Record<string, readonly [one: string, many: string]>> = {
  GET: ['get', 'list'],
  HEAD: ['get', 'list'],
  POST: ['create', 'create'],
  PUT: ['update', 'update'],
  PATCH: ['patch', 'patch'],
  DELETE: ['delete', 'deletecollection'],
}

/** Names what is not there, and what is, since this API server is a part of a lab and serves what the lab needs. */
export function notServed(what: string): ApiError {
  const groups = [...new Set(resources.map((r) => r.id))].join(', ')
  // Details, though empty: kubectl debug reads them unasked.
  return new ApiError(404, 'NotFound', `the embedded lab control plane does not serve ${what}; it serves ${groups}`, {})
}

const isTrue = (text: string | null) => text === 'true' || text === '1'

/** @returns undefined if the path names no resource. @throws {ApiError} 404 naming a resource that is not served. */
export function targetOf(method: string, url: URL): Target | undefined {
  const steps = url.pathname.split('/').filter(Boolean).map(decodeURIComponent)
  const root = steps.shift()
  const group = root === 'apis' ? steps.shift() : root === 'api' ? '' : undefined
  const version = steps.shift()
  if (group === undefined || version === undefined || steps.length === 0) return undefined
  let namespace = ''
  // `namespaces/NS/pods` lies in NS; `namespaces/NS` and `namespaces/NS/status` are the namespace itself.
  const inNamespace =
    group === '' && (steps[2] === 'status' || steps[2] === 'finalize') ? false : steps[0] === 'namespaces' && steps.length > 2
  if (inNamespace) namespace = steps.splice(0, 2)[1]!
  const [plural, name = '', subresource = '', ...more] = steps
  const gv = group === '' ? version : `${group}/${version}`
  const resource = resourceAt(group, version, plural!)
  if (!resource) throw notServed(`${plural} (${gv})`)
  if (more.length > 0 || (subresource !== '' && !resource.sub[subresource])) {
    throw notServed(`the subresource ${[subresource, ...more].join('/')} of ${plural} (${gv})`)
  }
  if (inNamespace && !resource.namespaced) throw notServed(`${plural} (${gv}) in a namespace: they are cluster-wide`)
  if (resource.id === 'namespaces') namespace = ''
  const query = url.searchParams
  const [one, many] = verbs[method] ?? ['', '']
  const verb = name === '' ? (method === 'GET' && isTrue(query.get('watch')) ? 'watch' : many) : one
  return { resource, namespace, name, subresource, verb, query }
}

/** What authorization is asked. */
export const actionOf = ({ resource, namespace, name, subresource, verb }: Target): Action => ({
  verb,
  group: resource.group,
  resource: resource.plural,
  subresource,
  namespace,
  name,
})
