/**
 * /openapi/v3: the schemas and paths from which kubectl explains fields, merges lists and learns that the server checks fields itself.
 * Built per group when first asked for, from the fields that schemas.ts reads.
 * @module
 */
import { mergeKeyOf, mergeSets } from '#lab/control/merge.ts'
import { groupVersions, type Resource, resources } from '#lab/control/resources.ts'
import { type FieldType, objectType } from '#lab/control/schemas.ts'
import type { Tree } from '#lab/control/tree.ts'

const pathOf = ({ group, version }: { group: string; version: string }) => (group === '' ? `api/${version}` : `apis/${group}/${version}`)

/** The index of documents. The hash stands for the contents, so that kubectl may keep its copy. */
export const openApiIndex = (version: string): Tree => ({
  paths: Object.fromEntries(
    groupVersions.map((gv) => [pathOf(gv), { serverRelativeURL: `/openapi/v3/${pathOf(gv)}?hash=${encodeURIComponent(version)}` }]),
  ),
})

/** `V1PodSpec` → `io.k8s.api.v1.PodSpec`; the last part is what `kubectl explain` shows as a field's type. */
const schemaName = (model: string) =>
  model.replace(/^([A-Z][a-z]+)??V(\d[a-z0-9]*)(?=[A-Z])/, (_, __, version) => `io.k8s.api.v${version}.`)

const cache = new Map<string, Tree>()

/** The document of one group and version; `path` as the index names it. */
export function openApiDocument(path: string): Tree | undefined {
  const gv = groupVersions.find((candidate) => pathOf(candidate) === path)
  if (!gv) return undefined
  const cached = cache.get(path)
  if (cached) return cached
  const kinds = resources.filter((r) => r.group === gv.group && r.version === gv.version)
  const document = {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: 'v1.33.2' },
    paths: Object.fromEntries(kinds.flatMap((r) => pathsOf(r))),
    components: { schemas: schemasOf(kinds) },
  }
  cache.set(path, document)
  return document
}

const writeParameters = ['dryRun', 'fieldManager', 'fieldValidation'].map((name) => ({ name, in: 'query', schema: { type: 'string' } }))

function pathsOf(r: Resource): [string, Tree][] {
  const gvk = { group: r.group, kind: r.kind, version: r.version }
  const schema = { $ref: `#/components/schemas/${schemaName(r.model)}` }
  const responses = { '200': { description: 'OK', content: { 'application/json': { schema } } } }
  const operation = (action: string) => ({
    responses,
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
    ...(/^(post|put|patch)$/.test(action) && { parameters: writeParameters }),
  })
  const base = `/${pathOf(r)}${r.namespaced ? '/namespaces/{namespace}' : ''}/${r.plural}`
  const one = { get: operation('get'), put: operation('put'), patch: operation('patch'), delete: operation('delete') }
  return [
    [base, { get: operation('list'), post: operation('post') }],
    [`${base}/{name}`, one],
  ]
}

function schemasOf(kinds: readonly Resource[]): Tree {
  const byModel = new Map(kinds.map((r) => [r.model, r]))
  const schemas: Tree = {}
  function add(model: string): void {
    const name = schemaName(model)
    if (schemas[name] !== undefined) return
    const { doc, fields } = objectType(model)
    const properties: Tree = {}
    const required = [...fields].filter(([, field]) => field.required).map(([key]) => key)
    const r = byModel.get(model)
    const gvk = r && [{ group: r.group, kind: r.kind, version: r.version }]
    schemas[name] = {
      type: 'object',
      ...(doc && { description: doc }),
      properties,
      ...(required.length > 0 && { required }),
      ...(gvk && { 'x-kubernetes-group-version-kind': gvk }),
    }
    for (const [key, field] of fields) {
      const schema = schemaOf(field.type)
      // `allOf` carries a description beside a reference, as kube-apiserver writes it.
      const described = '$ref' in schema ? { allOf: [schema], default: {} } : schema
      properties[key] = { ...described, ...(field.doc && { description: field.doc }), ...mergeExtensions(model, key, field.type) }
    }
  }
  function schemaOf(type: FieldType): Tree {
    switch (type.is) {
      case 'object':
        add(type.type)
        return { $ref: `#/components/schemas/${schemaName(type.type)}` }
      case 'list':
        return { type: 'array', items: schemaOf(type.of) }
      case 'map':
        return { type: 'object', additionalProperties: schemaOf(type.of) }
      case 'time':
        return { type: 'string', format: 'date-time' }
      case 'int-or-string':
        return { 'x-kubernetes-int-or-string': true, format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] }
      case 'any':
        return { 'x-kubernetes-preserve-unknown-fields': true }
      default:
        return { type: type.is }
    }
  }
  for (const { model } of kinds) add(model)
  return schemas
}

/** The field under which a type is held, where the merge table tells lists of one name apart by it. */
const holders: Readonly<Record<string, string>> = { V1ServiceSpec: 'spec', V1Container: 'containers' }

function mergeExtensions(model: string, key: string, type: FieldType): Tree | undefined {
  if (type.is !== 'list') return undefined
  if (type.of.is !== 'object') return mergeSets.has(key) ? { 'x-kubernetes-patch-strategy': 'merge' } : undefined
  const by = mergeKeyOf(holders[model] ?? '', key)
  if (by === undefined || !objectType(type.of.type).fields.has(by)) return undefined
  return { 'x-kubernetes-patch-merge-key': by, 'x-kubernetes-patch-strategy': key === 'volumes' ? 'merge,retainKeys' : 'merge' }
}
