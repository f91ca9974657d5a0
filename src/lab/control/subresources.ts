/**
 * The subresources that are more than a part of their object: scale, binding, eviction, token, finalize.
 * @module
 */
import { spendBudget } from '#lab/control/budgets.ts'
import { oneOf } from '#lab/control/read.ts'
import type { Target } from '#lab/control/request.ts'
import { type LabelSelector, showSelector } from '#lab/control/selectors.ts'
import { badRequest, conflict, invalid } from '#lab/control/status.ts'
import { type KubeObject, type MemoryStore, rfc3339 } from '#lab/control/store.ts'
import { issuer, type TokenIssuer } from '#lab/control/tokens.ts'
import { at, numberAt, type Tree, textAt, textsAt, treeIn } from '#lab/control/tree.ts'
import { applyPatch, type Written } from '#lab/control/write.ts'

/** autoscaling/v1 Scale of a Deployment or ReplicaSet. */
export function scaleOf(object: KubeObject): Tree {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata
  const selector = showSelector(at(object, 'spec.selector') as LabelSelector | undefined)
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: numberAt(object, 'spec.replicas') },
    status: { replicas: numberAt(object, 'status.replicas'), selector },
  }
}

/** @param change  A Scale (PUT), or how to patch the present one. */
export function setScale(store: MemoryStore, target: Target, change: Tree | { contentType: string; body: Buffer }): Written {
  const { resource, namespace, name, query } = target
  const object = oneOf(store, target)
  const wanted = Buffer.isBuffer(change.body) ? applyPatch(scaleOf(object), String(change.contentType), change.body) : (change as Tree)
  const replicas = at(wanted, 'spec.replicas') ?? 0
  if (!Number.isInteger(replicas) || Number(replicas) < 0) {
    const fault = { type: 'Invalid value', field: 'spec.replicas', value: replicas, detail: 'must be greater than or equal to 0' } as const
    throw invalid('Scale', 'autoscaling', name, [fault])
  }
  const asked = textAt(wanted, 'metadata.resourceVersion')
  if (asked !== '' && asked !== object.metadata.resourceVersion) throw conflict(resource.id, name, 'the object has been modified')
  const write = () =>
    store.edit<KubeObject & { spec: Tree }>(resource.stored, namespace, name, (draft) => {
      draft.spec.replicas = replicas
    })
  const scaled = query.has('dryRun') ? store.dryRun(write) : write()
  return { code: 200, object: scaleOf(scaled ?? object), warnings: [] }
}

/** How a scheduler places a pod: once. */
export function bind(store: MemoryStore, target: Target, body: Tree): Written {
  const { namespace, name } = target
  const pod = oneOf(store, target)
  const node = textAt(body, 'target.name')
  if (node === '') throw badRequest('a Binding names the node in target.name')
  const bound = textAt(pod, 'spec.nodeName')
  if (bound !== '') throw conflict('pods/binding', name, `pod ${name} is already assigned to node "${bound}"`)
  store.edit<KubeObject & { spec: Tree }>('pods', namespace, name, (draft) => {
    draft.spec.nodeName = node
  })
  return { code: 201, object: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }, warnings: [] }
}

/** `kubectl drain`: a deletion, if the pod's disruption budget allows one now. Source: pkg/registry/core/pod/storage/eviction.go.
 * @throws {ApiError} 429, upon which kubectl tries again. */
export function evict(store: MemoryStore, target: Target, body: Tree): Written {
  const pod = oneOf(store, target)
  const { namespace, name, query } = target
  const phase = textAt(pod, 'status.phase')
  const running = phase !== 'Succeeded' && phase !== 'Failed' && phase !== 'Pending' && !pod.metadata.deletionTimestamp
  const evicted = (): void => {
    if (running) spendBudget(store, pod)
    const grace = at(body, 'deleteOptions.gracePeriodSeconds')
    store.delete('pods', namespace, name, typeof grace === 'number' ? { gracePeriodSeconds: grace } : {})
  }
  if (query.has('dryRun') || textsAt(body, 'deleteOptions.dryRun').length > 0) store.dryRun(evicted)
  else evicted()
  return { code: 201, object: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }, warnings: [] }
}

/** TokenRequest: for `kubectl create token` and for the kubelet's projected volumes. */
export function requestToken(store: MemoryStore, tokens: TokenIssuer, target: Target, body: Tree): Written {
  const { namespace, name } = target
  const account = oneOf(store, target)
  const seconds = Math.max(600, numberAt(body, 'spec.expirationSeconds') || 3600)
  const audiences = textsAt(body, 'spec.audiences')
  const podName = textAt(body, 'spec.boundObjectRef.kind') === 'Pod' ? textAt(body, 'spec.boundObjectRef.name') : ''
  const pod = podName === '' ? undefined : store.get('pods', namespace, podName)
  if (podName !== '' && !pod) throw badRequest(`cannot bind token to pod ${namespace}/${podName}: no such pod`)
  const node = textAt(pod, 'spec.nodeName')
  const claims = {
    namespace,
    account: name,
    accountUid: account.metadata.uid,
    ...(pod && { pod: { name: podName, uid: pod.metadata.uid } }),
    ...(node && { node }),
  }
  const { token, expires } = tokens.issue(claims, seconds, audiences.length > 0 ? audiences : [issuer])
  const object = {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace, creationTimestamp: rfc3339(Date.now()) },
    spec: {
      audiences: audiences.length > 0 ? audiences : [issuer],
      expirationSeconds: seconds,
      boundObjectRef: at(body, 'spec.boundObjectRef') ?? null,
    },
    status: { token, expirationTimestamp: rfc3339(expires) },
  }
  return { code: 201, object, warnings: [] }
}

/** Takes the finalizers from a namespace that ends; the last one's removal deletes it. */
export function finalize(store: MemoryStore, target: Target, body: Tree): Written {
  const object = store.edit<KubeObject & Tree>('namespaces', undefined, oneOf(store, target).metadata.name, (draft) => {
    treeIn(draft, 'spec').finalizers = textsAt(body, 'spec.finalizers')
  })
  return { code: 200, object: object!, warnings: [] }
}
