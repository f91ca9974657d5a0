/**
 * Probes towards the peers, for the doctor. Each is answered by the other node's kernel, so that nothing needs to run there:
 *
 *     underlay   ping its node address
 *     tunnel     ping its VTEP address, .0 of its pod CIDR, small and in full size
 *     out        a ping through the tunnel that names our node address as its source: the answer comes back outside of the tunnel
 *     in         a ping outside of the tunnel that names our VTEP address as its source: the answer comes back through the tunnel
 *     checksum   UDP to a closed port there: only a packet whose checksum is right is refused
 *
 * While a peer is silent, and while we send what a pod might, the kernel traces these packets: it names the rule that drops one.
 * @module
 */
import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { echoAround, echoRequest, ethernet, ipv4, ping, refusedUdp, sendUdp, vxlan } from '#kernel/probing.ts'
import { type Drop, Tracer } from '#kernel/tracer.ts'
import { addressOf } from '#net/ip.ts'
import type { Culprit, Facts, Forwarding, PeerProbe } from '#plan/doctor/facts.ts'
import type { Peer, Place } from '#plan/doctor/place.ts'

const ANSWER_MS = 600
/** While a path is known to answer. */
const SEARCH_MS = 250
const TRIES = 2
const MAX_PEERS = 64
/** A kernel sends one host at most one ICMP error a second, after a burst. */
const ICMP_PACE_MS = 1100
const SMALLEST = 576
const DEFAULT_PORT = 8472
/** What the kernel has queued for us to read. */
const SETTLE_MS = 60
const FORWARD_PACKETS = 3

type Known = Pick<Facts, 'host' | 'kernel' | 'files'>

/** Probes all peers at once. One that shares its address with another, or with us, cannot be: that is a finding of its own. */
export async function probePeers(facts: Known, place: Place, progress: (text: string) => void): Promise<PeerProbe[]> {
  const users = Map.groupBy([place.uplink?.address, ...place.peers.map(({ publicIp }) => publicIp)], (ip) => ip)
  const peers = place.peers.filter(({ publicIp }) => users.get(publicIp)!.length === 1).slice(0, MAX_PEERS)
  const slow = setTimeout(() => progress(`Probing ${peers.length} peers: one does not answer at once …`), 1000)
  try {
    return await Promise.all(peers.map((peer) => probePeer(facts, place, peer)))
  } finally {
    clearTimeout(slow)
  }
}

async function answers(to: string, bytes?: number, timeoutMs = ANSWER_MS): Promise<boolean> {
  for (let i = 0; i < TRIES; i++) {
    const echoed = await ping(to, { timeoutMs, ...(bytes !== undefined && { bytes }) })
    if (echoed !== 'silence') return echoed === 'answer'
  }
  return false
}

async function probePeer(facts: Known, place: Place, peer: Peer): Promise<PeerProbe> {
  const vtep = addressOf(peer.subnet)
  const found = { node: peer.node, publicIp: peer.publicIp, vtep, culprits: [] }
  if (!place.tunnel) {
    const underlay = await answers(peer.publicIp)
    return { ...found, underlay, tunnel: underlay }
  }
  const [underlay, tunnel] = await Promise.all([answers(peer.publicIp), answers(vtep)])
  if (tunnel) return { ...found, underlay: true, tunnel, ...(await largestThrough(vtep, place.podMtu)), ...(await checksumThrough(vtep)) }
  return { ...found, underlay, tunnel, ...(underlay && (await oneWay(facts, place, peer, vtep))) }
}

/** The largest packet that passes, if the largest that may does not. */
async function largestThrough(vtep: string, podMtu: number | undefined): Promise<{ largest?: number }> {
  if (podMtu === undefined || (await answers(vtep, podMtu))) return {}
  let [passes, lost] = [SMALLEST, podMtu]
  while (lost - passes > 8) {
    const middle = (passes + lost) >> 1
    if (await answers(vtep, middle, SEARCH_MS)) passes = middle
    else lost = middle
  }
  return { largest: passes }
}

/** False only if packets without a checksum pass, again and again, and such with one never do. */
async function checksumThrough(vtep: string): Promise<{ checksum?: boolean }> {
  const port = randomInt(33_434, 60_000)
  const passes = (checksum: boolean): Promise<boolean> => refusedUdp(vtep, port, { checksum, timeoutMs: ANSWER_MS / 2 })
  if (await passes(true)) return { checksum: true }
  for (let i = 0; i < TRIES; i++) {
    await sleep(ICMP_PACE_MS)
    if (await passes(true)) return { checksum: true }
    await sleep(ICMP_PACE_MS)
    if (!(await passes(false))) return {}
  }
  return { checksum: false }
}

/** The two ways, each alone: there through the tunnel and back outside of it, and the other way round. */
async function oneWay(
  { host, kernel }: Known,
  { tunnel, uplink, subnet }: Place,
  peer: Peer,
  vtep: string,
): Promise<Pick<PeerProbe, 'out' | 'in' | 'culprits'>> {
  if (!tunnel?.mac || !uplink || subnet === undefined) return { culprits: [] }
  const linkOf = (name: string) => host.links.find((link) => link.name === name)
  const way = (dev: string, back: string, macs: { from?: string | undefined; to?: string | undefined }, source: string) => {
    const { from, to } = macs
    const [out, answer] = [linkOf(dev)?.index, linkOf(back)?.index]
    if (from === undefined || to === undefined || out === undefined || answer === undefined) return undefined
    const make = (echo: Uint8Array): Uint8Array => ethernet({ from, to }, ipv4({ from: source, to: vtep }, echo))
    return echoAround({ out, back: answer, from: vtep, timeoutMs: ANSWER_MS, make })
  }
  const vtepMac = kernel.neighbors.find(({ ip, dev }) => ip === vtep && dev === tunnel.name)?.mac ?? peer.mac
  const nodeMacs = { from: linkOf(uplink.name)?.mac, to: arpOf(peer.publicIp, uplink.name) }
  const { result, culprits } = await traced(tunnelRules(peer.publicIp, portOf(tunnel)), () =>
    Promise.all([
      way(tunnel.name, uplink.name, { from: tunnel.mac, to: vtepMac }, uplink.address),
      way(uplink.name, tunnel.name, nodeMacs, addressOf(subnet)),
    ]),
  )
  const [out, back] = result
  return { ...(out !== undefined && { out }), ...(back !== undefined && { in: back }), culprits }
}

/** UDP port of the tunnel; 0 stands for the kernel's own default. */
const portOf = ({ vxlan: settings }: { vxlan?: { port: number } }): number => settings?.port || DEFAULT_PORT

const tunnelRules = (peer: string, port: number): string[] => [
  `ip saddr ${peer} meta l4proto udp th dport ${port}`,
  `ip daddr ${peer} meta l4proto udp th dport ${port}`,
]

/** The MAC that this machine knows for a neighbor. */
function arpOf(ip: string, dev: string): string | undefined {
  const line = readFileSync('/proc/net/arp', 'utf8')
    .split('\n')
    .map((one) => one.trim().split(/\s+/))
    .find((words) => words[0] === ip && words[5] === dev)
  return line?.[3] === '00:00:00:00:00:00' ? undefined : line?.[3]
}

/** What a pod might send to a peer and get from one: who drops it in FORWARD. Undefined if there is nothing to send from or to. */
export async function probeForwarding(facts: Known, place: Place): Promise<Forwarding | undefined> {
  const { tunnel, uplink, subnet, peers } = place
  const peer = peers[0]
  if (!tunnel?.mac || !tunnel.vxlan || !uplink || subnet === undefined || !peer) return undefined
  if (!facts.host.links.some(({ name }) => name === 'cni0')) return undefined
  const pod = facts.files.addresses.reservations.find(({ live, netns }) => live && netns !== undefined)
  const inside = pod?.address ?? subnet.replace(/\.\d+\/\d+$/, '.254')
  const vtep = addressOf(peer.subnet)
  const { vni } = tunnel.vxlan
  const peerMac = facts.kernel.neighbors.find(({ ip }) => ip === vtep)?.mac ?? '02:00:00:00:00:01'
  // A tunnel packet to ourselves comes out of the tunnel device like any peer's.
  const arriving = async (): Promise<void> => {
    for (let i = 0; i < FORWARD_PACKETS; i++) {
      const packet = ipv4({ from: vtep, to: inside }, echoRequest({ id: process.pid & 0xffff, seq: i }, 32))
      sendUdp(uplink.address, portOf(tunnel), vxlan(vni, ethernet({ from: peerMac, to: tunnel.mac! }, packet)))
    }
  }
  const leaving = async (): Promise<void> => {
    if (pod?.netns === undefined) return
    for (let i = 0; i < FORWARD_PACKETS; i++) await ping(vtep, { timeoutMs: 10, netns: pod.netns })
  }
  const of = (rule: string, direction: 'in' | 'out', send: () => Promise<void>) =>
    traced([rule], send).then(({ culprits }) =>
      culprits.filter(({ hook }) => hook === 'forward').map((culprit) => ({ ...culprit, direction })),
    )
  return {
    dropped: [
      ...(await of(`ip saddr ${vtep} ip daddr ${inside} meta l4proto icmp`, 'in', arriving)),
      ...(await of(`ip saddr ${inside} ip daddr ${vtep} meta l4proto icmp`, 'out', leaving)),
    ],
  }
}

/** Runs `send` while the kernel says what becomes of packets that match `rules`. */
async function traced<T>(rules: readonly string[], send: () => Promise<T>): Promise<{ result: T; culprits: Culprit[] }> {
  const before = await legacyDrops()
  const tracer = await Tracer.open(rules).catch(() => undefined) // an older kernel, or one without nf_tables
  try {
    const result = await send()
    await sleep(SETTLE_MS)
    const drops = (await tracer?.drops()) ?? []
    const after = await legacyDrops()
    const legacy = [...after].filter(([key, { packets }]) => packets > (before.get(key)?.packets ?? 0)).map(([, { culprit }]) => culprit)
    return { result, culprits: [...drops.map(culpritOf), ...legacy] }
  } finally {
    await tracer?.close()
  }
}

const IPTABLES_TABLES = new Set(['filter', 'mangle', 'raw', 'security', 'nat'])

function culpritOf(drop: Drop): Culprit {
  const iptables = drop.family === 'ip' && IPTABLES_TABLES.has(drop.table) && drop.base === drop.base.toUpperCase()
  return { tool: iptables ? 'iptables' : 'nft', ...drop } as Culprit
}

/**
 * What drops in the old iptables, with its packet counts; it cannot be traced. The program is run only where the kernel has such a
 * table in use: to ask is to make one.
 */
async function legacyDrops(): Promise<Map<string, { packets: number; culprit: Culprit }>> {
  const found = new Map<string, { packets: number; culprit: Culprit }>()
  const tables = readProc('/proc/net/ip_tables_names').split('\n')
  if (!tables.includes('filter')) return found
  const saved = await new Promise<string>((resolve) =>
    execFile('iptables-legacy-save', ['-c', '-t', 'filter'], (error, stdout) => resolve(error ? '' : stdout)),
  )
  const hooks = { INPUT: 'input', FORWARD: 'forward', OUTPUT: 'output' } as const
  for (const line of saved.split('\n')) {
    const policy = /^:(\w+) DROP \[(\d+):/.exec(line)
    const rule = /^\[(\d+):\d+\] -A (\S+) (?:.* )?-j (?:DROP|REJECT)\b/.exec(line)
    const chain = policy?.[1] ?? rule?.[2]
    if (chain === undefined) continue
    const base = chain in hooks ? (chain as keyof typeof hooks) : 'FORWARD'
    found.set(line.replace(/\[\d+:\d+\]/, ''), {
      packets: Number(policy?.[2] ?? rule?.[1]),
      culprit: { tool: 'iptables-legacy', family: 'ip', table: 'filter', chain, base, hook: hooks[base] },
    })
  }
  return found
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
