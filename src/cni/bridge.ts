/** The bridge plugin's configuration. What is not served yet is refused by name, never ignored. @module */
import { anything, bool, int, type JsonObject, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import { parseArgs } from '#cni/request.ts'
import { formatMac, parseMac } from '#net/mac.ts'

export interface BridgeConf {
  readonly bridge: string
  readonly isGateway: boolean
  readonly isDefaultGateway: boolean
  readonly hairpin: boolean
  /** 0 leaves the kernel's default. */
  readonly mtu: number
  readonly mac?: string
  readonly dns: JsonObject
  readonly ipam: JsonObject
}

const readBridgeConf = struct({
  bridge: text,
  isGateway: bool,
  isDefaultGateway: bool,
  forceAddress: bool,
  ipMasq: bool,
  mtu: int,
  hairpinMode: bool,
  promiscMode: bool,
  vlan: int,
  vlanTrunk: anything,
  macspoofchk: bool,
  enabledad: bool,
  disableContainerInterface: bool,
  portIsolation: bool,
  dns: object,
  ipam: object,
  runtimeConfig: struct({ mac: text }),
  args: struct({ cni: struct({ mac: text }) }),
})

const unserved = ['promiscMode', 'vlan', 'vlanTrunk', 'macspoofchk', 'enabledad', 'disableContainerInterface', 'portIsolation'] as const

/** @param args  CNI_ARGS, which may hold a MAC. */
export function parseBridgeConf(conf: JsonObject, args: string): BridgeConf {
  const got = readBridgeConf(conf, 'NetConf')
  for (const key of unserved) {
    if (got[key]) throw unsupported(key, got[key], 'the bridge of this agent does not have it; take the key out')
  }
  if (got.ipMasq) {
    throw unsupported('ipMasq', true, 'start the agent with --ip-masq, which masquerades for all pods of the node')
  }
  const mac = got.runtimeConfig?.mac ?? got.args?.cni?.mac ?? parseArgs(args).get('MAC')
  const bytes = mac === undefined ? undefined : parseMac(mac)
  if (mac !== undefined && bytes === undefined)
    throw new CniError(cniCode.invalidConfig, `failed to parse MAC address ${JSON.stringify(mac)}`)
  const mtu = got.mtu ?? 0
  if (mtu < 0 || mtu > 65535) throw new CniError(cniCode.invalidConfig, `mtu is ${mtu}: expected 0 (the kernel's default) to 65535`)
  return {
    bridge: got.bridge || 'cni0',
    isGateway: (got.isGateway ?? false) || (got.isDefaultGateway ?? false),
    isDefaultGateway: got.isDefaultGateway ?? false,
    hairpin: got.hairpinMode ?? false,
    mtu,
    ...(bytes === undefined ? {} : { mac: formatMac(bytes) }),
    dns: got.dns ?? {},
    ipam: got.ipam ?? {},
  }
}
