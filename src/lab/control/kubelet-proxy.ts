/**
 * logs, exec and port-forward: kubectl asks the API server, the API server asks the kubelet at its node's InternalIP.
 *
 * So a node that announces the wrong InternalIP really breaks `kubectl logs`, as it does in a Vagrant box with two interfaces. Exec is a
 * WebSocket (v5.channel.k8s.io); the upgrade is handed through, and after it the two sockets are one pipe: what is spoken
 * inside is between kubectl and the kubelet. As kubeadm sets it up, the kubelet's serving certificate is not verified; ours is.
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import type { Duplex } from 'node:stream'
import { statusOf } from '#lab/control/answer.ts'
import { oneOf } from '#lab/control/read.ts'
import type { Target } from '#lab/control/request.ts'
import { ApiError, badRequest, notFound } from '#lab/control/status.ts'
import type { KubeObject, Store } from '#lab/control/store.ts'
import { numberAt, textAt, treesAt } from '#lab/control/tree.ts'

export interface KubeletClient {
  readonly cert: Buffer
  readonly key: Buffer
}

const connectTimeoutMs = 10_000

const podIsGone = /pod does not exist|not found/

/** Which container is meant: the one asked for, the annotated default, or the only one. */
function containerOf(pod: KubeObject, asked: string, verb: string): string {
  const all = [...treesAt(pod, 'spec.initContainers'), ...treesAt(pod, 'spec.containers')].map((c) => textAt(c, 'name'))
  if (asked !== '') {
    if (all.includes(asked)) return asked
    throw badRequest(`container ${asked} is not valid for pod ${pod.metadata.name}`)
  }
  const own = treesAt(pod, 'spec.containers').map((c) => textAt(c, 'name'))
  const preferred = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container']
  if (preferred !== undefined && own.includes(preferred)) return preferred
  if (own.length === 1) return own[0]!
  throw badRequest(`a container name must be specified for pod ${pod.metadata.name}, choose one of: [${own.join(' ')}] (to ${verb})`)
}

interface Kubelet {
  readonly host: string
  readonly port: number
}

function kubeletOf(store: Store, pod: KubeObject): Kubelet {
  const nodeName = textAt(pod, 'spec.nodeName')
  if (nodeName === '') throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`)
  const node = store.get('nodes', undefined, nodeName)
  if (!node) throw notFound('nodes', nodeName)
  const addresses = treesAt(node, 'status.addresses')
  const host = ['InternalIP', 'Hostname']
    .map((type) =>
      textAt(
        addresses.find((a) => a.type === type),
        'address',
      ),
    )
    .find((text) => text !== '')
  if (host === undefined) throw new ApiError(500, 'InternalError', `no preferred addresses found; known addresses: []`)
  return { host, port: numberAt(node, 'status.daemonEndpoints.kubeletEndpoint.Port') || 10250 }
}

/** Where at the kubelet the subresource lives: /containerLogs/NS/POD/CTR?follow=true, /exec/NS/POD/CTR?command=… */
function kubeletPath(store: Store, target: Target): { kubelet: Kubelet; path: string } {
  const { namespace, name, subresource } = target
  const pod = oneOf(store, target)
  if (subresource === 'portforward') {
    if (textAt(pod, 'status.phase') !== 'Running')
      throw badRequest(`unable to forward port because pod is not running. Current status=${textAt(pod, 'status.phase')}`)
    return { kubelet: kubeletOf(store, pod), path: `/portForward/${namespace}/${name}` }
  }
  const query = new URLSearchParams(target.query)
  const container = containerOf(pod, query.get('container') ?? '', subresource)
  query.delete('container')
  const kubelet = kubeletOf(store, pod)
  if (subresource === 'log') return { kubelet, path: pathTo('containerLogs', namespace, name, container, query) }
  // The API says stdin=true, the kubelet's own endpoint input=1.
  const streams = { stdin: 'input', stdout: 'output', stderr: 'error', tty: 'tty' }
  for (const [ours, theirs] of Object.entries(streams)) {
    const wanted = query.get(ours)
    query.delete(ours)
    if (wanted === 'true' || wanted === '1') query.set(theirs, '1')
  }
  return { kubelet, path: pathTo(subresource, namespace, name, container, query) }
}

const pathTo = (verb: string, namespace: string, pod: string, container: string, query: URLSearchParams) =>
  `/${verb}/${namespace}/${pod}/${container}${query.size > 0 ? `?${query}` : ''}`

/** Go's words for why a dial failed. */
function dialError(error: NodeJS.ErrnoException, { host, port }: Kubelet): string {
  const why: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'connect: connection refused',
    EHOSTUNREACH: 'connect: no route to host',
    ENETUNREACH: 'connect: network is unreachable',
    ETIMEDOUT: 'i/o timeout',
    ECONNRESET: 'read: connection reset by peer',
  }
  return `dial tcp ${host}:${port}: ${why[error.code ?? ''] ?? error.message}`
}

/** One request to the kubelet, with a deadline for the connection only: a followed log may be silent for hours. */
function ask(kubelet: Kubelet, path: string, client: KubeletClient, o: RequestOptions) {
  const upstream = httpsRequest({ ...kubelet, path, ...client, rejectUnauthorized: false, agent: false, ...o })
  const timer = setTimeout(() => upstream.destroy(Object.assign(new Error('i/o timeout'), { code: 'ETIMEDOUT' })), connectTimeoutMs)
  upstream.on('socket', (socket) => socket.once('secureConnect', () => clearTimeout(timer)))
  upstream.on('close', () => clearTimeout(timer))
  return upstream
}

/** `kubectl logs`: the kubelet's answer, streamed. */
export function proxyLogs(store: Store, target: Target, client: KubeletClient, response: ServerResponse): Promise<void> {
  const { kubelet, path } = kubeletPath(store, target)
  return new Promise((resolve, reject) => {
    const upstream = ask(kubelet, path, client, { method: 'GET' })
    upstream.on('error', (error) => {
      const where = `https://${kubelet.host}:${kubelet.port}${path}`
      reject(new ApiError(500, 'InternalError', `Get ${JSON.stringify(where)}: ${dialError(error, kubelet)}`))
    })
    upstream.on('response', (answer) => {
      if (answer.statusCode === 200) {
        response.writeHead(200, { 'Content-Type': answer.headers['content-type'] ?? 'text/plain' })
        response.flushHeaders()
        answer.pipe(response)
        response.on('close', () => upstream.destroy())
        answer.on('close', resolve)
      } else void refusal(answer, target).then(reject, reject)
    })
    upstream.end()
  })
}

/** What a kubelet's refusal becomes. Another node's kubelet answers 404: that is what a wrong InternalIP looks like. */
async function refusal(answer: IncomingMessage, { name, subresource }: Target): Promise<ApiError> {
  let text = ''
  for await (const part of answer) text += String(part)
  const details = { name, kind: 'pods' }
  if (answer.statusCode === 404 || podIsGone.test(text)) {
    return new ApiError(404, 'NotFound', `the server could not find the requested resource ( pods/${subresource} ${name})`, details)
  }
  if (/upgrade header/i.test(text))
    return badRequest(
      `${subresource} is a WebSocket here, which kubectl speaks since ${subresource === 'portforward' ? '1.31' : '1.30 (v5.channel.k8s.io)'}`,
    )
  const code = answer.statusCode ?? 502
  return new ApiError(code, code === 400 ? 'BadRequest' : 'InternalError', text.trim() || `the kubelet answered ${code}`)
}

/** exec and port-forward: passes the upgrade on, and then joins the two sockets. */
export function proxyUpgrade(
  store: Store,
  target: Target,
  client: KubeletClient,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  const { kubelet, path } = kubeletPath(store, target)
  const { authorization: _, host: __, ...headers } = request.headers
  const upstream = ask(kubelet, path, client, { method: 'GET', headers: { ...headers, host: `${kubelet.host}:${kubelet.port}` } })
  upstream.on('error', (error) => {
    if (socket.writable) refuseUpgrade(socket, new ApiError(500, 'InternalError', `error dialing backend: ${dialError(error, kubelet)}`))
  })
  upstream.on('response', (answer) => void refusal(answer, target).then((error) => refuseUpgrade(socket, error)))
  // When a WebSocket fails, kubectl tries once more with SPDY and prints that answer: so SPDY is passed on too, for the kubelet's reason.
  upstream.on('upgrade', (answer, theirs, theirHead) => {
    const lines = answer.rawHeaders.flatMap((value, i, all) => (i % 2 === 0 ? [`${value}: ${all[i + 1]}`] : []))
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`)
    socket.write(theirHead)
    theirs.write(head)
    theirs.pipe(socket)
    socket.pipe(theirs)
    const end = () => {
      theirs.destroy()
      socket.destroy()
    }
    for (const side of [theirs, socket]) side.on('error', end).on('close', end)
  })
  socket.on('close', () => upstream.destroy())
  socket.on('error', () => upstream.destroy())
  upstream.end()
}

/** An HTTP answer on a socket that was asked to upgrade and will not. */
export function refuseUpgrade(socket: Duplex, error: unknown): void {
  const status = statusOf(error)
  const body = JSON.stringify(status)
  socket.end(
    `HTTP/1.1 ${status.code} ${status.reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}
