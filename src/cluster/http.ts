/**
 * Requests to the API server on node:https: keep-alive connections, gzip, a deadline for each, errors that name the request.
 * A 401 and a certificate that no longer verifies are tried once more with credentials read afresh.
 * @module
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { pipeline, type Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { messageOf, type TwillError } from '#base/errors.ts'
import type { Access, AccessSource } from '#cluster/access.ts'
import { clusterError } from '#cluster/errors.ts'

export interface Call {
  readonly method: 'GET' | 'PATCH' | 'POST'
  /** Path and query. */
  readonly path: string
  readonly body?: { readonly type: string; readonly value: object }
  /** How long the server may take to begin its answer. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

/** An answer of status 2xx; `body` is unzipped. The reader destroys it when it stops early. */
export interface Answer {
  readonly body: AsyncIterable<Buffer> & { destroy(error?: Error): unknown }
  /** The server's clock, if it says so. */
  readonly date?: string
}

/** What the rest of this room asks the API server through. */
export type Client = Pick<ApiClient, 'open' | 'json' | 'close' | 'server'>

const answerMs = 30_000
/** A whole page of a list: 500 objects of at most 1.5 MB each would be more, but no cluster is. */
const maxBodyBytes = 256 << 20

export class ApiClient {
  readonly #source: AccessSource
  // TCP keep-alive finds a dead peer within half a minute (libuv: 10 probes, a second apart), also under an idle watch.
  readonly #https = new HttpsAgent({ keepAlive: true, keepAliveMsecs: 15_000, scheduling: 'lifo' })
  readonly #http = new HttpAgent({ keepAlive: true, keepAliveMsecs: 15_000 })

  constructor(source: AccessSource) {
    this.#source = source
  }

  /** The API server's URL, once known. */
  get server(): string | undefined {
    return this.#source.last?.server.origin
  }

  /** Sends `call`; resolves when a 2xx answer begins. @throws {TwillError} of this room's table. */
  async open(call: Call): Promise<Answer> {
    try {
      return await this.#try(call, await this.#source.get())
    } catch (error) {
      const { code, details } = error as TwillError
      const stale = code === 'ERR_API_UNAUTHORIZED' || (code === 'ERR_API_UNREACHABLE' && details.certificate === true)
      if (!stale) throw error
      return await this.#try(call, await this.#source.get(true))
    }
  }

  /** Sends `call` and reads the JSON answer. */
  async json(call: Call): Promise<unknown> {
    const { body } = await this.open(call)
    const request = requestName(call)
    const timer = setTimeout(() => body.destroy(new Error(`no end of the answer within ${2 * answerMs} ms`)), 2 * answerMs)
    let text: string
    try {
      text = await readText(body, maxBodyBytes)
    } catch (cause) {
      throw clusterError.ERR_API_UNREACHABLE({ server: this.server ?? '?', request, found: messageOf(cause) }, cause)
    } finally {
      clearTimeout(timer)
    }
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw clusterError.ERR_API_ANSWER({ request, found: `${JSON.stringify(text.slice(0, 40))}…`, allowed: 'JSON' }, cause)
    }
  }

  /** Closes idle connections. */
  close(): void {
    this.#https.destroy()
    this.#http.destroy()
  }

  async #try(call: Call, access: Access, again = true): Promise<Answer> {
    const request = requestName(call)
    let response: IncomingMessage
    try {
      response = await this.#send(call, access)
    } catch (cause) {
      const { code, reused } = cause as NodeJS.ErrnoException & { reused?: boolean }
      // The server closed an idle connection just as we wrote to it: all our calls may be repeated.
      if (reused && again && (code === 'ECONNRESET' || code === 'EPIPE')) return this.#try(call, access, false)
      const details = {
        server: access.server.origin,
        request,
        found: messageOf(cause),
        certificate: /CERT|SIGNATURE|ERR_SSL/.test(code ?? ''),
      }
      throw clusterError.ERR_API_UNREACHABLE(details, cause)
    }
    const body = unzipped(response)
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return { body, ...(response.headers.date !== undefined && { date: response.headers.date }) }
    const text = await readText(body, 64 << 10).catch(() => '')
    const { message, reason } = parseStatus(text)
    const details = { request, status, reason: reason || response.statusMessage || '', message: message || text.slice(0, 200) || 'no text' }
    if (status === 401) throw clusterError.ERR_API_UNAUTHORIZED(details)
    if (status === 403) throw clusterError.ERR_API_FORBIDDEN(details)
    const retryAfterS = Number(response.headers['retry-after'])
    throw clusterError.ERR_API_STATUS(retryAfterS > 0 ? { ...details, retryAfterMs: retryAfterS * 1000 } : details)
  }

  #send(call: Call, access: Access): Promise<IncomingMessage> {
    return new Promise((done, fail) => {
      const secure = access.server.protocol === 'https:'
      const body = call.body && JSON.stringify(call.body.value)
      const base = access.server.pathname.replace(/\/$/, '') // a kubeconfig server may have a path (a proxy in front)
      const request = (secure ? httpsRequest : httpRequest)({
        ...(secure ? access.tls : {}),
        agent: secure ? this.#https : this.#http,
        host: access.server.hostname.replace(/^\[|\]$/g, ''),
        port: access.server.port || (secure ? 443 : 80),
        method: call.method,
        path: base + call.path,
        headers: {
          accept: 'application/json',
          'accept-encoding': 'gzip',
          'user-agent': 'twill',
          ...(access.authorization ? { authorization: access.authorization } : {}),
          ...(body ? { 'content-type': call.body?.type, 'content-length': Buffer.byteLength(body) } : {}),
        },
        ...(call.signal ? { signal: call.signal } : {}),
      })
      const limitMs = call.timeoutMs ?? answerMs
      const timer = setTimeout(() => request.destroy(new Error(`no answer within ${limitMs} ms`)), limitMs)
      request.once('response', (response) => {
        clearTimeout(timer)
        done(response)
      })
      request.once('error', (error) => {
        clearTimeout(timer)
        fail(Object.assign(error, { reused: request.reusedSocket }))
      })
      request.end(body)
    })
  }
}

/** Without the query: continue tokens are long and tell nothing. */
export const requestName = (call: Call): string => `${call.method} ${call.path.replace(/\?.*/, '')}`

function unzipped(response: IncomingMessage): Readable {
  if (response.headers['content-encoding'] !== 'gzip') return response
  const gunzip = createGunzip()
  // pipeline carries errors and destruction both ways; whoever reads `gunzip` sees them.
  pipeline(response, gunzip, () => {})
  return gunzip
}

async function readText(body: AsyncIterable<Buffer>, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > maxBytes) throw new Error(`an answer of more than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** message and reason of a metav1.Status; empty for anything else. */
function parseStatus(text: string): { message?: string; reason?: string } {
  try {
    const { message, reason } = JSON.parse(text) as Record<string, unknown>
    return { ...(typeof message === 'string' ? { message } : {}), ...(typeof reason === 'string' ? { reason } : {}) }
  } catch {
    return {}
  }
}
