/**
 * Garbage collection by owner references: what lost its last owner is deleted; an owner that is deleted in the foreground waits for
 * its dependents, one that orphans them lets them go.
 * Source: k8s.io/kubernetes/pkg/controller/garbagecollector.
 * @module
 */
import { resources } from '#lab/control/resources.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import type { Controller, Keys } from '#lab/controllers/loop.ts'

const collected: readonly string[] = resources.filter((resource) => resource.stored === resource.id).map((resource) => resource.id)

interface Place {
  readonly resource: string
  readonly namespace: string | undefined
  readonly name: string
}

export function garbageCollector({ store }: { store: Store }): Controller {
  /** Every object alive, by uid. */
  const places = new Map<string, Place>()
  /** Owner's uid → uids of those that name it. */
  const dependents = new Map<string, Set<string>>()

  const watch =
    (resource: string): Keys =>
    (object, old) => {
      const { uid, namespace, name, ownerReferences = [], finalizers } = (object ?? old)!.metadata
      const owners = new Set([...ownerReferences, ...(old?.metadata.ownerReferences ?? [])].map((owner) => owner.uid))
      if (object) {
        places.set(uid, { resource, namespace, name })
        for (const owner of ownerReferences) dependents.set(owner.uid, (dependents.get(owner.uid) ?? new Set()).add(uid))
        // Only a new reference can dangle, and only a finalizer of ours needs us.
        const waits = finalizers?.some((finalizer) => finalizer === 'foregroundDeletion' || finalizer === 'orphan')
        return [...(old ? [] : ownerReferences.map((owner) => owner.uid)), ...(waits ? [uid] : [])]
      }
      places.delete(uid)
      for (const owner of owners) dependents.get(owner)?.delete(uid)
      return [uid, ...owners]
    }

  const read = (uid: string): { place: Place; object: KubeObject } | undefined => {
    const place = places.get(uid)
    const object = place && store.get(place.resource, place.namespace, place.name)
    return object?.metadata.uid === uid ? { place: place!, object } : undefined
  }

  /** Deletes `uid` if no owner of it is left; else forgets the owner that is gone. */
  const collect = (uid: string, gone: string): void => {
    const found = read(uid)
    if (!found) return
    const { resource, namespace, name } = found.place
    const owners = found.object.metadata.ownerReferences ?? []
    if (!owners.some((owner) => owner.uid === gone)) return
    if (owners.some((owner) => read(owner.uid))) {
      store.edit(resource, namespace, name, (draft) => {
        draft.metadata.ownerReferences = owners.filter((owner) => owner.uid !== gone)
      })
    } else if (!found.object.metadata.deletionTimestamp) store.delete(resource, namespace, name)
  }

  return {
    name: 'garbage-collector',
    watches: Object.fromEntries(collected.map((resource) => [resource, watch(resource)])),
    reconcile(uid) {
      const owner = read(uid)
      const mine = [...(dependents.get(uid) ?? [])]
      if (!owner) {
        for (const dependent of mine) collect(dependent, uid)
        if (dependents.get(uid)?.size === 0) dependents.delete(uid)
        return undefined
      }
      const { finalizers = [], deletionTimestamp } = owner.object.metadata
      if (!deletionTimestamp) return undefined
      const release = (finalizer: string): void => {
        store.edit(owner.place.resource, owner.place.namespace, owner.place.name, (draft) => {
          draft.metadata.finalizers = finalizers.filter((one) => one !== finalizer)
        })
      }
      if (finalizers.includes('orphan')) {
        for (const dependent of mine) {
          const found = read(dependent)
          if (!found) continue
          store.edit(found.place.resource, found.place.namespace, found.place.name, (draft) => {
            draft.metadata.ownerReferences = (draft.metadata.ownerReferences ?? []).filter((reference) => reference.uid !== uid)
          })
        }
        release('orphan')
      } else if (finalizers.includes('foregroundDeletion')) {
        const blocking = mine
          .map(read)
          .filter((found) => found?.object.metadata.ownerReferences?.some((one) => one.uid === uid && one.blockOwnerDeletion))
        for (const found of mine.map(read)) {
          if (found && !found.object.metadata.deletionTimestamp)
            store.delete(found.place.resource, found.place.namespace, found.place.name, { propagationPolicy: 'Foreground' })
        }
        if (blocking.every((found) => read(found!.object.metadata.uid) === undefined)) release('foregroundDeletion')
      }
      return undefined
    },
  }
}
