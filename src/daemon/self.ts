/** Which node this is, and what it may plan with: interface, lease, MAC. Reads only; says what is missing when it cannot. */
import { quoted } from '#base/printable.ts'
import type { Flags } from '#config/flags.ts'
import type { NetConf } from '#config/net-conf.ts'
import { compileRegex } from '#config/parse.ts'
import { daemonError } from '#daemon/errors.ts'
import type { Finding, NodeRecord } from '#model/cluster.ts'
import type { HostView, Kernel } from '#model/kernel.ts'
import { addressOf, canonicalIp, type Family, familyOf } from '#net/ip.ts'
import { randomMac } from '#net/mac.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { vtepMac } from '#plan/backends/vxlan.ts'
import { chooseInterface, type Uplink } from '#plan/interface.ts'
import { keysOf, outsideNetwork, podCidrOf, wrongPublicIp } from '#plan/leases.ts'
import { underlayOf, waysOf } from '#plan/ways.ts'

export interface SelfInput {
  readonly kernel: Kernel
  readonly backend: Backend
  readonly flags: Flags
  readonly conf: NetConf
  readonly node: NodeRecord
  readonly random: () => number
  /** The tunnel's MAC as announced before in this life; it never changes while the agent lives. */
  readonly mac?: string | undefined
}

export type SelfResult = { readonly self: Self; readonly host: HostView } | { readonly missing: Finding; readonly host: HostView }

const FAMILY: Family = 4

/** Everything the planners need to know about this node, or what is missing. */
export async function deriveSelf(o: SelfInput): Promise<SelfResult> {
  const { node, conf, backend } = o
  const host = await o.kernel.host()
  const wrong = wrongGiven(node)
  if (wrong) return { missing: wrong, host }
  const { uplink, misses } = await chooseUplink(o, host)
  if (!uplink) return { missing: noInterface(node.name, misses), host }
  if (!host.links.some(({ name, up }) => name === uplink.name && up)) return { missing: interfaceDown(node.name, uplink), host }
  const lease = podCidrOf(node, FAMILY)
  if ('id' in lease) return { missing: lease, host }
  const network = conf.network!
  const outside = outsideNetwork(node.name, lease.subnet, network)
  if (outside) return { missing: outside, host }

  const device = backend.device(FAMILY)
  const existing = host.links.find((link) => link.name === device && link.kind === backend.type)?.mac
  const mac = o.mac ?? existing ?? storedMac(node) ?? randomMac(o.random)
  // A public IP that no interface holds (NAT) cannot be a source address: the tunnel would be dead.
  const local = host.addresses.some((a) => addressOf(a.cidr) === uplink.publicIp) ? uplink.publicIp : uplink.address
  const underlay = underlayOf(host, network)
  const { subnet } = lease
  const self = { node: node.name, family: FAMILY, network, subnet, uplink, mac, local, underlay, wayTo: waysOf(underlay) }
  const unfit = backend.unfit(self)
  if (unfit) return { missing: { severity: 'error', subject: `node ${node.name}`, ...unfit }, host }
  return { self, host }
}

async function chooseUplink({ kernel, flags, node }: SelfInput, host: HostView): Promise<{ uplink?: Uplink; misses: readonly string[] }> {
  const target = flags['iface-can-reach']
  const route = target === '' ? undefined : await kernel.routeTo(target)
  return chooseInterface(
    {
      family: FAMILY,
      iface: flags.iface,
      regex: flags['iface-regex'].flatMap((source) => compileRegex(source) ?? []),
      ...(target !== '' && { canReach: { target, dev: route?.dev, src: route?.src } }),
      publicIp: publicIpOf(node, flags),
    },
    host,
  )
}

/** The annotation node-public-ip, else --public-ip; empty if neither is set. @throws {TwillError} ERR_PUBLIC_IP for a wrong flag */
function publicIpOf(node: NodeRecord, flags: Flags): string {
  const annotated = node.annotations[keysOf[FAMILY].given] ?? ''
  if (annotated !== '') return canonicalIp(annotated)!
  const value = flags['public-ip']
  if (value === '') return ''
  const ip = canonicalIp(value)
  if (ip === undefined || familyOf(ip) !== FAMILY) throw daemonError.ERR_PUBLIC_IP({ key: '--public-ip', value })
  return ip
}

/** What is wrong with the annotation node-public-ip. Somebody meant something by it: the node waits, and does not guess. */
function wrongGiven({ name, annotations }: NodeRecord): Finding | undefined {
  const value = annotations[keysOf[FAMILY].given] ?? ''
  const allowed = value === '' ? undefined : wrongPublicIp(value, FAMILY)
  if (allowed === undefined) return undefined
  return {
    id: 'bad-annotation',
    severity: 'error',
    subject: `node ${name}`,
    text: `Annotation node-public-ip of ${name} is ${quoted(value)}, allowed is ${allowed}`,
    remedy: `Correct it with kubectl annotate --overwrite node ${name}, or take it away.`,
  }
}

/** The MAC that peers know from an earlier life of this node. */
function storedMac(node: NodeRecord): string | undefined {
  try {
    return vtepMac(JSON.parse(node.annotations[keysOf[FAMILY].data] ?? 'null'))
  } catch {
    return undefined
  }
}

function noInterface(node: string, misses: readonly string[]): Finding {
  return {
    id: 'no-interface',
    severity: 'error',
    subject: `node ${node}`,
    text: `No interface to reach other nodes by: ${misses.join('; ')}`,
    remedy: 'Name one that exists with --iface (name or address), or give the node a default route.',
  }
}

function interfaceDown(node: string, { name, why }: Uplink): Finding {
  return {
    id: 'interface-down',
    severity: 'error',
    subject: `node ${node}`,
    text: `${name}, the interface to other nodes (${why}), is down`,
    remedy: `Set it up (ip link set ${name} up), or name another with --iface.`,
  }
}
