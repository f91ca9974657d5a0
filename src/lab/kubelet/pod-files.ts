/**
 * What a pod's container finds under /etc, and what its ports and annotations ask of CNI. Pure but for the node's own resolv.conf and hosts.
 * @module
 */
import { readFileSync } from 'node:fs'
import type { Pod } from '#lab/kubelet/types.ts'
import { namespaceOf } from '#lab/kubelet/types.ts'
import { quantity } from '#lab/quantity.ts'

export interface Dns {
  readonly nameservers: readonly string[]
  readonly searches: readonly string[]
  readonly options: readonly string[]
}

/** nameserver, search and options of a resolv.conf. */
export function parseResolvConf(text: string): Dns {
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/))
  return {
    nameservers: lines.filter(([word]) => word === 'nameserver').flatMap(([, address]) => address ?? []),
    searches: lines.findLast(([word]) => word === 'search' || word === 'domain')?.slice(1) ?? [],
    options: lines.filter(([word]) => word === 'options').flatMap((words) => words.slice(1)),
  }
}

/** The pod's DNS by its policy. ClusterFirst of a host-network pod means Default, as in Kubernetes. */
export function dnsOf(pod: Pod, o: { clusterDns: string; clusterDomain: string }): Dns {
  const policy = pod.spec.dnsPolicy ?? 'ClusterFirst'
  const clustered = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && !pod.spec.hostNetwork)
  const node = policy === 'None' ? undefined : parseResolvConf(readFileSync('/etc/resolv.conf', 'utf8'))
  const base: Dns = clustered
    ? {
        nameservers: [o.clusterDns],
        searches: [
          ...[`${namespaceOf(pod)}.svc`, 'svc'].map((head) => `${head}.${o.clusterDomain}`),
          o.clusterDomain,
          ...(node?.searches ?? []),
        ],
        options: ['ndots:5'],
      }
    : (node ?? { nameservers: [], searches: [], options: [] })
  const more = pod.spec.dnsConfig
  const options = new Map<string, string | undefined>()
  for (const [name, value] of base.options.map((text) => text.split(':'))) options.set(name!, value)
  for (const { name, value } of more?.options ?? []) options.set(name, value)
  return {
    nameservers: [...new Set([...base.nameservers, ...(more?.nameservers ?? [])])],
    searches: [...new Set([...base.searches, ...(more?.searches ?? [])])],
    options: [...options].map(([name, value]) => (value === undefined ? name : `${name}:${value}`)),
  }
}

export function resolvConf(dns: Dns): string {
  return [
    ...(dns.searches.length > 0 ? [`search ${dns.searches.join(' ')}`] : []),
    ...dns.nameservers.map((address) => `nameserver ${address}`),
    ...(dns.options.length > 0 ? [`options ${dns.options.join(' ')}`] : []),
    '',
  ].join('\n')
}

/** The kubelet's own /etc/hosts; a host-network pod gets the node's under another heading. */
export function hostsFile(pod: Pod, ips: readonly string[], hostname: string): string {
  const aliases = (pod.spec.hostAliases ?? []).map(({ ip, hostnames = [] }) => `${ip}\t${hostnames.join('\t')}`)
  const added = aliases.length > 0 ? ['', '# Entries added by HostAliases.', ...aliases] : []
  if (pod.spec.hostNetwork) {
    return ['# Kubernetes-managed hosts file (host network).', readFileSync('/etc/hosts', 'utf8').trimEnd(), ...added, ''].join('\n')
  }
  return [
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'fe00::0\tip6-mcastprefix',
    'fe00::1\tip6-allnodes',
    'fe00::2\tip6-allrouters',
    ...ips.map((ip) => `${ip}\t${hostname}`),
    ...added,
    '',
  ].join('\n')
}

/** portMappings and bandwidth as containerd hands them on: Go field names, protocol in small letters, hostPort 0 dropped. */
export function capabilitiesForPorts(pod: Pod): Record<string, unknown> {
  const mappings = pod.spec.containers
    .flatMap((container) => container.ports ?? [])
    .filter((port) => (port.hostPort ?? 0) > 0)
    .map((port) => ({
      HostPort: port.hostPort,
      ContainerPort: port.containerPort,
      Protocol: (port.protocol ?? 'TCP').toLowerCase(),
      HostIP: port.hostIP ?? '',
    }))
  const ingress = quantity(pod.metadata.annotations?.['kubernetes.io/ingress-bandwidth'])
  const egress = quantity(pod.metadata.annotations?.['kubernetes.io/egress-bandwidth'])
  const burst = 4294967295
  return {
    ...(mappings.length > 0 ? { portMappings: mappings } : {}),
    ...(ingress || egress
      ? { bandwidth: { IngressRate: ingress, IngressBurst: ingress ? burst : 0, EgressRate: egress, EgressBurst: egress ? burst : 0 } }
      : {}),
  }
}
