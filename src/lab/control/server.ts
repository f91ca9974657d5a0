/**
 * The API server: https, one request after another through who (authenticate), what (request), may (authorize), do.
 * @module
 */
import { constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { readBody, readObject, sendError, sendJson, sendText, warn } from '#lab/control/answer.ts'
import { authenticate, type User } from '#lab/control/authenticate.ts'
import { type Action, authorize, isAllowed, rulesOf } from '#lab/control/authorize.ts'
import { discovery, gitVersion } from '#lab/control/discovery.ts'
import { type KubeletClient, proxyLogs, proxyUpgrade, refuseUpgrade } from '#lab/control/kubelet-proxy.ts'
import { openApiDocument, openApiIndex } from '#lab/control/openapi.ts'
import { formOf, list, oneOf, showOne } from '#lab/control/read.ts'
import { actionOf, notServed, type Target, targetOf } from '#lab/control/request.ts'
import { methodNotAllowed } from '#lab/control/status.ts'
import { type MemoryStore, rfc3339 } from '#lab/control/store.ts'
import { bind, evict, finalize, requestToken, scaleOf, setScale } from '#lab/control/subresources.ts'
import type { TokenIssuer } from '#lab/control/tokens.ts'
import { type Tree, textAt, textsAt, treeAt } from '#lab/control/tree.ts'
import { watch } from '#lab/control/watch.ts'
import { create, patch, remove, removeCollection, update, type Written } from '#lab/control/write.ts'

export interface ServerOptions {
  readonly store: MemoryStore
  readonly tokens: TokenIssuer
  /** Directory that makePki filled. */
  readonly pki: string
  /** host:port that discovery announces. */
  readonly address: string
}

/** One https server; call `listen` on as many as there are sockets to listen on. */
export function apiServer(o: ServerOptions): Server {
  const file = (name: string) => readFileSync(join(o.pki, name))
  const kubelet: KubeletClient = { cert: file('apiserver-kubelet-client.crt'), key: file('apiserver-kubelet-client.key') }
  const tls = {
    cert: file('apiserver.crt'),
    key: file('apiserver.key'),
    ca: file('ca.crt'),
    requestCert: true,
    rejectUnauthorized: false,
    // A resumed session would come without the client's certificate.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
  const api = new Api(o, kubelet)
  const server = createServer(tls, (request, response) => void api.answer(request, response))
  server.on('upgrade', (request, socket, head) => api.upgrade(request, socket, head))
  server.on('tlsClientError', (_, socket) => socket.destroy())
  // A watch is silent for as long as nothing changes.
  server.requestTimeout = 0
  server.headersTimeout = 30_000
  server.keepAliveTimeout = 90_000
  return server
}

/** Subresources of pods that are a WebSocket. */
const upgraded: ReadonlySet<string> = new Set(['exec', 'portforward'])

class Api {
  readonly #o: ServerOptions
  readonly #kubelet: KubeletClient
  constructor(o: ServerOptions, kubelet: KubeletClient) {
    this.#o = o
    this.#kubelet = kubelet
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const { store, tokens } = this.#o
      const url = new URL(request.url ?? '/', 'https://api')
      const method = request.method ?? 'GET'
      const user = authenticate(request, tokens, store)
      const target = targetOf(method, url)
      if (!target) {
        authorize(store, user, { verb: method.toLowerCase(), path: url.pathname })
        this.#plainPath(url, request, response)
        return
      }
      authorize(store, user, actionOf(target))
      await this.#resource(target, user, request, response)
    } catch (error) {
      sendError(request, response, error)
    }
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      const { store, tokens } = this.#o
      const user = authenticate(request, tokens, store)
      const target = targetOf(request.method ?? 'GET', new URL(request.url ?? '/', 'https://api'))
      if (!target || !upgraded.has(target.subresource)) throw notServed(`an upgrade of ${request.url}`)
      // kube-apiserver asks for `create`, whatever the method, so that a right to read is not one to run.
      authorize(store, user, { ...actionOf(target), verb: 'create' } as Action)
      proxyUpgrade(store, target, this.#kubelet, request, socket, head)
    } catch (error) {
      refuseUpgrade(socket, error)
    }
  }

  /** Paths that are no resources. */
  #plainPath(url: URL, request: IncomingMessage, response: ServerResponse): void {
    const path = url.pathname.length > 1 ? url.pathname.replace(/\/$/, '') : '/'
    const found = discovery(path, String(request.headers.accept ?? ''), this.#o.address)
    if (found) sendJson(request, response, 200, found.body, found.type)
    else if (/^\/(healthz|livez|readyz)(\/|$)/.test(path)) sendText(response, 200, 'ok')
    else if (path === '/openapi/v2') {
      // Empty: kubectl looks here for kinds that v3 does not have, and only then says that there is no such kind.
      response.writeHead(200, { 'Content-Type': 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf' }).end('\n\x032.0')
    } else if (path === '/openapi/v3') sendJson(request, response, 200, openApiIndex(gitVersion))
    else if (path === '/')
      sendJson(request, response, 200, { paths: ['/api', '/apis', '/healthz', '/livez', '/openapi/v3', '/readyz', '/version'] })
    else {
      const document = path.startsWith('/openapi/v3/') ? openApiDocument(path.slice('/openapi/v3/'.length)) : undefined
      if (!document) throw notServed(path)
      sendJson(request, response, 200, document)
    }
  }

  async #resource(target: Target, user: User, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { store } = this.#o
    if (target.resource.id.includes('reviews.')) return this.#send(request, response, this.#review(target, user, await readObject(request)))
    if (target.subresource !== '' && target.subresource !== 'status') return this.#sub(target, request, response)
    const form = formOf(String(request.headers.accept ?? ''))
    const now = Date.now()
    switch (target.verb) {
      case 'get':
        return sendJson(request, response, 200, showOne(target, oneOf(store, target), form, { now }))
      case 'list':
        return sendJson(request, response, 200, list(store, target, form, now))
      case 'watch':
        return watch(store, target, form, request, response)
      case 'create':
        if (target.name !== '') throw methodNotAllowed('POST goes to the collection, not to an object')
        return this.#send(request, response, create(store, target, await readObject(request)))
      case 'update':
        // The protobuf table holds no status: what would be lost silently is refused.
        if (target.subresource === 'status' && /protobuf/.test(String(request.headers['content-type']))) {
          throw methodNotAllowed('the embedded lab control plane reads a status as JSON only')
        }
        return this.#send(request, response, update(store, target, await readObject(request)))
      case 'patch':
        return this.#send(request, response, patch(store, target, String(request.headers['content-type'] ?? ''), await readBody(request)))
      case 'delete':
        return this.#send(request, response, remove(store, target, await readObject(request)))
      case 'deletecollection':
        return this.#send(request, response, removeCollection(store, target, await readObject(request)))
      default:
        throw methodNotAllowed(`the server does not allow ${request.method} on ${target.resource.id}`)
    }
  }

  async #sub(target: Target, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { store, tokens } = this.#o
    const { subresource, verb } = target
    if (subresource === 'log' && verb === 'get') return proxyLogs(store, target, this.#kubelet, response)
    if (subresource === 'scale') {
      if (verb === 'get') return sendJson(request, response, 200, scaleOf(oneOf(store, target)))
      if (verb === 'update') return this.#send(request, response, setScale(store, target, await readObject(request)))
      const contentType = String(request.headers['content-type'] ?? '')
      if (verb === 'patch') return this.#send(request, response, setScale(store, target, { contentType, body: await readBody(request) }))
    }
    const writes: Readonly<Record<string, (body: Tree) => Written>> = {
      'binding create': (body) => bind(store, target, body),
      'eviction create': (body) => evict(store, target, body),
      'token create': (body) => requestToken(store, tokens, target, body),
      'finalize update': (body) => finalize(store, target, body),
    }
    const write = writes[`${subresource} ${verb}`]
    if (!write) throw methodNotAllowed(`the server does not allow ${request.method} on ${target.resource.plural}/${subresource}`)
    this.#send(request, response, write(await readObject(request)))
  }

  #send(request: IncomingMessage, response: ServerResponse, { code, object, warnings }: Written): void {
    warn(response, warnings)
    sendJson(request, response, code, object)
  }

  /** `kubectl auth whoami` and `kubectl auth can-i`. */
  #review(target: Target, user: User, body: Tree): Written {
    const { store } = this.#o
    const { kind, group, version } = target.resource
    const head = { kind, apiVersion: `${group}/${version}`, metadata: { creationTimestamp: rfc3339(Date.now()) } }
    if (kind === 'SelfSubjectReview') {
      const userInfo = { username: user.name, ...(user.uid && { uid: user.uid }), groups: user.groups }
      return { code: 201, object: { ...head, status: { userInfo } }, warnings: [] }
    }
    if (kind === 'SelfSubjectRulesReview') {
      const rules = rulesOf(store, user, textAt(body, 'spec.namespace'))
      const resourceRules = rules.filter((rule) => textsAt(rule, 'resources').length > 0)
      const nonResourceRules = rules.filter((rule) => textsAt(rule, 'nonResourceURLs').length > 0)
      return {
        code: 201,
        object: { ...head, spec: body.spec, status: { incomplete: false, resourceRules, nonResourceRules } },
        warnings: [],
      }
    }
    const asked = treeAt(body, 'spec.resourceAttributes')
    const path = textAt(body, 'spec.nonResourceAttributes.path')
    const action: Action =
      path !== ''
        ? { verb: textAt(body, 'spec.nonResourceAttributes.verb'), path }
        : {
            verb: textAt(asked, 'verb'),
            group: textAt(asked, 'group'),
            resource: textAt(asked, 'resource'),
            subresource: textAt(asked, 'subresource'),
            namespace: textAt(asked, 'namespace'),
            name: textAt(asked, 'name'),
          }
    return { code: 201, object: { ...head, spec: body.spec, status: { allowed: isAllowed(store, user, action) } }, warnings: [] }
  }
}
