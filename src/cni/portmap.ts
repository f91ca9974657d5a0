/**
 * The portmap plugin: hostPorts, kept in our own table. Configuration and messages are the reference's (plugins/meta/portmap).
 * Of its keys, `backend` means nothing here; conditions and marks of the user's own are refused by name.
 * @module
 */
import { bool, int, type JsonObject, list, struct, text } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import type { HostPorts } from '#cni/hostports.ts'
import type { CniCall } from '#cni/request.ts'
import type { CniResult } from '#cni/result.ts'
import type { PodPorts, PortMapping } from '#model/pod.ts'
import { addressOf, canonicalIp, type Family, familyOf } from '#net/ip.ts'

const MAX_PORT = 0xffff
const OUR_MARK_BIT = 13

const readConf = struct({
  snat: bool,
  masqAll: bool,
  markMasqBit: int,
  externalSetMarkChain: text,
  conditionsV4: list(text),
  conditionsV6: list(text),
  runtimeConfig: struct({
    portMappings: list(struct({ hostPort: int, containerPort: int, protocol: text, hostIP: text })),
  }),
})

export type PortMapConf = Pick<PodPorts, 'mappings' | 'masquerade'>

/** @throws {CniError} naming what is wrong, or not to be had here. What is not to be had matters only if there are mappings. */
export function parsePortMap(conf: JsonObject): PortMapConf {
  const got = readConf(conf, 'PortMapConf')
  const bad = (problem: string): CniError => new CniError(cniCode.generic, `failed to parse config: ${problem}`)
  const { markMasqBit, externalSetMarkChain } = got
  if (markMasqBit !== undefined && externalSetMarkChain !== undefined) throw bad('Cannot specify externalSetMarkChain and markMasqBit')
  if (markMasqBit !== undefined && (markMasqBit < 0 || markMasqBit > 31)) throw bad('MasqMarkBit must be between 0 and 31')
  const mappings = (got.runtimeConfig?.portMappings ?? []).map(({ hostPort = 0, containerPort = 0, protocol = '', hostIP = '' }) => {
    if (containerPort <= 0 || containerPort > MAX_PORT) throw bad(`Invalid container port number: ${containerPort}`)
    if (hostPort <= 0 || hostPort > MAX_PORT) throw bad(`Invalid host port number: ${hostPort}`)
    const hostIp = hostIP === '' ? undefined : canonicalIp(hostIP)
    if (hostIP !== '' && hostIp === undefined) throw bad(`Invalid host IP address: ${hostIP}`)
    return { hostPort, containerPort, protocol: protocolOf(protocol), ...(hostIp !== undefined && { hostIp }) }
  })
  if (mappings.length > 0) refuseTheirMarks(got)
  return { mappings, masquerade: got.snat === false ? 'none' : got.masqAll ? 'all' : 'near' }
}

function protocolOf(text: string): PortMapping['protocol'] {
  const protocol = text.toLowerCase()
  if (protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp') return protocol
  throw new CniError(cniCode.generic, `unable to setup DNAT: unknown protocol "${text}" specified`, 'a hostPort is tcp, udp or sctp')
}

function refuseTheirMarks(got: ReturnType<typeof readConf>): void {
  const { conditionsV4 = [], conditionsV6 = [], markMasqBit = OUR_MARK_BIT, externalSetMarkChain } = got
  const instead = 'hostPorts are elements of one table here, without rules of their own: leave the key out'
  if (conditionsV4.length > 0) throw unsupported('conditionsV4', conditionsV4, instead)
  if (conditionsV6.length > 0) throw unsupported('conditionsV6', conditionsV6, instead)
  if (externalSetMarkChain) throw unsupported('externalSetMarkChain', externalSetMarkChain, instead)
  if (markMasqBit !== OUR_MARK_BIT) throw unsupported('markMasqBit', markMasqBit, `hostPorts are marked with bit ${OUR_MARK_BIT}`)
}

/** The first address of each family that the pod has on `ifname`: interfaces that the result names otherwise are passed over. */
export function addressesOn(ifname: string, { interfaces, ips }: CniResult): string[] {
  const first = new Map<Family, string>()
  for (const ip of ips) {
    const on = ip.interface === undefined ? undefined : interfaces[ip.interface]
    if (on && (on.name !== ifname || !on.sandbox)) continue
    if (!first.has(familyOf(ip.address))) first.set(familyOf(ip.address), ip.address)
  }
  return [...first.values()].toSorted((a, b) => familyOf(a) - familyOf(b))
}

/** ADD: leads the ports of `call` to the addresses of `prev`.
 * @param deviceTo  The node's device to an address. */
export async function mapPorts(
  call: CniCall,
  prev: CniResult,
  hostPorts: HostPorts,
  deviceTo: (ip: string) => Promise<string | undefined>,
  podName: string | undefined,
): Promise<void> {
  const conf = parsePortMap(call.conf)
  const addresses = conf.mappings.length > 0 ? addressesOn(call.ifname, prev) : []
  if (addresses.length === 0) return
  const ip = addressOf(addresses[0]!)
  const dev = await deviceTo(ip)
  if (dev === undefined) throw new CniError(cniCode.generic, `unable to setup DNAT: the node has no route to ${ip}`)
  const { network, containerId, ifname } = call
  await hostPorts.add({ network, containerId, ifname, ...(podName !== undefined && { podName }), addresses, dev, ...conf })
}

/** CHECK: the ports of `call` are those that are kept for the pod. The table itself is repaired all the time. */
export function checkPorts(call: CniCall, hostPorts: HostPorts): void {
  const { mappings } = parsePortMap(call.conf)
  const kept = hostPorts.get(call)?.mappings ?? []
  const missing = mappings.find((one) => !kept.some((other) => JSON.stringify(other) === JSON.stringify(one)))
  if (missing) {
    throw new CniError(cniCode.generic, `hostPort ${missing.hostPort}/${missing.protocol} does not lead to container ${call.containerId}`)
  }
}
