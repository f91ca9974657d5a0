/**
 * get and list: objects, lists in pages, and both as tables.
 * @module
 */

import type { Target } from '#lab/control/request.ts'
import { apiVersionOf } from '#lab/control/resources.ts'
import { ApiError, notFound } from '#lab/control/status.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import { tableOf } from '#lab/control/tables.ts'
import type { Tree } from '#lab/control/tree.ts'
import { shown } from '#lab/control/views.ts'

/** How the client wants what it gets: as it is, as a Table, or as metadata only. */
export type Form = 'object' | 'table' | 'metadata'

/** The first form that the Accept header names and that we have. */
export function formOf(accept: string): Form {
  for (const part of accept.split(',')) {
    if (/as=Table/.test(part) && /v=v1\b(?!beta)/.test(part)) return 'table'
    if (/as=PartialObjectMetadata/.test(part) && /v=v1\b(?!beta)/.test(part)) return 'metadata'
    if (/application\/json\s*(;|$)/.test(part) && !/as=/.test(part)) return 'object'
  }
  return 'object'
}

const metadataOnly = (object: KubeObject, kind: string): Tree => ({ kind, apiVersion: 'meta.k8s.io/v1', metadata: object.metadata })

export function oneOf(store: Store, target: Target): KubeObject {
  const { resource, namespace, name } = target
  const object = store.get(resource.stored, namespace || undefined, name)
  if (!object) throw notFound(resource.id, name)
  return object
}

/** One object in the wanted form. */
export function showOne(target: Target, object: KubeObject, form: Form, o: { now: number; headers?: boolean }): unknown {
  const { resource, query } = target
  if (form === 'metadata') return metadataOnly(object, 'PartialObjectMetadata')
  if (form === 'object') return shown(resource, object)
  const listMeta = { resourceVersion: object.metadata.resourceVersion }
  const include = query.get('includeObject') ?? 'Metadata'
  return tableOf(resource, [object], listMeta, { include, now: o.now, headers: o.headers ?? true, view: (each) => shown(resource, each) })
}

/** Where the next page starts. Pages are cut from the live list, not from a snapshot: enough for kubectl, and said here. */
interface Continue {
  readonly after: string
  readonly resourceVersion: number
}

export function list(store: Store, target: Target, form: Form, now: number): unknown {
  const { resource, query } = target
  const all = selected(store, target)
  const token = query.get('continue')
  const from = token ? readContinue(token) : undefined
  const rest = from ? all.filter((object) => placeOf(object) > from.after) : all
  const limit = Number(query.get('limit') ?? 0)
  const page = limit > 0 ? rest.slice(0, limit) : rest
  const resourceVersion = String(from?.resourceVersion ?? store.resourceVersion)
  const next: Continue | undefined =
    page.length < rest.length ? { after: placeOf(page.at(-1)!), resourceVersion: Number(resourceVersion) } : undefined
  const metadata = {
    resourceVersion,
    ...(next && { continue: Buffer.from(JSON.stringify(next)).toString('base64url'), remainingItemCount: rest.length - page.length }),
  }
  if (form === 'table') {
    const include = query.get('includeObject') ?? 'Metadata'
    return tableOf(resource, page, metadata, { include, now, headers: true, view: (object) => shown(resource, object) })
  }
  if (form === 'metadata') {
    const items = page.map((object) => metadataOnly(object, 'PartialObjectMetadata'))
    return { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata, items }
  }
  const items = page.map((object) => shown(resource, object))
  return { kind: `${resource.kind}List`, apiVersion: apiVersionOf(resource), metadata, items }
}

/** The objects that a collection request means. */
export function selected(store: Store, { resource, namespace, query }: Target): KubeObject[] {
  const [labelSelector, fieldSelector] = [query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '']
  return store.list(resource.stored, { namespace, labelSelector, fieldSelector })
}

const placeOf = ({ metadata }: KubeObject) => `${metadata.namespace ?? ''}/${metadata.name}`

function readContinue(token: string): Continue {
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString()) as Continue
  } catch {
    throw new ApiError(400, 'BadRequest', 'continue key is not valid')
  }
}
