/**
 * Kubeconfig files: server, CA and user of the current context, with tokens, client certificates and credential plugins.
 * Source: k8s.io/client-go/tools/clientcmd/api/v1 and client.authentication.k8s.io/v1.
 * @module
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { messageOf } from '#base/errors.ts'
import type { Access, Tls } from '#cluster/access.ts'
import { clusterError } from '#cluster/errors.ts'

type Fields = Readonly<Record<string, unknown>>
/** A named entry and the file it came from, against whose directory its paths count. */
interface Entry {
  readonly fields: Fields
  readonly file: string
}

/** Reads `files` (at least one) as client-go merges them: the first file that has an entry or the current-context wins.
 * @param override  Replaces the cluster's server.
 * @throws {TwillError} ERR_KUBECONFIG, ERR_CREDENTIAL_PLUGIN */
export async function readKubeconfig(
  files: readonly string[],
  override: URL | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Access> {
  const { parse } = await import('yaml') // only where there is a kubeconfig: in a pod its memory is saved
  const parsed: Entry[] = []
  for (const file of files) {
    try {
      parsed.push({ file, fields: asFields(parse(await readFile(file, 'utf8'))) })
    } catch (cause) {
      throw clusterError.ERR_KUBECONFIG(
        { file, field: 'the file', found: `unreadable (${messageOf(cause)})`, allowed: 'YAML or JSON' },
        cause,
      )
    }
  }
  const main = parsed[0]!.file
  const current = parsed.map((p) => p.fields['current-context']).find((name) => typeof name === 'string' && name !== '')
  const named = (list: string, key: string, name: unknown): Entry | undefined => {
    for (const { file, fields } of parsed) {
      const found = asList(fields[list]).find((entry) => asFields(entry).name === name)
      if (found) return { file, fields: asFields(asFields(found)[key]) }
    }
    return undefined
  }
  const context = named('contexts', 'context', current)
  if (!context && !override) {
    const allowed = `the name of one of contexts[] (${parsed.flatMap((p) => asList(p.fields.contexts).map((c) => asFields(c).name)).join(', ') || 'none'})`
    throw clusterError.ERR_KUBECONFIG({ file: main, field: 'current-context', found: String(current ?? 'absent'), allowed })
  }
  const cluster = named('clusters', 'cluster', context?.fields.cluster) ?? { file: main, fields: {} }
  const user = named('users', 'user', context?.fields.user) ?? { file: main, fields: {} }
  const server = override ?? serverOf(cluster)
  const tls = await tlsOf(cluster)
  return { server, ...(await credential(user, tls, server, env)) }
}

function serverOf({ file, fields }: Entry): URL {
  const server = String(fields.server ?? 'absent')
  if (/^https?:/.test(server) && URL.canParse(server)) return new URL(server)
  throw clusterError.ERR_KUBECONFIG({ file, field: 'clusters[].cluster.server', found: server, allowed: 'an http or https URL' })
}

async function tlsOf(cluster: Entry): Promise<Tls> {
  refuse(cluster, 'clusters[].cluster', ['proxy-url'])
  const servername = cluster.fields['tls-server-name']
  return {
    ca: await pem(cluster, 'certificate-authority'),
    ...(typeof servername === 'string' && servername !== '' ? { servername } : {}),
    ...(cluster.fields['insecure-skip-tls-verify'] === true ? { rejectUnauthorized: false } : {}),
  }
}

async function credential(
  user: Entry,
  tls: Tls,
  server: URL,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Omit<Access, 'server'>> {
  const { fields, file } = user
  refuse(user, 'users[].user', ['auth-provider', 'as', 'as-uid', 'as-groups', 'as-user-extra'])
  if (fields.exec !== undefined) return runPlugin({ file, fields: asFields(fields.exec) }, tls, server, env)
  const cert = await pem(user, 'client-certificate')
  const key = await pem(user, 'client-key')
  if (!cert !== !key) {
    const [have, lack] = cert ? ['client-certificate', 'client-key'] : ['client-key', 'client-certificate']
    throw clusterError.ERR_KUBECONFIG({ file, field: `users[].user.${lack}`, found: 'absent', allowed: `present together with ${have}` })
  }
  return { tls: { ...tls, cert, key }, authorization: await authorizationOf(user) }
}

/** tokenFile wins over token, as in client-go: it is the one that is rotated. */
async function authorizationOf({ fields, file }: Entry): Promise<string | undefined> {
  if (typeof fields.tokenFile === 'string' && fields.tokenFile !== '')
    return `Bearer ${(await read(file, 'users[].user.tokenFile', fields.tokenFile)).trim()}`
  if (typeof fields.token === 'string' && fields.token !== '') return `Bearer ${fields.token.trim()}`
  if (typeof fields.username !== 'string' || fields.username === '') return undefined
  return `Basic ${Buffer.from(`${fields.username}:${String(fields.password ?? '')}`).toString('base64')}`
}

/** Runs a credential plugin (argv, no shell) and takes the credential it prints. */
async function runPlugin(
  plugin: Entry,
  tls: Tls,
  server: URL,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Omit<Access, 'server'>> {
  const { fields, file } = plugin
  const name = typeof fields.command === 'string' ? fields.command : ''
  if (name === '') throw clusterError.ERR_KUBECONFIG({ file, field: 'users[].user.exec.command', found: 'absent', allowed: 'a command' })
  const command = name.includes('/') && !isAbsolute(name) ? resolve(dirname(file), name) : name
  const apiVersion = String(fields.apiVersion ?? 'client.authentication.k8s.io/v1')
  const cluster = {
    server: server.href,
    'certificate-authority-data': tls.ca === undefined ? undefined : Buffer.from(tls.ca).toString('base64'),
  }
  const spec = { interactive: false, ...(fields.provideClusterInfo === true ? { cluster } : {}) }
  const extra = asList(fields.env).map((entry) => [String(asFields(entry).name), String(asFields(entry).value ?? '')] as const)
  const childEnv = {
    ...env,
    ...Object.fromEntries(extra),
    KUBERNETES_EXEC_INFO: JSON.stringify({ kind: 'ExecCredential', apiVersion, spec }),
  }
  const output = await new Promise<string>((done, fail) =>
    execFile(command, asList(fields.args).map(String), { env: childEnv, timeout: 30_000, maxBuffer: 1 << 20 }, (error, stdout) =>
      error ? fail(clusterError.ERR_CREDENTIAL_PLUGIN({ command, found: messageOf(error).trim() }, error)) : done(stdout),
    ),
  )
  let status: Fields
  try {
    status = asFields(asFields(JSON.parse(output)).status)
  } catch (cause) {
    throw clusterError.ERR_CREDENTIAL_PLUGIN({ command, found: 'its output is no JSON' }, cause)
  }
  const text = (field: string): string | undefined =>
    typeof status[field] === 'string' && status[field] !== '' ? status[field] : undefined
  const token = text('token')
  const cert = text('clientCertificateData')
  const key = text('clientKeyData')
  if (!token && !(cert && key))
    throw clusterError.ERR_CREDENTIAL_PLUGIN({ command, found: 'status has neither token nor clientCertificateData with clientKeyData' })
  const expiresMs = Date.parse(text('expirationTimestamp') ?? '')
  return {
    tls: { ...tls, cert, key },
    authorization: token && `Bearer ${token}`,
    // Without an end the credential is good until a 401 says otherwise.
    expiresMs: Number.isNaN(expiresMs) ? Number.POSITIVE_INFINITY : expiresMs,
  }
}

/** NAME-data (base64) or the file NAME, as PEM text. */
async function pem({ fields, file }: Entry, name: string): Promise<string | undefined> {
  const data = fields[`${name}-data`]
  if (typeof data === 'string' && data !== '') return Buffer.from(data, 'base64').toString()
  const path = fields[name]
  return typeof path === 'string' && path !== '' ? read(file, name, path) : undefined
}

async function read(file: string, field: string, path: string): Promise<string> {
  try {
    return await readFile(resolve(dirname(file), path), 'utf8')
  } catch (cause) {
    throw clusterError.ERR_KUBECONFIG({ file, field, found: `${path}, which cannot be read`, allowed: 'a readable file' }, cause)
  }
}

/** A setting that changes who we are or whom we ask must not be passed over in silence. */
function refuse({ file, fields }: Entry, where: string, names: readonly string[]): void {
  const name = names.find((n) => fields[n] !== undefined && fields[n] !== '')
  if (name)
    throw clusterError.ERR_KUBECONFIG({ file, field: `${where}.${name}`, found: 'present', allowed: 'absent: Twill does not support it' })
}

const asFields = (value: unknown): Fields => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {})
const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
