/**
 * The reference portmap's hostPorts, read out of what iptables-save prints of table nat. Source: plugins/meta/portmap/portmap_iptables.go.
 *
 *     -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"NETWORK\" id: \"CONTAINER\"" -m multiport --dports 8080 -j CNI-DN-…
 *     -A CNI-DN-… -s 10.244.1.0/24 [-d HOSTIP/32] -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
 *     -A CNI-DN-… [-d HOSTIP/32] -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.5:80
 * @module
 */
import type { PortMapping, ReferencePorts } from '#model/pod.ts'
import { addressOf, contains, parseCidr, parseIp } from '#net/ip.ts'

const DISPATCH =
  /^-A CNI-HOSTPORT-DNAT -p \w+ -m comment --comment "dnat name: \\"([^"\\]+)\\" id: \\"([^"\\]+)\\"" -m multiport --dports [\d,]+ -j (CNI-DN-\w+)$/
const TARGET = /^-A (CNI-DN-\w+) (?:-d (\S+) )?-p (tcp|udp|sctp) -m \w+ --dport (\d+) -j DNAT --to-destination \[?([\da-f.:]+?)\]?:(\d+)$/
const MARK = /^-A (CNI-DN-\w+) (?:-s (\S+) )?(?:-d \S+ )?-p \w+ -m \w+ --dport \d+ -j CNI-HOSTPORT-SETMARK$/

/** The hostPorts of each container, both families in one. One with rules of another form in either (conditions of the user's) is left out.
 * @param saved  What iptables-save and ip6tables-save say. */
export function savedPorts(...saved: readonly string[]): ReferencePorts[] {
  const found = new Map<string, ReferencePorts[]>()
  const odd = new Set<string>()
  for (const text of saved) {
    const lines = text.split('\n')
    for (const chain of lines.flatMap((line) => /^:(CNI-DN-\w+) /.exec(line)?.[1] ?? [])) {
      const ports = portsOf(chain, lines)
      if (ports === 'odd') odd.add(chain)
      else if (ports) found.set(chain, [...(found.get(chain) ?? []), ports])
    }
  }
  return [...found].flatMap(([chain, all]) => (odd.has(chain) ? [] : [all.reduce(merged)]))
}

function merged(a: ReferencePorts, b: ReferencePorts): ReferencePorts {
  const key = (one: PortMapping): string => JSON.stringify(one)
  const known = new Set(a.mappings.map(key))
  return {
    ...a,
    addresses: [...a.addresses, ...b.addresses],
    mappings: [...a.mappings, ...b.mappings.filter((one) => !known.has(key(one)))],
  }
}

/** Undefined if nothing leads there. */
function portsOf(chain: string, lines: readonly string[]): ReferencePorts | 'odd' | undefined {
  const jumps = lines.filter((line) => line.endsWith(` -j ${chain}`)).map((line) => DISPATCH.exec(line))
  const rules = lines.filter((line) => line.startsWith(`-A ${chain} `))
  if (jumps.length === 0 || rules.length === 0) return undefined
  const targets = rules.flatMap((line) => matched(TARGET, line, (found) => found))
  const sources = rules.flatMap((line) => matched(MARK, line, ([, , source]) => source ?? 'all'))
  const [first] = targets
  if (!first || jumps.includes(null) || targets.length + sources.length < rules.length) return 'odd'
  const ip = first[5]!
  if (targets.some((found) => found[5] !== ip)) return 'odd'
  const near = sources.find((source) => source !== 'all' && contains(parseCidr(source)!, parseIp(ip)!))
  const [, network, containerId] = jumps[0]!
  return {
    network: network!,
    containerId: containerId!,
    addresses: [`${ip}/${near === undefined ? 8 * parseIp(ip)!.bytes.length : near.slice(near.indexOf('/') + 1)}`],
    mappings: targets.map(mappingOf),
    masquerade: sources.includes('all') ? 'all' : near === undefined ? 'none' : 'near',
  }
}

function mappingOf([, , hostIp, protocol, hostPort, , containerPort]: RegExpExecArray): PortMapping {
  return {
    hostPort: Number(hostPort),
    containerPort: Number(containerPort),
    protocol: protocol as PortMapping['protocol'],
    ...(hostIp !== undefined && { hostIp: hostIp.includes('/') ? addressOf(hostIp) : hostIp }),
  }
}

function matched<T>(pattern: RegExp, line: string, give: (found: RegExpExecArray) => T): T[] {
  const found = pattern.exec(line)
  return found ? [give(found)] : []
}
