/**
 * CHECK of the bridge plugin: what ADD promised, held against what the kernel has now. Order and texts are those of the reference
 * (plugins/main/bridge, pkg/ip/utils_linux.go); not checked there and not here: MTU, hairpin, masquerade, the gateway's address.
 * @module
 */
import { CniError, cniCode } from '#cni/failure.ts'
import type { CniResult, ResultInterface } from '#cni/result.ts'
import type { HostLink, HostView } from '#model/kernel.ts'
import { canonicalNetwork, parseCidr } from '#net/ip.ts'

export interface Checked {
  readonly bridge: string
  readonly promisc: boolean
  readonly ifname: string
  readonly netns: string
  readonly prev: CniResult
  readonly node: HostView
  readonly pod: HostView
}

/** @throws {CniError} that names the first thing that is not as promised. */
export function checkAttached({ bridge, promisc, ifname, netns, prev, node, pod }: Checked): void {
  const said = (found: (one: ResultInterface) => boolean): ResultInterface => prev.interfaces.find(found) ?? { name: '' }
  const bridgeSaid = said(({ name }) => name === bridge)
  const endSaid = said(({ name, sandbox }) => name === ifname && sandbox === netns)
  const bridgeLink = checkBridge(bridgeSaid, promisc, node)
  if (endSaid.sandbox !== netns) throw wrong(`Sandbox in prevResult ${endSaid.sandbox ?? ''} doesn't match configured netns: ${netns}`)
  const end = checkPodEnd(endSaid, pod)
  const others = prev.interfaces.filter(({ name }) => name !== bridgeSaid.name && name !== endSaid.name)
  if (!others.some((one) => isHostEnd(one, end, bridgeLink, node))) throw wrong(`CNI veth created for bridge ${bridge} was not found`)
  checkAddresses(prev, ifname, pod)
  checkRoutes(prev, pod)
}

const wrong = (message: string): CniError => new CniError(cniCode.generic, message)

function linkOf({ name, sandbox }: ResultInterface, inPod: boolean, { links }: HostView): HostLink {
  if (name === '') throw wrong('Interface name missing ')
  const link = links.find((one) => one.name === name)
  if (link === undefined) throw wrong(`Interface name ${name} not found`)
  if (inPod && !sandbox) throw wrong(`Interface ${name} is expected to be in a sandbox`)
  if (!inPod && sandbox) throw wrong(`Interface ${name} should not be in sandbox`)
  return link
}

function checkBridge(said: ResultInterface, promisc: boolean, node: HostView): HostLink {
  const link = linkOf(said, false, node)
  if (link.kind !== 'bridge') throw wrong(`Interface ${said.name} does not have link type of bridge`)
  if (said.mac && said.mac !== link.mac) throw wrong(`Bridge interface ${said.name} Mac doesn't match: ${said.mac}`)
  const is = link.promisc ?? false
  if (is !== promisc) {
    throw wrong(`Bridge interface ${said.name} configured Promisc Mode ${promisc} doesn't match current state: ${is} `)
  }
  return link
}

function checkPodEnd(said: ResultInterface, pod: HostView): HostLink {
  const link = linkOf(said, true, pod)
  if (link.kind !== 'veth') throw wrong(`Error: Container interface ${said.name} not of type veth`)
  if (said.mac && said.mac !== link.mac) throw wrong(`Interface ${said.name} Mac ${said.mac} doesn't match container Mac: ${link.mac}`)
  return link
}

/** True for the other end of the pod's veth, if it is on the bridge. */
function isHostEnd(said: ResultInterface, end: HostLink, bridge: HostLink, node: HostView): boolean {
  const link = linkOf(said, false, node)
  if (link.kind !== 'veth' || link.index !== end.peer || link.peer !== end.index || link.master !== bridge.name) return false
  if (said.mac && said.mac !== link.mac) throw wrong(`Interface ${said.name} Mac doesn't match: ${said.mac} not found`)
  return true
}

function checkAddresses(prev: CniResult, ifname: string, pod: HostView): void {
  for (const { address, gateway } of prev.ips) {
    if (!pod.addresses.some(({ dev, cidr }) => dev === ifname && cidr === address)) {
      throw wrong(`Failed to match addr ${address} on interface ${ifname}`)
    }
    const subnet = canonicalNetwork(address)
    if (!pod.routes.some(({ dst }) => dst === subnet)) throw wrong(`Failed to find Gateway ${gateway ?? '<nil>'} for interface ${ifname}`)
  }
}

function checkRoutes(prev: CniResult, pod: HostView): void {
  for (const { dst, gw } of prev.routes) {
    const network = parseCidr(dst)?.prefix === 0 ? undefined : canonicalNetwork(dst)
    const isIt = (route: HostView['routes'][number]): boolean =>
      network === undefined
        ? parseCidr(route.dst)!.prefix === 0 && route.dst.includes(':') === dst.includes(':')
        : route.dst === network && (gw === undefined || route.hops.some(({ via }) => via === gw))
    if (!pod.routes.some(isIt)) throw wrong(`Expected Route {Dst:${dst} GW:${gw ?? '<nil>'}} not found in routing table`)
  }
}
