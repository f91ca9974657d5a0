/**
 * The keys and certificates of one lab: a CA of its own, what each part serves and shows, and kubeconfig files. Made by openssl (argv
 * only), P-256 throughout, about a tenth of a second. What is already there is left alone, so a lab that comes up again keeps its CA.
 *
 *     ca.crt ca.key · sa.key · apiserver.* · apiserver-kubelet-client.* · admin.* admin.conf · kubelet-<node>.* .conf · kubelet-serving-<node>.*
 * @module
 */
import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { labError } from '#lab/errors.ts'

const run = promisify(execFile)

export interface PkiOptions {
  readonly nodes: readonly { readonly name: string; readonly ip: string }[]
  /** Where the nodes reach the API server. */
  readonly controlPlaneIp: string
  /** First address of the service range, which the service `kubernetes` has. */
  readonly serviceIp?: string
}

interface Certificate {
  readonly name: string
  readonly commonName: string
  readonly group?: string
  /** subjectAltName entries, `IP:…` or `DNS:…`; a certificate with some is one to serve with. */
  readonly names?: readonly string[]
}

/** The NAT address that every Vagrant box has; the kubelet announces it until somebody says --node-ip. */
const vagrantNatIp = '10.0.2.15'

function certificates({ nodes, controlPlaneIp, serviceIp = '10.96.0.1' }: PkiOptions): Certificate[] {
  const controlPlane = nodes.find(({ ip }) => ip === controlPlaneIp)?.name
  const dns = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local']
  if (controlPlane) dns.push(controlPlane)
  const ips = ['127.0.0.1', controlPlaneIp, serviceIp, vagrantNatIp]
  return [
    { name: 'apiserver', commonName: 'kube-apiserver', names: [...dns.map((name) => `DNS:${name}`), ...ips.map((ip) => `IP:${ip}`)] },
    { name: 'apiserver-kubelet-client', commonName: 'kube-apiserver-kubelet-client', group: 'system:masters' },
    { name: 'admin', commonName: 'kubernetes-admin', group: 'system:masters' },
    ...nodes.flatMap(({ name, ip }): Certificate[] => [
      { name: `kubelet-${name}`, commonName: `system:node:${name}`, group: 'system:nodes' },
      { name: `kubelet-serving-${name}`, commonName: name, names: [`DNS:${name}`, `IP:${ip}`, `IP:${vagrantNatIp}`] },
    ]),
  ]
}

async function openssl(args: readonly string[]): Promise<void> {
  try {
    await run('openssl', [...args])
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }
    throw labError.ERR_LAB_COMMAND({
      argv: ['openssl', ...args],
      status: typeof code === 'number' ? code : -1,
      stderr: (stderr ?? '').trim(),
    })
  }
}

const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '3650', '-sha256']

/** Runs `make(temporary key, temporary certificate)` and puts both in place, key last, so that a killed run leaves no half a pair. */
async function pair(dir: string, name: string, make: (keyFile: string, certFile: string) => Promise<void>): Promise<void> {
  const [keyFile, certFile] = [join(dir, `${name}.key`), join(dir, `${name}.crt`)]
  if (existsSync(keyFile) && existsSync(certFile)) return
  await make(`${keyFile}.new`, `${certFile}.new`)
  renameSync(`${certFile}.new`, certFile)
  renameSync(`${keyFile}.new`, keyFile)
}

/** Fills `dir`. Idempotent; safe to run again after a kill.
 * @throws {TwillError} ERR_LAB_COMMAND if openssl is missing or fails. */
export async function makePki(dir: string, o: PkiOptions): Promise<void> {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  await pair(dir, 'ca', (keyFile, certFile) =>
    openssl([
      'req',
      '-x509',
      ...key,
      '-subj',
      '/CN=kubernetes',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
      '-keyout',
      keyFile,
      '-out',
      certFile,
    ]),
  )
  const [ca, caKey] = [join(dir, 'ca.crt'), join(dir, 'ca.key')]
  await Promise.all(
    certificates(o).map(({ name, commonName, group, names }) =>
      pair(dir, name, (keyFile, certFile) => {
        const subject = `${group ? `/O=${group}` : ''}/CN=${commonName}`
        const usage = names
          ? ['-addext', `subjectAltName=${names.join(',')}`, '-addext', 'extendedKeyUsage=serverAuth']
          : ['-addext', 'extendedKeyUsage=clientAuth']
        const signed = ['-CA', ca, '-CAkey', caKey, '-addext', 'basicConstraints=critical,CA:FALSE', ...usage]
        return openssl(['req', '-x509', ...key, ...signed, '-subj', subject, '-keyout', keyFile, '-out', certFile])
      }),
    ),
  )
  const tokenKey = join(dir, 'sa.key')
  if (!existsSync(tokenKey)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    writeWhole(tokenKey, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  }
  const server = `https://${o.controlPlaneIp}:6443`
  writeKubeconfig(dir, { file: 'admin.conf', server, user: 'admin' })
  for (const { name } of o.nodes) writeKubeconfig(dir, { file: `kubelet-${name}.conf`, server, user: `kubelet-${name}` })
}

function writeWhole(file: string, contents: string | Buffer): void {
  writeFileSync(`${file}.new`, contents, { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

/** Writes a kubeconfig with everything inside it, for a user whose pair lies in `dir`.
 * @param o  `file` inside `dir`, the server's URL, `user`: the pair's name (`admin`, `kubelet-k8s-w1`).
 * @returns The file's path. */
export function writeKubeconfig(dir: string, o: { readonly file: string; readonly server: string; readonly user: string }): string {
  const base64 = (name: string) => readFileSync(join(dir, name)).toString('base64')
  const user = o.user === 'admin' ? 'kubernetes-admin' : o.user
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'kubernetes', cluster: { server: o.server, 'certificate-authority-data': base64('ca.crt') } }],
    users: [{ name: user, user: { 'client-certificate-data': base64(`${o.user}.crt`), 'client-key-data': base64(`${o.user}.key`) } }],
    contexts: [{ name: `${user}@kubernetes`, context: { cluster: 'kubernetes', user } }],
    'current-context': `${user}@kubernetes`,
  }
  const path = join(dir, o.file)
  // JSON is YAML, and kubectl reads it.
  writeWhole(path, `${JSON.stringify(config, null, 2)}\n`)
  return path
}
