/**
 * A Node record into its leases: one a family. A fault of one node is a finding about that node and stops no other.
 * @module
 */

import { quoted } from '#base/printable.ts'
import type { Finding, Lease, NodeRecord } from '#model/cluster.ts'
import { canonicalIp, canonicalNetwork, contains, type Family, familyOf, parseCidr, parseIp, specialOf } from '#net/ip.ts'

export interface NodeLeases {
  readonly leases: readonly Lease[]
  readonly findings: readonly Finding[]
}

/** Annotation keys (below the prefix) of each family. */
export const keysOf: Record<
  Family,
  { readonly publicIp: string; readonly data: string; readonly overwrite: string; readonly given: string }
> = {
  4: { publicIp: 'public-ip', data: 'backend-data', overwrite: 'public-ip-overwrite', given: 'node-public-ip' },
  6: { publicIp: 'public-ipv6', data: 'backend-v6-data', overwrite: 'public-ipv6-overwrite', given: 'node-public-ipv6' },
}

export const MANAGED = 'kube-subnet-manager'

/** A node that an agent looks after. Others are invisible to peers: no lease, and no fault either. */
export const isManaged = (node: NodeRecord): boolean => node.annotations[MANAGED] === 'true'

/** What `node` announces. */
export function leasesOf(node: NodeRecord, families: readonly Family[]): NodeLeases {
  if (!isManaged(node)) return { leases: [], findings: [] }
  const leases: Lease[] = []
  const findings: Finding[] = []
  for (const family of families) {
    const cidr = podCidrOf(node, family)
    if ('id' in cidr) {
      findings.push(cidr)
      continue
    }
    const keys = keysOf[family]
    const publicIp = node.annotations[keys.publicIp] ?? ''
    const overwrite = node.annotations[keys.overwrite] ?? ''
    const wrongOverwrite = overwrite === '' ? undefined : wrongPublicIp(overwrite, family)
    if (wrongOverwrite !== undefined) findings.push(ignoredAnnotation(node.name, keys.overwrite, overwrite, wrongOverwrite))
    const data = parseData(node.annotations[keys.data])
    const wrong = wrongPublicIp(publicIp, family)
    if (wrong !== undefined) {
      findings.push(badAnnotation(node.name, keys.publicIp, publicIp, wrong))
    } else if (data.bad !== undefined) {
      findings.push(badAnnotation(node.name, keys.data, data.bad, 'JSON'))
    } else {
      const backendType = node.annotations['backend-type'] ?? ''
      leases.push({ node: node.name, family, subnet: cidr.subnet, publicIp: canonicalIp(publicIp)!, backendType, backendData: data.value })
    }
  }
  return { leases, findings }
}

/** What a public IP must be, if `text` is not that: nobody could be reached by it. (Link-local it may be: the nodes share a link.) */
export function wrongPublicIp(text: string, family: Family): string | undefined {
  const ip = parseIp(text)
  if (ip?.family !== family) return `an IPv${family} address`
  const what = specialOf(ip)
  return what === undefined || what === 'link-local' ? undefined : `an address of one host, and this one is ${what}`
}

/** The pod CIDR of one family, masked, or the finding that there is none. */
export function podCidrOf(node: NodeRecord, family: Family): { readonly subnet: string } | Finding {
  const subject = `node ${node.name}`
  const networks = node.podCIDRs.map(canonicalNetwork)
  const bad = node.podCIDRs.find((_, i) => networks[i] === undefined)
  if (bad !== undefined || node.podCIDRs.length > 2) {
    const text =
      bad === undefined
        ? `${node.name} has more than two pod CIDRs: ${quoted(node.podCIDRs)}`
        : `${node.name} has the pod CIDR ${quoted(bad)}, which is none`
    return {
      id: 'bad-podcidr',
      severity: 'error',
      subject,
      text,
      remedy: 'A node has one pod CIDR a family: delete and re-create the Node object.',
    }
  }
  const subnet = networks.find((network) => network !== undefined && familyOf(network) === family)
  if (subnet !== undefined) return { subnet }
  return {
    id: 'missing-podcidr',
    severity: 'error',
    subject,
    text: `${node.name} has no IPv${family} pod CIDR (spec.podCIDR is ${node.podCIDRs.join(', ') || 'empty'})`,
    remedy:
      'Let kube-controller-manager hand them out: --allocate-node-cidrs=true --cluster-cidr=10.244.0.0/16 (kubeadm init --pod-network-cidr=10.244.0.0/16), with the same range as Network in net-conf.json.',
  }
}

/** The finding that `subnet` lies outside of `network`, or undefined if all is well. */
export function outsideNetwork(node: string, subnet: string, network: string): Finding | undefined {
  if (contains(parseCidr(network)!, parseCidr(subnet)!)) return undefined
  return {
    id: 'podcidr-outside-network',
    severity: 'error',
    subject: `node ${node}`,
    text: `Pod CIDR ${subnet} of ${node} lies outside of Network ${network}`,
    remedy:
      "Make the two agree: Network in net-conf.json (ConfigMap kube-flannel-cfg) must hold kube-controller-manager's --cluster-cidr. A node keeps its pod CIDR until its Node object is deleted and made again.",
  }
}

function badAnnotation(node: string, key: string, value: string, allowed: string): Finding {
  return {
    id: 'bad-annotation',
    severity: 'error',
    subject: `node ${node}`,
    text: `Annotation ${key} of ${node} is ${quoted(value)}, allowed is ${allowed}: no traffic goes to its pods`,
    remedy: `The agent on ${node} writes it: see its log, and restart it.`,
  }
}

/** An annotation that a person set. */
export const ignoredAnnotation = (node: string, key: string, value: string, allowed: string): Finding => ({
  id: 'bad-annotation',
  severity: 'warning',
  subject: `node ${node}`,
  text: `Annotation ${key} of ${node} is ${quoted(value)}, allowed is ${allowed}: it is ignored`,
  remedy: `Correct it with kubectl annotate --overwrite node ${node}, or take it away.`,
})

function parseData(text: string | undefined): { readonly value?: unknown; readonly bad?: string } {
  if (text === undefined || text === '') return {}
  try {
    return { value: JSON.parse(text) }
  } catch {
    return { bad: text }
  }
}
