/**
 * For tests: an https server that answers by a script, on a free port of 127.0.0.1, with a certificate of its own.
 * @module
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Handler = (request: IncomingMessage & { query: URLSearchParams; path: string }, response: ServerResponse) => void

export interface TestServer {
  readonly url: string
  /** Holds the certificate (ca.crt), kubeconfig and token of the server, and whatever the test adds. */
  readonly dir: string
  readonly kubeconfig: string
  /** Every request so far: `GET /api/v1/nodes?limit=500`. */
  readonly requests: string[]
  /** Replaces the script. */
  handler: Handler
  /** What a request must carry; undefined lets everyone in. */
  token: string | undefined
  close(): Promise<void>
}

/** Makes a self-signed certificate for 127.0.0.1 as `dir`/NAME.crt and NAME.key. */
export function makeCertificate(dir: string, name: string): void {
  const argv = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', `/CN=${name}`]
  const files = ['-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', join(dir, `${name}.key`), '-out', join(dir, `${name}.crt`)]
  execFileSync('openssl', [...argv, ...files], { stdio: 'ignore' })
}

export async function startServer(handler: Handler): Promise<TestServer> {
  const dir = mkdtempSync(join(tmpdir(), 'twill-cluster-'))
  makeCertificate(dir, 'ca')
  const server = createServer({ key: readFileSync(join(dir, 'ca.key')), cert: readFileSync(join(dir, 'ca.crt')) })
  const self = { dir, requests: [] as string[], handler, token: undefined as string | undefined }
  server.on('request', (request, response) => {
    self.requests.push(`${request.method} ${request.url}`)
    if (self.token !== undefined && request.headers.authorization !== `Bearer ${self.token}`) {
      answer(response, 401, { kind: 'Status', reason: 'Unauthorized', message: 'Unauthorized' })
      return
    }
    const url = new URL(request.url!, 'https://x')
    self.handler(Object.assign(request, { query: url.searchParams, path: url.pathname }), response)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const kubeconfig = join(dir, 'kubeconfig')
  writeFileSync(join(dir, 'token'), 'secret\n')
  writeFileSync(kubeconfig, kubeconfigText(url, 'tokenFile: token'))
  return Object.assign(self, {
    url,
    kubeconfig,
    close: async () => {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
      rmSync(dir, { recursive: true })
    },
  })
}

/** A kubeconfig whose CA is ca.crt beside it. */
export const kubeconfigText = (server: string, user: string): string => `apiVersion: v1
kind: Config
current-context: one
contexts: [{name: one, context: {cluster: one, user: one}}]
clusters: [{name: one, cluster: {server: "${server}", certificate-authority: ca.crt}}]
users: [{name: one, user: {${user}}}]
`

/** Answers whole, in JSON. */
export function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/** One line of a watch. */
export const eventLine = (type: string, object: object): string => `${JSON.stringify({ type, object })}\n`

/** A v1 Node as the API sends it. */
export const nodeObject = (name: string, version: number, more: { cidr?: unknown; annotations?: object; beat?: string } = {}): object => ({
  metadata: { name, uid: `uid-${name}`, resourceVersion: String(version), annotations: more.annotations ?? {} },
  spec: { podCIDR: more.cidr ?? '10.244.1.0/24', podCIDRs: [more.cidr ?? '10.244.1.0/24'] },
  status: {
    addresses: [
      { type: 'InternalIP', address: '192.168.10.101' },
      { type: 'Hostname', address: name },
    ],
    conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: more.beat ?? '2026-11-23T09:00:00Z' }],
  },
})

export const nodeList = (version: number, items: readonly object[], more = ''): object => ({
  kind: 'NodeList',
  apiVersion: 'v1',
  metadata: { resourceVersion: String(version), ...(more ? { continue: more } : {}) },
  items,
})
