/**
 * The patches of the Kubernetes API: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch. Pure.
 *
 * A strategic merge patch is a merge patch that knows which lists are maps in disguise: `containers` merges by `name`, so a patch
 * names only what it changes. Directives: `$patch: replace|delete|merge`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`,
 * `$retainKeys`. Source: k8s.io/apimachinery/pkg/util/strategicpatch, and the patchMergeKey tags of k8s.io/api.
 * @module
 */
import { badRequest, invalid } from '#lab/control/status.ts'
import { isTree, type Tree } from '#lab/control/tree.ts'

/** Lists that merge by a key. By field name, and where one name means two things, by the field that holds it. */
export const mergeKeys: Readonly<Record<string, string>> = {
  containers: 'name',
  initContainers: 'name',
  ephemeralContainers: 'name',
  env: 'name',
  volumes: 'name',
  volumeMounts: 'mountPath',
  volumeDevices: 'devicePath',
  imagePullSecrets: 'name',
  hostAliases: 'ip',
  topologySpreadConstraints: 'topologyKey',
  conditions: 'type',
  addresses: 'type',
  podIPs: 'ip',
  hostIPs: 'ip',
  resourceClaims: 'name',
  schedulingGates: 'name',
  ownerReferences: 'uid',
  secrets: 'name',
  'spec.ports': 'port',
  'containers.ports': 'containerPort',
  'initContainers.ports': 'containerPort',
}

/** Lists of plain values that merge as sets. */
export const mergeSets: ReadonlySet<string> = new Set(['finalizers', 'podCIDRs'])

/** The key by which the list `field`, held by `parent`, merges; undefined if a patch replaces it whole. */
export const mergeKeyOf = (parent: string, field: string): string | undefined => mergeKeys[`${parent}.${field}`] ?? mergeKeys[field]

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isTree(patch)) return patch
  const merged: Tree = isTree(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = mergePatch(merged[key], value)
  }
  return merged
}

const isDirective = (key: string) => key === '$patch' || key === '$retainKeys' || /^\$(deleteFromPrimitiveList|setElementOrder)\//.test(key)

/** @param parent  The field that holds `target`, to tell one `ports` from another. */
export function strategicMerge(target: Tree, patch: Tree, parent = ''): Tree {
  if (patch.$patch === 'replace') return withoutDirectives(patch) as Tree
  if (patch.$patch === 'delete') return {}
  const merged: Tree = { ...target }
  if (Array.isArray(patch.$retainKeys)) for (const key of Object.keys(merged)) if (!patch.$retainKeys.includes(key)) delete merged[key]
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const field = key.slice(key.indexOf('/') + 1)
      if (Array.isArray(merged[field])) merged[field] = merged[field].filter((part) => !(value as unknown[]).includes(part))
    }
  }
  for (const [key, value] of Object.entries(patch)) {
    if (isDirective(key)) continue
    if (value === null) delete merged[key]
    else if (isTree(value)) merged[key] = strategicMerge(isTree(merged[key]) ? merged[key] : {}, value, key)
    else if (Array.isArray(value)) merged[key] = mergeList(Array.isArray(merged[key]) ? merged[key] : [], value, parent, key)
    else merged[key] = value
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith('$setElementOrder/') || !Array.isArray(value)) continue
    const field = key.slice(key.indexOf('/') + 1)
    if (Array.isArray(merged[field])) merged[field] = inOrder(merged[field], value, mergeKeyOf(parent, field))
  }
  return merged
}

function mergeList(target: readonly unknown[], patch: readonly unknown[], parent: string, field: string): unknown[] {
  if (mergeSets.has(field)) return [...new Set([...target, ...patch])]
  const by = mergeKeyOf(parent, field)
  if (by === undefined) return withoutDirectives(patch) as unknown[]
  const elements = patch.filter(isTree)
  if (elements.some((element) => element.$patch === 'replace' && Object.keys(element).length === 1)) {
    return withoutDirectives(elements.filter((element) => element.$patch !== 'replace')) as unknown[]
  }
  let merged = [...target]
  for (const element of elements) {
    const key = element[by]
    if (key === undefined) throw badRequest(`map: ${JSON.stringify(element)} does not contain declared merge key: ${by}`)
    const isSame = (other: unknown) => isTree(other) && other[by] === key
    if (element.$patch === 'delete') merged = merged.filter((other) => !isSame(other))
    else if (merged.some(isSame)) merged = merged.map((other) => (isSame(other) ? strategicMerge(other as Tree, element, field) : other))
    else merged.push(withoutDirectives(element))
  }
  return merged
}

/** Elements that `order` names come in its order; the others keep their place after the named one they followed. */
function inOrder(list: readonly unknown[], order: readonly unknown[], by: string | undefined): unknown[] {
  const keyOf = (element: unknown) => (by !== undefined && isTree(element) ? element[by] : element)
  const wanted = new Map(order.map((element, i) => [keyOf(element), i]))
  let place = -1
  return list
    .map((element, i) => {
      const own = wanted.get(keyOf(element))
      if (own !== undefined) place = own
      return { element, rank: own ?? place, i }
    })
    .sort((a, b) => a.rank - b.rank || a.i - b.i)
    .map(({ element }) => element)
}

/** What a patch adds where nothing was: its directives and nulls have nothing to act on. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((part) => !(isTree(part) && part.$patch === 'delete')).map(withoutDirectives)
  if (!isTree(value)) return value
  const kept = Object.entries(value).filter(([key, part]) => !isDirective(key) && part !== null)
  return Object.fromEntries(kept.map(([key, part]) => [key, withoutDirectives(part)]))
}

interface JsonOperation {
  readonly op: string
  readonly path: string
  readonly from?: string
  readonly value?: unknown
}

const failed = (why: string) => invalid('', '', '', [{ type: 'Invalid value', field: 'patch', detail: why }])

/** RFC 6902. `target` is left alone. @throws {ApiError} 422 if a path does not exist or a test fails. */
export function jsonPatch(target: unknown, operations: unknown): unknown {
  if (!Array.isArray(operations)) throw badRequest('a JSON patch is a list of operations')
  let root = structuredClone(target)
  /** The container of the last step of `pointer`, and that step. */
  const locate = (pointer: string): [Tree | unknown[], string] => {
    const steps = pointer.split('/').map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
    if (steps.shift() !== '' || steps.length === 0) throw failed(`path "${pointer}" is not a JSON pointer below the root`)
    const last = steps.pop()!
    let here: unknown = root
    for (const step of steps)
      here = Array.isArray(here) ? here[Number(step)] : isTree(here) && Object.hasOwn(here, step) ? here[step] : undefined
    if (!isTree(here) && !Array.isArray(here)) throw failed(`path "${pointer}" does not exist`)
    return [here, last]
  }
  const read = (pointer: string): unknown => {
    if (pointer === '') return root
    const [holder, step] = locate(pointer)
    const value = Array.isArray(holder) ? holder[Number(step)] : Object.hasOwn(holder, step) ? holder[step] : undefined
    if (value === undefined) throw failed(`path "${pointer}" does not exist`)
    return value
  }
  const add = (pointer: string, value: unknown) => {
    if (pointer === '') root = value
    else {
      const [holder, step] = locate(pointer)
      if (!Array.isArray(holder)) holder[step] = value
      else if (step === '-') holder.push(value)
      else if (/^\d+$/.test(step) && Number(step) <= holder.length) holder.splice(Number(step), 0, value)
      else throw failed(`index "${step}" is outside the list at "${pointer}"`)
    }
  }
  const remove = (pointer: string) => {
    read(pointer)
    const [holder, step] = locate(pointer)
    if (Array.isArray(holder)) holder.splice(Number(step), 1)
    else delete holder[step]
  }
  for (const { op, path, from, value } of operations as JsonOperation[]) {
    if (op === 'add') add(path, structuredClone(value))
    else if (op === 'remove') remove(path)
    else if (op === 'replace') {
      read(path)
      if (path !== '') remove(path)
      add(path, structuredClone(value))
    } else if (op === 'test') {
      if (JSON.stringify(read(path)) !== JSON.stringify(value)) throw failed(`testing value ${path} failed`)
    } else if (op === 'copy' || op === 'move') {
      const moved = structuredClone(read(from ?? ''))
      if (op === 'move') remove(from ?? '')
      add(path, moved)
    } else throw failed(`unknown operation "${op}": add, remove, replace, test, copy and move exist`)
  }
  return root
}
