/**
 * What is true of the cluster, and what a node should hold for it. Written apart from src/plan, from the reference alone: a planner
 * that is wrong must not be judged by itself.
 * @module
 */
import { type Item, keyOf, show, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'

export const PREFIX = 'flannel.alpha.coreos.com/'
export const OWN = 'k8s-w1'
export const OWN_SUBNET = '10.244.1.0/24'
export const OWN_IP = '192.168.10.101'
export const NETWORK = '10.244.0.0/16'
export const DEVICE = 'flannel.1'

export type Mode = 'vxlan' | 'direct' | 'host-gw'

/** A Node object as the API gives it out; never changed, only replaced. */
export interface NodeObject {
  readonly kind: 'Node'
  readonly metadata: {
    readonly name: string
    readonly uid: string
    readonly resourceVersion: string
    readonly annotations: Readonly<Record<string, string>>
  }
  readonly spec: { readonly podCIDR?: string; readonly podCIDRs?: readonly unknown[] }
  readonly status: {
    readonly conditions: readonly { readonly type: string; readonly status: string; readonly lastHeartbeatTime: string }[]
  }
}

/** What an operator would say about a Node: fine; none of our business; a fault that must be told; an object that is no Node. */
export type Verdict = 'valid' | 'ignored' | 'faulty' | 'unreadable'

const bytesOf = (ip: string): number[] | undefined => {
  const parts = ip.split('.')
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256) ? parts.map(Number) : undefined
}

function macOf(node: NodeObject): string | undefined {
  try {
    const mac = (JSON.parse(node.metadata.annotations[`${PREFIX}backend-data`] ?? 'null') as { VtepMAC?: unknown } | null)?.VtepMAC
    return typeof mac === 'string' && /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) ? mac : undefined
  } catch {
    return undefined
  }
}

const isJson = (text: string | undefined): boolean => {
  try {
    JSON.parse(text || 'null')
    return true
  } catch {
    return false
  }
}

/** What was found out about a Node before: it never changes. */
const known = new WeakMap<NodeObject, { readonly verdict: Verdict; readonly objects: readonly Wish[] }>()

interface Wish {
  readonly key: string
  readonly line: string
}

function judge(node: NodeObject, mode: Mode): { readonly verdict: Verdict; readonly objects: readonly Wish[] } {
  const before = known.get(node)
  if (before) return before
  const verdict = readVerdict(node, mode)
  const objects = verdict === 'valid' ? objectsOf(node, mode).map((item) => ({ key: keyOf(item), line: show(item) })) : []
  const judged = { verdict, objects }
  known.set(node, judged)
  return judged
}

/** Keys of all that `node` needs. */
export const keysNeeded = (node: NodeObject, mode: Mode): string[] => judge(node, mode).objects.map(({ key }) => key)

export const verdictOf = (node: NodeObject, mode: Mode): Verdict => judge(node, mode).verdict

function readVerdict(node: NodeObject, mode: Mode): Verdict {
  const annotations = node.metadata.annotations
  const cidrs = node.spec.podCIDRs ?? []
  if (cidrs.some((cidr) => typeof cidr !== 'string' || !/^\d+\.\d+\.\d+\.\d+\/\d+$/.test(cidr))) return 'unreadable'
  if (annotations[`${PREFIX}kube-subnet-manager`] !== 'true') return 'ignored'
  const [cidr] = cidrs as string[]
  const ip = annotations[`${PREFIX}public-ip`] ?? ''
  const isOnLink = ip.startsWith('192.168.10.')
  const sound =
    cidr?.startsWith('10.244.') &&
    cidr !== OWN_SUBNET &&
    bytesOf(ip) !== undefined &&
    isJson(annotations[`${PREFIX}backend-data`]) &&
    annotations[`${PREFIX}backend-type`] === (mode === 'host-gw' ? 'host-gw' : 'vxlan') &&
    (mode === 'host-gw' ? isOnLink : macOf(node) !== undefined)
  return sound ? 'valid' : 'faulty'
}

/** What a valid peer needs in the kernel of this node. An interface that is down for a while changes none of it. */
function objectsOf(node: NodeObject, mode: Mode): Item[] {
  const dst = node.spec.podCIDRs![0] as string
  const ip = node.metadata.annotations[`${PREFIX}public-ip`]!
  const protocol = TWILL_ROUTE_PROTOCOL
  const direct = mode === 'host-gw' || (mode === 'direct' && ip.startsWith('192.168.10.'))
  if (direct) return [{ kind: 'route', dst, via: ip, dev: 'eth1', protocol }]
  const via = dst.slice(0, dst.indexOf('/'))
  const mac = macOf(node)!
  return [
    { kind: 'neighbor', dev: DEVICE, ip: via, mac },
    { kind: 'fdb', dev: DEVICE, mac, vtep: ip },
    { kind: 'route', dst, via, dev: DEVICE, onlink: true, protocol },
  ]
}

export interface Wanted {
  readonly line: string
  readonly node: string
  /** The version of the cluster from which on this key has been wanted for this node without a break. */
  readonly since: number
}

/** Wanted objects of peers by key. Where two nodes need one key, the first by name has it. */
export function wantedOf(
  nodes: Iterable<NodeObject>,
  mode: Mode,
  before: ReadonlyMap<string, Wanted>,
  version: number,
): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>()
  for (const node of [...nodes].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const { name } = node.metadata
    if (name === OWN) continue
    for (const { key, line } of judge(node, mode).objects) {
      if (wanted.has(key)) continue
      const known = before.get(key)
      wanted.set(key, { line, node: name, since: known?.node === name ? known.since : version })
    }
  }
  return wanted
}
