/**
 * The image coredns: a DNS server (UDP and TCP) for the cluster's zone over the Kubernetes API, which forwards the rest.
 * It reads the Corefile it is given with -conf, and reaches the API as any pod does: ServiceAccount token, KUBERNETES_SERVICE_HOST.
 * @module
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { existsSync, readFileSync } from 'node:fs'
import http from 'node:http'
import { connect, createServer, isIPv6, type Socket } from 'node:net'
import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Packet,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from 'dns-packet'
import { Api, accessInCluster } from '#lab/api.ts'
import { type Corefile, parseCorefile, stockCorefile } from '#lab/images/corefile.ts'
import { endpointName, resolve, type View, type ZoneEndpoint, type ZonePort, type ZoneService } from '#lab/images/dns-zone.ts'
import { Mirror } from '#lab/kubelet/mirror.ts'
import { parseResolvConf } from '#lab/kubelet/pod-files.ts'
import type { Meta } from '#lab/kubelet/types.ts'

interface ServiceObject {
  metadata: Meta
  spec: {
    type?: string
    clusterIP?: string
    clusterIPs?: string[]
    externalName?: string
    publishNotReadyAddresses?: boolean
    ports?: PortObject[]
  }
}
interface PortObject {
  name?: string
  protocol?: string
  port: number
}
interface SliceObject {
  metadata: Meta
  ports?: PortObject[] | null
  endpoints?: { addresses: string[]; hostname?: string; conditions?: { ready?: boolean } }[] | null
}

const zonePorts = (ports: PortObject[] | null | undefined): ZonePort[] =>
  (ports ?? []).map((p) => ({ name: p.name ?? '', protocol: p.protocol ?? 'TCP', port: p.port }))

/** The cluster as DNS sees it, over mirrors of the API's objects. Kept as maps, so that a question costs a look-up. */
export class ClusterView implements View {
  readonly zone: string
  readonly ttl: number
  serial = Math.floor(Date.now() / 1000)
  readonly #services = new Map<string, ZoneService>()
  readonly #slices = new Map<string, { service: string; endpoints: ZoneEndpoint[] }>()
  readonly #slicesOf = new Map<string, Set<string>>()
  readonly #namespaces = new Set<string>()

  constructor(o: { zone: string; ttl: number }) {
    this.zone = o.zone
    this.ttl = o.ttl
  }

  putNamespace(o: { metadata: Meta }, gone: boolean): void {
    if (gone) this.#namespaces.delete(o.metadata.name)
    else this.#namespaces.add(o.metadata.name)
  }

  putService({ metadata, spec }: ServiceObject, gone: boolean): void {
    const key = `${metadata.namespace}/${metadata.name}`
    this.serial++
    if (gone) {
      this.#services.delete(key)
      return
    }
    const ips = spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : [])
    this.#services.set(key, {
      namespace: metadata.namespace!,
      name: metadata.name,
      clusterIps: ips.filter((ip) => ip !== 'None' && ip !== ''),
      publishNotReady: spec.publishNotReadyAddresses === true,
      ports: zonePorts(spec.ports),
      ...(spec.type === 'ExternalName' && spec.externalName ? { externalName: spec.externalName } : {}),
    })
  }

  putSlice({ metadata, endpoints, ports }: SliceObject, gone: boolean): void {
    const service = `${metadata.namespace}/${metadata.labels?.['kubernetes.io/service-name'] ?? ''}`
    const key = `${metadata.namespace}/${metadata.name}`
    this.serial++
    const keys = this.#slicesOf.get(service) ?? new Set()
    this.#slicesOf.set(service, keys)
    if (gone) {
      keys.delete(key)
      this.#slices.delete(key)
      return
    }
    keys.add(key)
    const all = (endpoints ?? []).flatMap((e) =>
      e.addresses.map(
        (address): ZoneEndpoint => ({
          address,
          ready: e.conditions?.ready !== false,
          ports: zonePorts(ports),
          ...(e.hostname ? { hostname: e.hostname } : {}),
        }),
      ),
    )
    this.#slices.set(key, { service, endpoints: all })
  }

  service(namespace: string, name: string): ZoneService | undefined {
    return this.#services.get(`${namespace}/${name}`)
  }

  endpoints(namespace: string, name: string): readonly ZoneEndpoint[] {
    return [...(this.#slicesOf.get(`${namespace}/${name}`) ?? [])].flatMap((key) => this.#slices.get(key)?.endpoints ?? [])
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.has(name)
  }

  namesOf(address: string): readonly string[] {
    const services = [...this.#services.values()].filter((s) => s.clusterIps.includes(address))
    if (services.length > 0) return services.map((s) => `${s.name}.${s.namespace}.svc`)
    const of = (service: string): string => service.split('/').toReversed().join('.')
    const hits = [...this.#slices.values()].flatMap(({ service, endpoints }) =>
      endpoints.filter((e) => e.address === address && this.#services.has(service)).map((e) => `${endpointName(e)}.${of(service)}.svc`),
    )
    return [...new Set(hits)]
  }
}

/** Answers one question as bytes; undefined if it is not ours and must be forwarded. */
export function answerQuestion(view: View, query: Packet): Packet | undefined {
  const question = query.questions?.[0]
  if (!question) return undefined
  const reply = resolve(view, question.name, question.type)
  if (!reply) return undefined
  const rcode = reply.rcode === 'NXDOMAIN' ? 3 : 0
  const opt = query.additionals?.some((a) => a.type === 'OPT')
  return {
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED) | rcode,
    questions: [question],
    answers: shuffled(reply.answers),
    authorities: [...reply.authorities],
    additionals: [...reply.additionals, ...(opt ? [edns] : [])],
  }
}

const edns: Answer = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
}

/** loadbalance: addresses in another order each time. */
function shuffled(answers: readonly Answer[]): Answer[] {
  const out = [...answers]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[out[i], out[j]] = [out[j]!, out[i]!]
  }
  return out
}

/** What fits one datagram: the asker's EDNS size, else 512; what does not is cut, with the bit that says "ask by TCP". */
export function fit(reply: Packet, query: Packet): Buffer {
  const bytes = encode(reply)
  const opt = query.additionals?.find((a) => a.type === 'OPT')
  const limit = opt?.type === 'OPT' ? Math.max(512, opt.udpPayloadSize) : 512
  return bytes.length <= limit
    ? bytes
    : encode({ ...reply, flags: (reply.flags ?? 0) | TRUNCATED_RESPONSE, answers: [], authorities: [], additionals: [] })
}

const failed = (query: Packet, rcode: number): Buffer =>
  encode({
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: RECURSION_AVAILABLE | rcode,
    questions: query.questions ?? [],
  })

/** Asks each upstream in turn, 2 s each. Bytes in, bytes out: what is forwarded is not changed. */
async function forward(bytes: Buffer, upstreams: readonly string[], tcp: boolean): Promise<Buffer | undefined> {
  for (const upstream of upstreams) {
    const answer = await (tcp ? askTcp(bytes, upstream) : askUdp(bytes, upstream))
    if (answer) return answer
  }
  return undefined
}

const upstreamTimeoutMs = 2000

function askUdp(bytes: Buffer, upstream: string): Promise<Buffer | undefined> {
  const { promise, resolve: settle } = Promise.withResolvers<Buffer | undefined>()
  const socket = createSocket(isIPv6(upstream) ? 'udp6' : 'udp4')
  const timer = setTimeout(() => settle(undefined), upstreamTimeoutMs)
  socket.on('error', () => settle(undefined))
  socket.connect(53, upstream, () => socket.send(bytes))
  socket.on('message', (answer) => {
    if (answer.length >= 12 && answer.readUInt16BE(0) === bytes.readUInt16BE(0)) settle(answer)
  })
  return promise.finally(() => {
    clearTimeout(timer)
    socket.close()
  })
}

function askTcp(bytes: Buffer, upstream: string): Promise<Buffer | undefined> {
  const { promise, resolve: settle } = Promise.withResolvers<Buffer | undefined>()
  const socket = connect({ host: upstream, port: 53, timeout: upstreamTimeoutMs })
  socket.on('connect', () => socket.write(framed(bytes)))
  for (const end of ['error', 'timeout', 'close']) socket.on(end, () => settle(undefined))
  onFrames(socket, settle)
  return promise.finally(() => socket.destroy())
}

/** DNS over TCP: two bytes of length before each message (RFC 1035, 4.2.2). */
const framed = (bytes: Buffer): Buffer => Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 255), bytes])

function onFrames(socket: Socket, onMessage: (bytes: Buffer) => void): void {
  let rest = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk as Buffer])
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
      const end = 2 + rest.readUInt16BE(0)
      onMessage(rest.subarray(2, end))
      rest = rest.subarray(end)
    }
  })
}

export interface DnsServer {
  close(): void
}

/** Serves `view` on `port`, UDP and TCP, all addresses. */
export async function serveDns(view: View, upstreams: readonly string[], port: number, log: (text: string) => void): Promise<DnsServer> {
  const handle = async (bytes: Buffer, tcp: boolean): Promise<Buffer | undefined> => {
    let query: Packet
    try {
      query = decode(bytes)
    } catch {
      return undefined // no DNS message: nothing to answer
    }
    if (query.type === 'response') return undefined
    const reply = answerQuestion(view, query)
    if (reply) return tcp ? encode(reply) : fit(reply, query)
    const answer = await forward(bytes, upstreams, tcp)
    if (!answer)
      log(
        `[ERROR] plugin/errors: 2 ${query.questions?.[0]?.name}. ${query.questions?.[0]?.type}: no upstream of ${upstreams.join(', ') || '(none)'} answered`,
      )
    return answer ?? failed(query, 2)
  }
  const udp: UdpSocket = createSocket({ type: 'udp6', ipv6Only: false })
  udp.on('message', (bytes: Buffer, from: RemoteInfo) => {
    void handle(bytes, false).then((answer) => answer && udp.send(answer, from.port, from.address))
  })
  const tcp = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.setTimeout(10_000, () => socket.destroy())
    onFrames(socket, (bytes) => void handle(bytes, true).then((answer) => answer && socket.writable && socket.write(framed(answer))))
  })
  await Promise.all([
    new Promise<void>((done, fail) => udp.once('error', fail).bind(port, '::', () => done())),
    new Promise<void>((done, fail) => tcp.once('error', fail).listen(port, '::', () => done())),
  ])
  return {
    close: () => {
      udp.close()
      tcp.close()
    },
  }
}

/** Nameservers of a `forward` line: addresses as they are, a file's `nameserver` lines. */
export function upstreamsOf(corefile: Corefile): string[] {
  return corefile.forward.flatMap((to) =>
    to.startsWith('/') ? parseResolvConf(existsSync(to) ? readFileSync(to, 'utf8') : '').nameservers : [to],
  )
}

/** Runs until SIGTERM. `-conf FILE` as coredns has it; without a file there, the stock Corefile. */
export async function runCoredns(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const file = argv[argv.findIndex((word) => /^--?conf$/.test(word)) + 1] ?? ''
  const corefile = parseCorefile(existsSync(file) ? readFileSync(file, 'utf8') : stockCorefile)
  const log = (text: string): void => {
    process.stdout.write(`${text}\n`)
  }
  const view = new ClusterView(corefile)
  const stop = new AbortController()
  const api = new Api(accessInCluster(env))
  let ready = false
  const onSync = (): void => {
    if (!ready && mirrors.every((mirror) => mirror.synced)) {
      ready = true
      log('[INFO] plugin/kubernetes: synced with the API')
    }
  }
  const mirrors = [
    new Mirror<ServiceObject>(api, '/api/v1/services', (o, gone) => view.putService(o, gone), onSync),
    new Mirror<SliceObject>(api, '/apis/discovery.k8s.io/v1/endpointslices', (o, gone) => view.putSlice(o, gone), onSync),
    new Mirror(api, '/api/v1/namespaces', (o, gone) => view.putNamespace(o, gone), onSync),
  ]
  const trouble = (error: unknown): void => log(`[WARNING] plugin/kubernetes: ${(error as Error).message}`)
  for (const mirror of mirrors) void mirror.run(stop.signal, trouble)
  const page = (port: number | undefined, good: () => boolean): http.Server | undefined =>
    port === undefined
      ? undefined
      : http.createServer((_, response) => response.writeHead(good() ? 200 : 503).end(good() ? 'OK' : 'kubernetes')).listen(port, '::')
  const pages = [page(corefile.healthPort, () => true), page(corefile.readyPort, () => ready)]
  const dns = await serveDns(view, upstreamsOf(corefile), corefile.port, log)
  log(`.:${corefile.port}`)
  log(`twill-lab coredns stand-in, zone ${corefile.zone}, linux/${process.arch}, node ${process.version}`)
  const end = (): void => {
    stop.abort()
    dns.close()
    for (const server of pages) server?.close()
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, end)
}
