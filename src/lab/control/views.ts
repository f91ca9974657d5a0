/**
 * Events have two shapes, core/v1 and events.k8s.io/v1, for one object. Stored is the core one; here the other is made and read.
 * @module
 */
import type { Resource } from '#lab/control/resources.ts'
import type { KubeObject } from '#lab/control/store.ts'
import type { Tree } from '#lab/control/tree.ts'

/** core/v1 name → events.k8s.io/v1 name; the rest is called the same. */
const renamed: readonly (readonly [string, string])[] = [
  ['involvedObject', 'regarding'],
  ['message', 'note'],
  ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['count', 'deprecatedCount'],
  ['reportingComponent', 'reportingController'],
]

function rename(object: Tree, names: Iterable<readonly [string, string]>): Tree {
  const to = new Map(names)
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [to.get(key) ?? key, value]))
}

const isOtherView = (r: Resource) => r.id !== r.stored

/** How `r` shows a stored object. */
export const shown = (r: Resource, object: KubeObject): KubeObject =>
  isOtherView(r) ? ({ ...rename(object, renamed), apiVersion: 'events.k8s.io/v1' } as KubeObject) : object

/** How an object that came as `r` is stored. */
export const toStored = (r: Resource, object: KubeObject): KubeObject => {
  if (!isOtherView(r)) return object
  const back = renamed.map(([core, other]) => [other, core] as const)
  return { ...rename(object, back), apiVersion: 'v1' } as KubeObject
}
