/**
 * Addresses from another maker's plugin (`ipam.type` is not host-local): asked for by the same words as the reference bridge asks,
 * before the kernel's work at ADD and after it at DEL.
 * @module
 */
import type { BridgeConf } from '#cni/bridge.ts'
import { type JsonObject, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { parseJson } from '#cni/json.ts'
import type { Caller } from '#cni/kernel.ts'
import { type Calling, callOther } from '#cni/others.ts'
import type { CniCall } from '#cni/request.ts'
import { type CniResult, parseResult, type ResultRoute } from '#cni/result.ts'
import type { Reservation } from '#cni/store.ts'
import { addToIp, canonicalIp, formatIp, maskCidr, parseCidr } from '#net/ip.ts'

/** What a bridge network gives its pods besides a link. */
export interface Given {
  readonly reservations: Reservation[]
  readonly routes: readonly ResultRoute[]
  readonly dns: JsonObject
}

/** The type in `ipam` (the object of a configuration) if that plugin is not ours. */
export function otherIpam(ipam: JsonObject): string | undefined {
  const { type } = struct({ type: text })(ipam, 'NetConf.ipam')
  return type === undefined || type === '' || type === 'host-local' ? undefined : type
}

/** @param conf  The configuration that holds `ipam`: the plugin reads all of it.
 * @throws {CniError} the plugin's own; or its answer is none. */
export async function givenByOther(
  call: Calling & Pick<CniCall, 'version'>,
  caller: Caller,
  type: string,
  conf: JsonObject,
  { isGateway }: Pick<BridgeConf, 'isGateway'>,
): Promise<Given> {
  const result = parseOtherResult(await callOther(call, caller, type, 'ADD', conf), call.version)
  if (result.ips.length === 0) throw new CniError(cniCode.generic, 'IPAM plugin returned missing IP config')
  const reservations = result.ips.map(({ address, gateway }): Reservation => {
    const via = gateway ?? (isGateway ? firstOf(address) : undefined)
    return { address, ...(via === undefined ? {} : { gateway: via }) }
  })
  return { reservations, routes: result.routes, dns: result.dns }
}

/** A plugin's answer to ADD, with addresses that are some.
 * @throws {CniError} */
export function parseOtherResult(stdout: string, version: CniCall['version']): CniResult {
  const parsed = parseJson(stdout)
  if ('problem' in parsed) throw new CniError(cniCode.generic, `could not parse the result of a plugin: ${parsed.problem}`)
  const result = parseResult(object(parsed.value, 'Result'), version)
  for (const { address } of result.ips) demandOne(parseCidr(address), 'CIDR', address)
  for (const { dst } of result.routes) demandOne(parseCidr(dst), 'CIDR', dst)
  for (const ip of [...result.ips.map((one) => one.gateway), ...result.routes.map(({ gw }) => gw)]) {
    if (ip !== undefined) demandOne(canonicalIp(ip), 'IP', ip)
  }
  return result
}

function demandOne(parsed: unknown, what: string, found: string): void {
  if (parsed === undefined) throw new CniError(cniCode.generic, `invalid ${what} address: ${found}`)
}

/** The first address of the subnet that `address` lies in: the bridge's own, where the plugin names no gateway. */
function firstOf(address: string): string {
  return formatIp(addToIp(maskCidr(parseCidr(address)!).bytes, 1)!)
}
