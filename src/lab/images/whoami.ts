/**
 * traefik/whoami: a web server that answers with who asked. Output as the real one (v1.11, Go): its own lines, then the request as Go's
 * http.Request.Write puts it: request line, Host, User-Agent, the other headers sorted, CRLF, an empty line.
 * @module
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { hostname, networkInterfaces } from 'node:os'

/** Addresses of all interfaces that are up, in the order of the interfaces, IPv4 first on each. */
export function addresses(interfaces: ReturnType<typeof networkInterfaces>): string[] {
  return Object.values(interfaces).flatMap((list) => (list ?? []).map((a) => a.address))
}

/** Content-Type, X-Forwarded-For: as Go spells header names. */
export const canonical = (name: string): string => name.toLowerCase().replace(/(^|-)[a-z]/g, (c) => c.toUpperCase())

export interface Asked {
  readonly method: string
  readonly url: string
  /** Name and value, one after the other, as they came. */
  readonly rawHeaders: readonly string[]
  readonly remote: string
}

export interface Self {
  readonly name?: string
  readonly hostname: string
  readonly ips: readonly string[]
}

/** Header name (canonical) to values; Host apart, as in Go. */
function headersOf(asked: Asked): Map<string, string[]> {
  const out = new Map<string, string[]>()
  for (let i = 0; i + 1 < asked.rawHeaders.length; i += 2) {
    const name = canonical(asked.rawHeaders[i]!)
    out.set(name, [...(out.get(name) ?? []), asked.rawHeaders[i + 1]!])
  }
  return out
}

/** The answer to GET / */
export function describe(asked: Asked, self: Self): string {
  const headers = headersOf(asked)
  const host = headers.get('Host')?.[0] ?? ''
  const agent = headers.get('User-Agent')?.[0]
  const apart = ['Host', 'User-Agent', 'Content-Length', 'Transfer-Encoding', 'Trailer', 'Connection']
  const rest = [...headers].filter(([name]) => !apart.includes(name)).toSorted(([a], [b]) => (a < b ? -1 : 1))
  const connection = headers.get('Connection')?.map((value): [string, string[]] => ['Connection', [value]]) ?? []
  return [
    ...(self.name ? [`Name: ${self.name}\n`] : []),
    `Hostname: ${self.hostname}\n`,
    ...self.ips.map((ip) => `IP: ${ip}\n`),
    `RemoteAddr: ${asked.remote}\n`,
    `${asked.method} ${asked.url} HTTP/1.1\r\n`,
    `Host: ${host}\r\n`,
    // Go puts its own name where there is none, and nothing where the header is there and empty.
    ...(agent === undefined ? ['User-Agent: Go-http-client/1.1\r\n'] : agent === '' ? [] : [`User-Agent: ${agent}\r\n`]),
    ...[...rest, ...connection]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, values]) => values.map((value) => `${name}: ${value}\r\n`)),
    '\r\n',
  ].join('')
}

/** The answer to GET /api */
export function asJson(asked: Asked, self: Self): object {
  const headers = headersOf(asked)
  const host = headers.get('Host')?.[0] ?? ''
  headers.delete('Host')
  return {
    hostname: self.hostname,
    ip: self.ips,
    headers: Object.fromEntries([...headers].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    url: asked.url,
    host,
    method: asked.method,
    ...(self.name ? { name: self.name } : {}),
    remoteAddr: asked.remote,
  }
}

/** `-port 8080`, `--name=a`, WHOAMI_PORT_NUMBER, WHOAMI_NAME: as the real one has them. */
export function settings(argv: readonly string[], env: NodeJS.ProcessEnv): { port: number; name: string; verbose: boolean } {
  const flags = new Map<string, string>()
  for (let i = 0; i < argv.length; i++) {
    const [, name, value] = /^--?([a-z]+)(?:=(.*))?$/.exec(argv[i]!) ?? []
    if (name === undefined) continue
    flags.set(name, value ?? (name === 'verbose' ? 'true' : (argv[++i] ?? '')))
  }
  return {
    port: Number(flags.get('port') ?? env.WHOAMI_PORT_NUMBER ?? 80),
    name: flags.get('name') ?? env.WHOAMI_NAME ?? '',
    verbose: flags.get('verbose') === 'true',
  }
}

/** Serves until the process ends. `health` is what POST /health sets the status of GET /health to. */
export function runWhoami(argv: readonly string[], env: NodeJS.ProcessEnv): http.Server {
  const { port, name, verbose } = settings(argv, env)
  let health = 200
  const log = (text: string): void => {
    const now = new Date().toISOString()
    process.stderr.write(`${now.slice(0, 10).replaceAll('-', '/')} ${now.slice(11, 19)} ${text}\n`)
  }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { remoteAddress = '', remotePort } = request.socket
    const ip = remoteAddress.replace(/^::ffff:/, '')
    const remote = `${ip.includes(':') ? `[${ip}]` : ip}:${remotePort}`
    const asked = { method: request.method!, url: request.url!, rawHeaders: request.rawHeaders, remote }
    const self = { name, hostname: hostname(), ips: addresses(networkInterfaces()) }
    const { pathname, searchParams } = new URL(request.url!, 'http://whoami')
    if (verbose) log(`${remote} - - [${new Date().toUTCString()}] "${asked.method} ${asked.url} HTTP/1.1" - -`)
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    if (pathname === '/health') {
      if (request.method === 'POST') health = Number(Buffer.concat(chunks).toString()) || health
      response.statusCode = request.method === 'POST' ? 200 : health
      response.end()
    } else if (pathname === '/bench') response.setHeader('content-type', 'text/plain').end('1')
    else if (pathname === '/api') response.setHeader('content-type', 'application/json').end(`${JSON.stringify(asJson(asked, self))}\n`)
    else if (pathname === '/data') {
      const units: Record<string, number> = { kb: 2 ** 10, mb: 2 ** 20, gb: 2 ** 30 }
      const size = Number(searchParams.get('size') ?? 1) * (units[(searchParams.get('unit') ?? '').toLowerCase()] ?? 1)
      response.end(`|${'-ABCDEFGHIJKLMNOPQRSTUVWXYZ'.repeat(Math.ceil(size / 27)).slice(0, Math.max(0, size - 2))}|`)
    } else {
      const waitMs = Number.parseFloat(searchParams.get('wait') ?? '') * (/ms$/.test(searchParams.get('wait') ?? '') ? 1 : 1000)
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
      response.setHeader('content-type', 'text/plain; charset=utf-8').end(describe(asked, self) + Buffer.concat(chunks).toString())
    }
  }
  const server = http.createServer((request, response) => void answer(request, response).catch(() => response.destroy()))
  server.listen(port, '::', () => log(`Starting up on port ${port}`))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(0))
  return server
}
