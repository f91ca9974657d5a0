/** The bridge plugin's configuration. What is not served is refused by name, never ignored. @module */
import { anything, bool, int, type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import { parseKnownArgs } from '#cni/request.ts'
import { type Cidr, contains, type Ip, parseCidr } from '#net/ip.ts'
import { formatMac, parseMac } from '#net/mac.ts'

/** Of a configuration that names none. */
export const DEFAULT_BRIDGE = 'cni0'

export interface BridgeConf {
  readonly bridge: string
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  /** Another address of the bridge gives way to the gateway's instead of being an error. */
  readonly forceAddress: boolean
  readonly ipMasq: boolean
  readonly hairpin: boolean
  readonly promisc: boolean
  readonly isolated: boolean
  /** 0 leaves the kernel's default. */
  readonly mtu: number
  /** IPv6 duplicate address detection in the pod. */
  readonly dad: boolean
  /** The pod's end stays down, for others to bring up. */
  readonly containerDown: boolean
  readonly mac?: string
  readonly dns: JsonObject
  readonly ipam: JsonObject
  /** False if the pod gets no address: the bridge only switches. */
  readonly layer3: boolean
}

const readBridgeConf = struct({
  bridge: text,
  isGateway: bool,
  isDefaultGateway: bool,
  forceAddress: bool,
  ipMasq: bool,
  ipMasqBackend: text,
  mtu: int,
  hairpinMode: bool,
  promiscMode: bool,
  vlan: int,
  vlanTrunk: anything,
  preserveDefaultVlan: bool,
  macspoofchk: bool,
  enabledad: bool,
  disableContainerInterface: bool,
  portIsolation: bool,
  dns: struct({ nameservers: list(text), domain: text, search: list(text), options: list(text) }),
  ipam: object,
  runtimeConfig: struct({ mac: text }),
  args: struct({ cni: struct({ mac: text }) }),
})

/** @param args  CNI_ARGS, which may hold a MAC.
 * @throws {CniError} with the reference plugin's code and text where it refuses too. */
export function parseBridgeConf(conf: JsonObject, args: string): BridgeConf {
  const got = readBridgeConf(conf, 'NetConf')
  const vlan = got.vlan ?? 0
  if (vlan < 0 || vlan > 4094) throw refusal(`invalid VLAN ID ${vlan} (must be between 0 and 4094)`)
  const argsMac = parseKnownArgs(args, ['MAC']).get('MAC')
  const ipam = got.ipam ?? {}
  const layer3 = Boolean(struct({ type: text })(ipam, 'NetConf.ipam').type)
  if (layer3 && got.disableContainerInterface) throw refusal('cannot use IPAM when DisableContainerInterface flag is set')
  if (got.hairpinMode && got.promiscMode) throw refusal('cannot set hairpin mode and promiscuous mode at the same time')
  if (vlan > 0) throw unsupported('vlan', vlan, 'the bridge of this agent has no VLANs; take the key out')
  if (got.vlanTrunk) throw unsupported('vlanTrunk', got.vlanTrunk, 'the bridge of this agent has no VLANs; take the key out')
  if (got.macspoofchk) throw unsupported('macspoofchk', true, 'the bridge of this agent does not have it; take the key out')
  const mac = macOf([got.runtimeConfig?.mac, got.args?.cni?.mac, argsMac].find((one) => one))
  return {
    bridge: got.bridge ?? DEFAULT_BRIDGE,
    isGateway: (got.isGateway ?? false) || (got.isDefaultGateway ?? false),
    isDefaultGateway: got.isDefaultGateway ?? false,
    forceAddress: got.forceAddress ?? false,
    ipMasq: got.ipMasq ?? false,
    hairpin: got.hairpinMode ?? false,
    promisc: got.promiscMode ?? false,
    isolated: got.portIsolation ?? false,
    mtu: Math.max(0, got.mtu ?? 0),
    dad: got.enabledad ?? false,
    containerDown: got.disableContainerInterface ?? false,
    ...(mac === undefined ? {} : { mac }),
    dns: got.dns ?? {},
    ipam,
    layer3,
  }
}

function macOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const bytes = parseMac(text)
  if (bytes === undefined) throw refusal(`failed to make veth pair: address ${text}: invalid MAC address`)
  return formatMac(bytes)
}

/** What becomes of the addresses of a bridge that has `have` when `gateways` are to be on it, one after the other. IPv6 subnets may
 * lie side by side; of IPv4 there is one.
 * @returns what must go first.
 * @throws {CniError} if something would have to go and `force` is not set. */
export function displaced(bridge: string, have: readonly string[], gateways: readonly string[], force: boolean): string[] {
  let there = [...have]
  const gone: string[] = []
  for (const gateway of gateways) {
    const wanted = parseCidr(gateway)!
    const inTheWay = (one: string): boolean => {
      const other = parseCidr(one)!
      return (
        one !== gateway &&
        other.family === wanted.family &&
        (wanted.family === 4 || contains(other, ipOf(wanted)) || contains(wanted, ipOf(other)))
      )
    }
    if (there.includes(gateway)) continue
    const clashing = there.filter(inTheWay)
    if (clashing.length > 0 && !force) {
      throw refusal(`failed to set bridge addr: ${JSON.stringify(bridge)} already has an IP address different from ${gateway}`)
    }
    gone.push(...clashing)
    there = [...there.filter((one) => !clashing.includes(one)), gateway]
  }
  return gone
}

const ipOf = ({ family, bytes }: Cidr): Ip => ({ family, bytes })

const refusal = (message: string): CniError => new CniError(cniCode.generic, message)
