/**
 * A Kubernetes API client for the lab's own parts (up, kubelet stand-in, coredns, the little kubectl): JSON over node:https, and watch.
 * Its own, not the product's: the lab must not use the code it judges.
 * @module
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import https, { type RequestOptions } from 'node:https'
import { parse } from 'yaml'

export interface Access {
  /** https://host:port */
  readonly server: string
  readonly ca: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
  /** File with a bearer token; read for each request, since it is rotated. */
  readonly tokenFile?: string
}

interface Kubeconfig {
  'current-context'?: string
  clusters: { name: string; cluster: { server: string; 'certificate-authority'?: string; 'certificate-authority-data'?: string } }[]
  users: {
    name: string
    user: {
      'client-certificate'?: string
      'client-certificate-data'?: string
      'client-key'?: string
      'client-key-data'?: string
      tokenFile?: string
    }
  }[]
  contexts: { name: string; context: { cluster: string; user: string } }[]
}

/** How to reach the API by a kubeconfig's current context. Client certificate or token file; inline or as files. */
export function accessFromKubeconfig(text: string): Access {
  const config = parse(text) as Kubeconfig
  const context = config.contexts.find((c) => c.name === config['current-context']) ?? config.contexts[0]
  const cluster = config.clusters.find((c) => c.name === context?.context.cluster)?.cluster
  const user = config.users.find((u) => u.name === context?.context.user)?.user
  if (!cluster || !user) throw new Error('the kubeconfig has no cluster or user for its current context')
  const bytes = (inline: string | undefined, file: string | undefined): Buffer | undefined =>
    inline !== undefined ? Buffer.from(inline, 'base64') : file !== undefined ? readFileSync(file) : undefined
  const cert = bytes(user['client-certificate-data'], user['client-certificate'])
  const key = bytes(user['client-key-data'], user['client-key'])
  return {
    server: cluster.server,
    ca: bytes(cluster['certificate-authority-data'], cluster['certificate-authority']) ?? Buffer.alloc(0),
    ...(cert && key ? { cert, key } : {}),
    ...(user.tokenFile !== undefined ? { tokenFile: user.tokenFile } : {}),
  }
}

/** Access of a process in a pod: its ServiceAccount's files and the variables every container has. */
export function accessInCluster(env: NodeJS.ProcessEnv, dir = '/var/run/secrets/kubernetes.io/serviceaccount'): Access {
  const host = env.KUBERNETES_SERVICE_HOST
  const port = env.KUBERNETES_SERVICE_PORT
  if (!host || !port) throw new Error('KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set')
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    ca: readFileSync(`${dir}/ca.crt`),
    tokenFile: `${dir}/token`,
  }
}

/** An answer that is no success: the HTTP status, and the message of the Status object. */
export class ApiError extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.name = 'ApiError'
    this.status = status
  }
}

export interface Answer {
  /** HTTP status. */
  readonly status: number
  readonly text: string
}

export const patchType = { merge: 'application/merge-patch+json', strategic: 'application/strategic-merge-patch+json' } as const

export class Api {
  readonly #access: Access
  readonly #url: URL
  readonly #agent: https.Agent
  constructor(access: Access) {
    this.#access = access
    this.#url = new URL(access.server)
    this.#agent = new https.Agent({ keepAlive: true, ca: access.ca, ...(access.cert ? { cert: access.cert, key: access.key } : {}) })
  }

  get<T>(path: string): Promise<T> {
    return this.#json<T>('GET', path)
  }
  create<T>(path: string, body: object): Promise<T> {
    return this.#json<T>('POST', path, body)
  }
  replace<T>(path: string, body: object): Promise<T> {
    return this.#json<T>('PUT', path, body)
  }
  patch<T>(path: string, body: object, type: string): Promise<T> {
    return this.#json<T>('PATCH', path, body, type)
  }
  remove<T>(path: string, body?: object): Promise<T> {
    return this.#json<T>('DELETE', path, body)
  }

  /** Whether `path` is answered with 200; a server that cannot be reached is a no. */
  async has(path: string): Promise<boolean> {
    return this.ask(path).then(
      ({ status }) => status === 200,
      () => false,
    )
  }

  /** One request, whatever its answer. @throws {Error} if nobody answers. */
  async ask(path: string, o: { method?: string; accept?: string; type?: string; body?: object } = {}): Promise<Answer> {
    const answer = await this.#open(o.method ?? 'GET', path, o.body && JSON.stringify(o.body), o.type ?? 'application/json', {
      ...{ timeout: 10_000, headers: { accept: o.accept ?? 'application/json' } },
    })
    const text = await textOf(answer)
    return { status: answer.statusCode!, text }
  }

  /** Events of a watch, one parsed line each, until the server ends it or `signal` aborts. A quiet connection is cut after `idleMs`. */
  async *watch<T>(path: string, signal: AbortSignal, idleMs = 90_000): AsyncGenerator<T> {
    const answer = await this.#open('GET', path, undefined, undefined, { signal, timeout: idleMs })
    if (answer.statusCode !== 200) throw await failure(answer)
    answer.setEncoding('utf8')
    let rest = ''
    for await (const chunk of answer) {
      rest += chunk as string
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
        const line = rest.slice(0, end)
        rest = rest.slice(end + 1)
        if (line.trim() !== '') yield JSON.parse(line) as T
      }
    }
  }

  async #json<T>(method: string, path: string, body?: object, type = 'application/json'): Promise<T> {
    const answer = await this.#open(method, path, body && JSON.stringify(body), type, { timeout: 10_000 })
    if (answer.statusCode! >= 300) throw await failure(answer)
    return JSON.parse(await textOf(answer)) as T
  }

  #open(method: string, path: string, body: string | undefined, type: string | undefined, more: RequestOptions): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const token =
      this.#access.tokenFile === undefined ? {} : { authorization: `Bearer ${readFileSync(this.#access.tokenFile, 'utf8').trim()}` }
    const request = https.request(
      {
        host: this.#url.hostname.replace(/^\[|\]$/g, ''),
        port: this.#url.port || 443,
        method,
        path,
        agent: this.#agent,
        ...more,
        headers: {
          accept: 'application/json',
          'user-agent': 'twill-lab',
          ...token,
          ...more.headers,
          // Node sends the body of a DELETE without its length unless told.
          ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
        },
      },
      resolve,
    )
    request.once('timeout', () => request.destroy(new Error(`no answer from ${this.#url.host}`)))
    request.once('error', reject)
    request.end(body)
    return promise
  }
}

async function textOf(answer: IncomingMessage): Promise<string> {
  answer.setEncoding('utf8')
  let text = ''
  for await (const chunk of answer) text += chunk as string
  return text
}

async function failure(answer: IncomingMessage): Promise<ApiError> {
  return failed({ status: answer.statusCode!, text: await textOf(answer) })
}

/** The error in an answer: the message of its Status, else its text as it came. */
export function failed({ status, text }: Answer): ApiError {
  try {
    return new ApiError(status, (JSON.parse(text) as { message?: string }).message ?? text)
  } catch {
    return new ApiError(status, text)
  }
}

/** True if the object is not there (any more). */
export const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.status === 404
