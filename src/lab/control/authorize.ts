/**
 * May they: RBAC over the stored roles and bindings, with two groups that need none: system:masters (admin) and system:nodes (kubelets:
 * a real cluster narrows these per node with the Node authorizer; the lab's kubelets are its own).
 * @module
 */
import type { User } from '#lab/control/authenticate.ts'
import { ApiError, forbidden } from '#lab/control/status.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import { type Tree, textAt, textsAt, treesAt } from '#lab/control/tree.ts'

/** What is to be done: to a resource, or with a path that is none. */
export type Action =
  | {
      readonly verb: string
      readonly group: string
      readonly resource: string
      readonly subresource: string
      readonly namespace: string
      readonly name: string
    }
  | { readonly verb: string; readonly path: string }

const has = (allowed: readonly string[], wanted: string) => allowed.includes('*') || allowed.includes(wanted)

function ruleAllows(rule: Tree, action: Action): boolean {
  if (!has(textsAt(rule, 'verbs'), action.verb)) return false
  if ('path' in action) {
    return textsAt(rule, 'nonResourceURLs').some(
      (url) => url === action.path || (url.endsWith('*') && action.path.startsWith(url.slice(0, -1))),
    )
  }
  if (!has(textsAt(rule, 'apiGroups'), action.group)) return false
  const asked = action.subresource === '' ? action.resource : `${action.resource}/${action.subresource}`
  const named = textsAt(rule, 'resources')
  if (!has(named, asked) && !(action.subresource !== '' && named.includes(`*/${action.subresource}`))) return false
  const names = textsAt(rule, 'resourceNames')
  return names.length === 0 || names.includes(action.name)
}

function binds(binding: KubeObject, user: User): boolean {
  return treesAt(binding, 'subjects').some((subject) => {
    const name = textAt(subject, 'name')
    if (subject.kind === 'User') return name === user.name
    if (subject.kind === 'Group') return user.groups.includes(name)
    return user.name === `system:serviceaccount:${textAt(subject, 'namespace') || binding.metadata.namespace}:${name}`
  })
}

const rbac = 'rbac.authorization.k8s.io'

/** Every rule that holds for `user`: cluster-wide ones, and those of `namespace`. */
export function rulesOf(store: Store, user: User, namespace: string): Tree[] {
  const bindings = [
    ...store.list(`clusterrolebindings.${rbac}`),
    ...(namespace === '' ? [] : store.list(`rolebindings.${rbac}`, { namespace })),
  ]
  return bindings
    .filter((binding) => binds(binding, user))
    .flatMap((binding) => {
      const name = textAt(binding, 'roleRef.name')
      const role =
        textAt(binding, 'roleRef.kind') === 'Role'
          ? store.get(`roles.${rbac}`, namespace, name)
          : store.get(`clusterroles.${rbac}`, undefined, name)
      return treesAt(role, 'rules')
    })
}

export function isAllowed(store: Store, user: User, action: Action): boolean {
  if (user.groups.includes('system:masters') || user.groups.includes('system:nodes')) return true
  return rulesOf(store, user, 'path' in action ? '' : action.namespace).some((rule) => ruleAllows(rule, action))
}

/** @throws {ApiError} 403 in kube-apiserver's words. */
export function authorize(store: Store, user: User, action: Action): void {
  if (isAllowed(store, user, action)) return
  if ('path' in action) throw new ApiError(403, 'Forbidden', `forbidden: User "${user.name}" cannot ${action.verb} path "${action.path}"`)
  const { verb, group, resource, subresource, namespace, name } = action
  const what = `resource "${resource}${subresource === '' ? '' : `/${subresource}`}" in API group "${group}"`
  const where = namespace === '' ? 'at the cluster scope' : `in the namespace "${namespace}"`
  throw forbidden(group === '' ? resource : `${resource}.${group}`, name, `User "${user.name}" cannot ${verb} ${what} ${where}`)
}
