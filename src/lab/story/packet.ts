/**
 * One packet's way between two pods, drawn from captures: the first SYN of a curl, seen at each interface that it passes.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { labError } from '#lab/errors.ts'
import { nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import type { LabState } from '#lab/state.ts'

/** How the node that asks reaches the pod: by which device of its routing table, and which VXLAN that is, if it is one. */
export interface Hop {
  readonly dev: string
  readonly tunnel?: { readonly vni: number; readonly port: number }
}

interface Point {
  readonly node: string
  readonly dev: string
  readonly what: string
  /** The UDP port of the VXLAN that the packet is wrapped in here. */
  readonly wrappedBy?: number
}

/** Where a packet from a pod of `from` to one of `to` passes, in order. */
function pointsOf(from: string, to: string, { dev, tunnel }: Hop): Point[] {
  const leaves = { node: from, dev: 'cni0', what: 'leaves the pod through its veth, onto the bridge' }
  if (from === to) return [{ ...leaves, what: 'from one veth to the other: both pods are ports of this bridge' }]
  const arrives = { node: to, dev: 'cni0', what: 'routed onto the bridge, to the pod' }
  if (tunnel === undefined) {
    return [
      leaves,
      { node: from, dev, what: 'routed to the other node as it is: pod addresses, the nodes’ MACs' },
      { node: to, dev, what: 'arrives at the other node' },
      arrives,
    ]
  }
  const { vni, port } = tunnel
  return [
    leaves,
    { node: from, dev, what: 'routed into the tunnel device: MACs are now the VTEPs' },
    { node: from, dev: 'eth1', what: `wrapped: node to node, UDP ${port}, VNI ${vni}`, wrappedBy: port },
    { node: to, dev: 'eth1', what: 'arrives at the other node', wrappedBy: port },
    { node: to, dev, what: 'unwrapped' },
    arrives,
  ]
}

/** What a SYN to `ip` looks like bare, or inside of VXLAN: offsets count from the outer UDP header (UDP 8, VXLAN 8, Ethernet 14). */
function filterOf(ip: string, port: number | undefined): string {
  if (port === undefined) return `dst host ${ip} and tcp[13] = 2`
  const hex = ip
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join('')
  const inner = 8 + 8 + 14
  return `udp dst port ${port} and udp[${inner + 16}:4] = 0x${hex} and udp[${inner + 9}] = 6 and udp[${inner + 33}] = 2`
}

/** The pods between which the packet goes. */
export interface Curl {
  readonly from: string
  readonly to: string
  readonly ip: string
  readonly hop: Hop
}

/** Captures while `ask` makes one connection from a pod of `from` to `ip` on `to`; gives lines a point, in the packet's order.
 * @throws {TwillError} ERR_LAB_CAPTURE if a point saw nothing. */
export async function packetsWay(state: LabState, { from, to, ip, hop }: Curl, ask: () => Promise<unknown>): Promise<string[]> {
  const points = pointsOf(from, to, hop)
  const captures = points.map((point) => new Capture(state, point, filterOf(ip, point.wrappedBy)))
  try {
    await Promise.all(captures.map((capture) => capture.listening))
    await ask()
    const lines = await Promise.all(captures.map((capture) => capture.packet))
    return points.flatMap(({ node, dev, what }, i) => [`  ${node} ${dev}: ${what}`, ...describe(lines[i]!).map((text) => `      ${text}`)])
  } finally {
    for (const capture of captures) capture.stop()
  }
}

/** tcpdump's line, cut to what matters: MACs, and addresses of each layer. */
function describe(line: string): string[] {
  const layers = line.split(/(?=VXLAN, )/)
  const [outer = '', inner] = layers
  const macs = /([0-9a-f:]{17}) > ([0-9a-f:]{17})/
  const ips = /(\d+\.\d+\.\d+\.\d+\.\d+) > (\d+\.\d+\.\d+\.\d+\.\d+): ?(Flags \[\w+\])?/
  const one = (text: string, label: string): string => {
    const [, a = '?', b = '?'] = macs.exec(text) ?? []
    const [, src = '?', dst = '?', flags = ''] = ips.exec(text) ?? []
    return `${label}${src} → ${dst} ${flags || 'UDP'}   (${a} → ${b})`
  }
  return inner === undefined ? [one(outer, '')] : [one(outer, 'outer '), one(inner, 'inner ')]
}

class Capture {
  readonly listening: Promise<void>
  readonly packet: Promise<string>
  readonly #child: ChildProcess

  constructor(state: LabState, { node, dev, wrappedBy }: Point, filter: string) {
    const nodeState = state.nodes.find((n) => n.name === node)!
    const decode = wrappedBy === undefined ? [] : ['-T', 'vxlan']
    const argv = onNode(state.lab, nodeState, ['tcpdump', '-nn', '-e', '-l', ...decode, '-c', '1', '-i', dev, filter])
    this.#child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: nodeEnvironment(node), cwd: '/' })
    let said = ''
    let seen = ''
    const timer = setTimeout(() => this.stop(), 10_000)
    this.listening = new Promise((resolve, reject) => {
      this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        said += text
        if (said.includes('listening on')) resolve()
      })
      this.#child.once('error', reject)
      this.#child.once('exit', () => reject(labError.ERR_LAB_CAPTURE({ node, dev, said: said.trim() })))
    })
    this.packet = new Promise((resolve, reject) => {
      this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => {
        seen += text
      })
      this.#child.once('close', () => {
        clearTimeout(timer)
        if (seen === '') reject(labError.ERR_LAB_CAPTURE({ node, dev, said: said.trim() }))
        else resolve(seen.trim().replace(/\s*\n\s*/g, ' '))
      })
    })
    this.packet.catch(() => {})
    this.listening.catch(() => {})
  }

  stop(): void {
    this.#child.kill()
  }
}
