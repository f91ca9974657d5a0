/**
 * Reading of objects whose shape is only known at run time: a path, and what lies there as the type one asks for.
 * A request's object may hold anything, so a wrong type reads as absent here; the schema check (strict.ts) is what reports it.
 * @module
 */

/** Plain data as JSON.parse gives it. */
export type Tree = Record<string, unknown>

export const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value)

/** What lies at `path` (names with dots between), or undefined. */
export function at(from: unknown, path: string): unknown {
  let here = from
  for (const part of path.split('.')) here = isTree(here) ? here[part] : undefined
  return here ?? undefined
}

export const textAt = (from: unknown, path: string): string => {
  const value = at(from, path)
  return value === undefined ? '' : String(value)
}

export const numberAt = (from: unknown, path: string): number => Number(at(from, path) ?? 0)

export const treeAt = (from: unknown, path: string): Tree => {
  const value = at(from, path)
  return isTree(value) ? value : {}
}

/** The objects of a list; empty if there is none. */
export function treesAt(from: unknown, path: string): Tree[] {
  const value = at(from, path)
  return Array.isArray(value) ? value.filter(isTree) : []
}

export function textsAt(from: unknown, path: string): string[] {
  const value = at(from, path)
  return Array.isArray(value) ? value.map(String) : []
}

/** A map of texts, such as labels; empty if there is none. */
export const textMapAt = (from: unknown, path: string): Record<string, string> =>
  Object.fromEntries(Object.entries(treeAt(from, path)).map(([key, value]) => [key, String(value)]))

/** Sets `target[key]` if nothing is there. */
export function fill(target: Tree, defaults: Tree): void {
  for (const [key, value] of Object.entries(defaults)) if (target[key] === undefined || target[key] === null) target[key] = value
}

/** The object at `target[key]`, made if it is absent. */
export function treeIn(target: Tree, key: string): Tree {
  if (!isTree(target[key])) target[key] = {}
  return target[key] as Tree
}
