/**
 * create, update, patch, delete: from the request's body to the store.
 * @module
 */
import { jsonPatch, mergePatch, strategicMerge } from '#lab/control/merge.ts'
import { oneOf, selected } from '#lab/control/read.ts'
import type { Target } from '#lab/control/request.ts'
import { apiVersionOf, type Resource } from '#lab/control/resources.ts'
import { ApiError, badRequest, invalid } from '#lab/control/status.ts'
import type { DeleteOptions, KubeObject, MemoryStore, Subresource } from '#lab/control/store.ts'
import { decode, strictError } from '#lab/control/strict.ts'
import { at, isTree, type Tree, textAt } from '#lab/control/tree.ts'
import { shown, toStored } from '#lab/control/views.ts'

/** What a write gives back: the body, its code, and what kubectl shall print as `Warning:`. */
export interface Written {
  readonly code: number
  readonly object: KubeObject | Tree
  readonly warnings: readonly string[]
}

type Validation = 'Strict' | 'Warn' | 'Ignore'

function validationOf(query: URLSearchParams): Validation {
  const asked = query.get('fieldValidation') || 'Warn'
  if (asked === 'Strict' || asked === 'Warn' || asked === 'Ignore') return asked
  throw badRequest(`fieldValidation: Unsupported value: "${asked}": supported values: "Ignore", "Strict", "Warn"`)
}

function isDryRun(query: URLSearchParams, options: Tree = {}): boolean {
  const asked = [...query.getAll('dryRun'), ...((options.dryRun as string[] | undefined) ?? [])]
  if (asked.some((value) => value !== 'All')) throw badRequest('dryRun: Unsupported value: supported values: "All"')
  return asked.length > 0
}

const perhapsDry = <T>(store: MemoryStore, dry: boolean, write: () => T): T => (dry ? store.dryRun(write) : write())

/** Checks what kind, name and namespace the body claims, against where it was sent. */
function identify({ resource, namespace, name }: Target, body: Tree): void {
  const { kind } = resource
  const apiVersion = apiVersionOf(resource)
  if (body.kind !== undefined && body.kind !== kind)
    throw badRequest(`${String(body.kind)} in version "${resource.version}" cannot be handled as a ${kind}`)
  if (body.apiVersion !== undefined && body.apiVersion !== apiVersion)
    throw badRequest(`the API version in the data (${String(body.apiVersion)}) does not match the expected API version (${apiVersion})`)
  body.kind = kind
  body.apiVersion = apiVersion
  // A copy: a patch that says nothing of metadata leaves the stored (frozen) one in place.
  const metadata = isTree(body.metadata) ? { ...body.metadata } : {}
  body.metadata = metadata
  if (namespace !== '') {
    if (metadata.namespace && metadata.namespace !== namespace) {
      throw badRequest(
        `the namespace of the provided object does not match the namespace sent on the request: "${textAt(metadata, 'namespace')}", "${namespace}"`,
      )
    }
    metadata.namespace = namespace
  }
  if (name === '') return
  if (metadata.name && metadata.name !== name)
    throw badRequest(`the name of the object (${textAt(metadata, 'name')}) does not match the name on the URL (${name})`)
  metadata.name = name
}

function typed(resource: Resource, body: Tree, validation: Validation): { object: KubeObject; warnings: string[] } {
  const { object, unknown } = decode(resource.kind, resource.model, body)
  if (unknown.length > 0 && validation === 'Strict') throw strictError(resource.kind, resource.version, unknown)
  const warnings = validation === 'Ignore' ? [] : unknown.map((path) => `unknown field "${path}"`)
  return { object: object as unknown as KubeObject, warnings }
}

export function create(store: MemoryStore, target: Target, body: Tree): Written {
  const { resource, namespace, query } = target
  if (resource.namespaced && namespace === '') throw badRequest('an empty namespace may not be set during creation')
  identify(target, body)
  const { object, warnings } = typed(resource, body, validationOf(query))
  const stored = perhapsDry(store, isDryRun(query), () => store.create(resource.stored, toStored(resource, object)))
  return { code: 201, object: shown(resource, stored), warnings }
}

const subresourceOf = ({ subresource }: Target): Subresource => (subresource === 'status' ? 'status' : undefined)

export function update(store: MemoryStore, target: Target, body: Tree): Written {
  const { resource, query } = target
  identify(target, body)
  const { object, warnings } = typed(resource, body, validationOf(query))
  oneOf(store, target)
  const stored = perhapsDry(store, isDryRun(query), () => store.update(resource.stored, toStored(resource, object), subresourceOf(target)))
  return { code: 200, object: shown(resource, stored), warnings }
}

/** @param body  As sent, since a JSON patch is a list. */
export function patch(store: MemoryStore, target: Target, contentType: string, body: Buffer): Written {
  const { resource, query } = target
  if (/^application\/apply-patch/.test(contentType)) {
    const way = 'the embedded lab control plane does not track field owners, so it has no server-side apply; leave --server-side out'
    throw new ApiError(415, 'UnsupportedMediaType', way)
  }
  const current = oneOf(store, target)
  const patched = applyPatch(structuredClone(shown(resource, current)), contentType, body)
  // A patch that names a resourceVersion asks for a check against it; one that does not, wins.
  identify(target, patched)
  const { object: clean, unknown } = decode(resource.kind, resource.model, patched)
  const validation = validationOf(query)
  if (unknown.length > 0 && validation === 'Strict') {
    const detail = `strict decoding error: ${unknown.map((path) => `unknown field "${path}"`).join(', ')}`
    throw invalid('', '', '', [{ type: 'Invalid value', field: 'patch', value: body.toString(), detail }])
  }
  const object = toStored(resource, clean as unknown as KubeObject)
  const stored = perhapsDry(store, isDryRun(query), () => store.update(resource.stored, object, subresourceOf(target)))
  const warnings = validation === 'Ignore' ? [] : unknown.map((path) => `unknown field "${path}"`)
  return { code: 200, object: shown(resource, stored), warnings }
}

/** The patched object, by the patch type that the Content-Type names. */
export function applyPatch(current: Tree, contentType: string, body: Buffer): Tree {
  const type = contentType.split(';')[0]!.trim()
  let value: unknown
  try {
    value = JSON.parse(body.toString())
  } catch (error) {
    throw badRequest(`error decoding patch: ${(error as Error).message}`)
  }
  if (type === 'application/json-patch+json') return jsonPatch(current, value) as Tree
  if (!isTree(value)) throw badRequest('error decoding patch: expected a JSON object')
  if (type === 'application/merge-patch+json') return mergePatch(current, value) as Tree
  if (type === 'application/strategic-merge-patch+json') return strategicMerge(current, value)
  const known = 'application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json'
  throw new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${known}`,
  )
}

function deleteOptions(query: URLSearchParams, body: Tree): DeleteOptions {
  const grace = query.get('gracePeriodSeconds') ?? body.gracePeriodSeconds
  const policy =
    query.get('propagationPolicy') ??
    (body.propagationPolicy as string | undefined) ??
    (body.orphanDependents === true ? 'Orphan' : undefined)
  if (policy && !['Background', 'Foreground', 'Orphan'].includes(policy)) {
    throw badRequest(`propagationPolicy: Unsupported value: "${policy}": supported values: "Background", "Foreground", "Orphan"`)
  }
  const preconditions = isTree(body.preconditions) ? { preconditions: body.preconditions } : {}
  return {
    ...(grace !== undefined && grace !== null && { gracePeriodSeconds: Number(grace) }),
    ...(policy && { propagationPolicy: policy as 'Background' }),
    ...preconditions,
  }
}

/** The object while something still holds it; a Status of success, with the uid that kubectl waits on, once it is gone. */
export function remove(store: MemoryStore, target: Target, body: Tree): Written {
  const { resource, namespace, name, query } = target
  const dry = isDryRun(query, body)
  const last = perhapsDry(store, dry, () => {
    oneOf(store, target)
    return store.delete(resource.stored, namespace || undefined, name, deleteOptions(query, body))
  })
  if (store.get(resource.stored, namespace || undefined, name) && !dry) return { code: 200, object: shown(resource, last), warnings: [] }
  const details = { name, ...(resource.group && { group: resource.group }), kind: resource.plural, uid: at(last, 'metadata.uid') }
  return { code: 200, object: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details }, warnings: [] }
}

export function removeCollection(store: MemoryStore, target: Target, body: Tree): Written {
  const { resource, query } = target
  const dry = isDryRun(query, body)
  const items = selected(store, target).map(({ metadata }) =>
    perhapsDry(store, dry, () => store.delete(resource.stored, metadata.namespace, metadata.name, deleteOptions(query, body))),
  )
  const metadata = { resourceVersion: String(store.resourceVersion) }
  const list = {
    kind: `${resource.kind}List`,
    apiVersion: apiVersionOf(resource),
    metadata,
    items: items.map((item) => shown(resource, item)),
  }
  return { code: 200, object: list, warnings: [] }
}
