/**
 * How to reach the API and as whom, by the rules of client-go that flanneld follows:
 *     --kubeconfig-file          that file
 *     no flags, in a pod         the service account of the pod
 *     otherwise                  $KUBECONFIG (colon list, merged, first entry wins), else ~/.kube/config; with --kube-api-url and
 *                                neither of them, the pod's service account at that address
 * --kube-api-url replaces the server in every case. All of it is read again a minute later, or at once after a 401: tokens and
 * CAs are rotated under us, and a file that is missing or wrong may be put right.
 * @module
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '#base/clock.ts'
import { clusterError } from '#cluster/errors.ts'
import { readKubeconfig } from '#cluster/kubeconfig.ts'

/** Enough for one request. */
export interface Access {
  readonly server: URL
  readonly tls: Tls
  /** Value of the Authorization header. */
  readonly authorization?: string | undefined
  /** Wall-clock milliseconds after which the credential is void, when its maker said so. */
  readonly expiresMs?: number | undefined
}

/** Options of tls.connect; PEM texts. */
export interface Tls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
  readonly servername?: string | undefined
  readonly rejectUnauthorized?: boolean | undefined
}

export interface AccessOptions {
  readonly kubeApiUrl?: string | undefined
  readonly kubeconfigFile?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Pick<Clock, 'now' | 'date'>
  /** Where the pod's service account is mounted. */
  readonly serviceAccountDir?: string
}

const serviceAccountDir = '/var/run/secrets/kubernetes.io/serviceaccount'
const keepMs = 60_000

export class AccessSource {
  readonly #o: AccessOptions
  #known: { access: Access; untilMs: number } | undefined

  constructor(o: AccessOptions) {
    this.#o = o
  }

  /** The last answer of `get`, if there was one. */
  get last(): Access | undefined {
    return this.#known?.access
  }

  /** How to reach the API now; `fresh` reads everything again (after a 401 or a certificate that no longer verifies).
   * @throws {TwillError} ERR_NO_CLUSTER, ERR_KUBECONFIG, ERR_CREDENTIAL_PLUGIN */
  async get(fresh = false): Promise<Access> {
    const now = this.#o.clock.now()
    if (this.#known && !fresh && now < this.#known.untilMs) return this.#known.access
    const access = await this.#read()
    // A credential plugin is a child process: run it again only when its credential ends.
    const leftMs = access.expiresMs === undefined ? keepMs : access.expiresMs - this.#o.clock.date().getTime() - 10_000
    this.#known = { access, untilMs: now + Math.max(leftMs, 1_000) }
    return access
  }

  async #read(): Promise<Access> {
    const { kubeApiUrl, kubeconfigFile, env } = this.#o
    const override = kubeApiUrl ? parseUrl(kubeApiUrl) : undefined
    if (kubeconfigFile) return readKubeconfig([kubeconfigFile], override, env)
    const host = env.KUBERNETES_SERVICE_HOST
    const port = env.KUBERNETES_SERVICE_PORT
    const inCluster = host && port ? new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`) : undefined
    if (!override && inCluster) {
      const account = await this.#serviceAccount(inCluster)
      if (account) return account
    }
    const files = env.KUBECONFIG ? env.KUBECONFIG.split(':').filter(Boolean) : env.HOME ? [join(env.HOME, '.kube/config')] : []
    const present = []
    for (const file of files) if (await readable(file)) present.push(file)
    if (present.length > 0) return readKubeconfig(present, override, env)
    if (override) return (await this.#serviceAccount(override)) ?? { server: override, tls: {} }
    throw clusterError.ERR_NO_CLUSTER({
      looked: ['--kubeconfig-file', inCluster ? `${this.#dir}/token` : 'KUBERNETES_SERVICE_HOST and _PORT', ...files].join(', '),
    })
  }

  get #dir(): string {
    return this.#o.serviceAccountDir ?? serviceAccountDir
  }

  async #serviceAccount(server: URL): Promise<Access | undefined> {
    const token = await readable(join(this.#dir, 'token'))
    if (token === undefined) return undefined
    const ca = await readable(join(this.#dir, 'ca.crt'))
    return { server, tls: { ca }, authorization: `Bearer ${token.trim()}` }
  }
}

/** The text of a file, or undefined if it cannot be read. */
async function readable(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    return undefined
  }
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url && (url.protocol === 'https:' || url.protocol === 'http:')) return url
  throw clusterError.ERR_KUBECONFIG({ file: '(flag)', field: '--kube-api-url', found: text, allowed: 'an http or https URL' })
}
