/**
 * watch: one line of JSON a change, for as long as the client listens.
 *
 * Without a resourceVersion (or with 0) the present objects come first, as ADDED. With sendInitialEvents they are followed by a
 * bookmark that says where they end. A start that the history no longer reaches is an ERROR event with 410 in a 200 answer, as
 * kube-apiserver's watch cache gives it; a start in the future can only come from a life of this control plane that is lost: 410 too.
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Form, selected, showOne } from '#lab/control/read.ts'
import type { Target } from '#lab/control/request.ts'
import { apiVersionOf } from '#lab/control/resources.ts'
import { matches, matchesFields, parseFieldSelector, parseLabelSelector } from '#lab/control/selectors.ts'
import { ApiError, badRequest, expired } from '#lab/control/status.ts'
import type { KubeObject, Store, StoreEvent } from '#lab/control/store.ts'
import type { Tree } from '#lab/control/tree.ts'

const bookmarkEveryMs = 60_000

export function watch(store: Store, target: Target, form: Form, request: IncomingMessage, response: ServerResponse): void {
  const { resource, namespace, query } = target
  const labels = parseLabelSelector(query.get('labelSelector') ?? '')
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '')
  const wantsBookmarks = query.get('allowWatchBookmarks') === 'true'
  const asked = query.get('resourceVersion') ?? ''
  if (!/^\d*$/.test(asked)) throw badRequest(`invalid resource version ${JSON.stringify(asked)}`)
  const initialAsked = query.get('sendInitialEvents')
  if (initialAsked !== null && query.get('resourceVersionMatch') !== 'NotOlderThan') {
    throw badRequest('sendInitialEvents requires setting resourceVersionMatch to NotOlderThan')
  }
  const sendsInitial = initialAsked === null ? Number(asked) === 0 : initialAsked === 'true'

  response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' })
  response.flushHeaders()
  let headers = true
  const send = (type: string, object: unknown) => {
    response.write(`${JSON.stringify({ type, object })}\n`)
  }
  const sendObject = (type: string, object: KubeObject) => {
    send(type, showOne(target, object, form, { now: Date.now(), headers }))
    headers = false
  }
  let delivered = store.resourceVersion
  const sendBookmark = (annotations?: Tree) => {
    const metadata = { resourceVersion: String(delivered), creationTimestamp: null, ...(annotations && { annotations }) }
    if (form === 'table') send('BOOKMARK', { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions: null, rows: [] })
    else if (form === 'metadata') send('BOOKMARK', { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata })
    else send('BOOKMARK', { kind: resource.kind, apiVersion: apiVersionOf(resource), metadata })
  }
  const isSelected = (object: KubeObject | undefined) =>
    object !== undefined &&
    (namespace === '' || object.metadata.namespace === namespace) &&
    matches(labels, object.metadata.labels) &&
    matchesFields(fields, object)
  /** A change that moves an object into or out of the selection is an addition or a deletion to this watcher. */
  const onEvent = ({ type, object, old, resourceVersion }: StoreEvent) => {
    delivered = resourceVersion
    const [was, is] = [isSelected(old), type !== 'DELETED' && isSelected(object)]
    if (is) sendObject(was ? 'MODIFIED' : 'ADDED', object)
    else if (was && old) sendObject('DELETED', { ...old, metadata: { ...old.metadata, resourceVersion: object.metadata.resourceVersion } })
  }

  let stop: () => void
  try {
    if (sendsInitial) {
      for (const object of selected(store, target)) sendObject('ADDED', object)
      if (initialAsked === 'true' && wantsBookmarks) sendBookmark({ 'k8s.io/initial-events-end': 'true' })
      stop = store.watch(resource.stored, onEvent)
    } else {
      if (Number(asked) > store.resourceVersion) throw expired(Number(asked), store.resourceVersion)
      stop = store.watch(resource.stored, onEvent, asked === '' ? undefined : Number(asked))
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    send('ERROR', error.status)
    response.end()
    return
  }
  const timers: NodeJS.Timeout[] = []
  const end = () => {
    stop()
    for (const timer of timers) clearTimeout(timer)
    response.end()
  }
  if (wantsBookmarks) {
    timers.push(
      setInterval(() => {
        delivered = store.resourceVersion
        sendBookmark()
      }, bookmarkEveryMs),
    )
  }
  const seconds = Number(query.get('timeoutSeconds') ?? 0) || 1800 * (1 + Math.random())
  timers.push(setTimeout(end, seconds * 1000))
  request.on('close', end)
  response.on('close', end)
}
