/**
 * The CNI result in the versions served: 0.3.0, 0.3.1 and 0.4.0 share one form, 1.0.0 drops `version` from ips.
 * Printed as the Go library prints it: indented by four blanks, members in its order, no newline at the end.
 * @module
 */
import { int, type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { goJson, sortKeys } from '#cni/json.ts'
import type { CniVersion } from '#cni/version.ts'
import { familyOf } from '#net/ip.ts'

export interface CniResult {
  readonly interfaces: readonly { readonly name: string; readonly mac?: string; readonly sandbox?: string }[]
  readonly ips: readonly ResultIp[]
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[]
  readonly dns: JsonObject
}

export interface ResultIp {
  /** Index into interfaces. */
  readonly interface?: number
  /** With host bits and prefix. */
  readonly address: string
  readonly gateway?: string
}

const readResult = struct({
  cniVersion: text,
  interfaces: list(struct({ name: text, mac: text, sandbox: text })),
  ips: list(struct({ version: text, interface: int, address: text, gateway: text })),
  routes: list(struct({ dst: text, gw: text })),
  dns: object,
})

/** The `prevResult` of a chained plugin. It must be of the config's own version, or say none. */
export function parseResult(value: unknown, version: CniVersion): CniResult {
  const got = readResult(value, 'Result')
  if (got.cniVersion !== undefined && got.cniVersion !== version) {
    throw new CniError(
      cniCode.generic,
      `could not parse prevResult: result type supports [${version}] but unmarshalled CNIVersion is "${got.cniVersion}"`,
    )
  }
  return {
    interfaces: (got.interfaces ?? []).map((one) => ({ name: '', ...one })),
    ips: (got.ips ?? []).map(({ version: _, ...one }) => ({ address: '', ...one })),
    routes: (got.routes ?? []).map((one) => ({ dst: '', ...one })),
    dns: got.dns ?? {},
  }
}

/** `result` as a plugin prints it in `version`. */
export function printResult(result: CniResult, version: CniVersion): string {
  const old = version !== '1.0.0'
  const dns = Object.keys(result.dns).length > 0
  return goJson(
    {
      cniVersion: version,
      ...(!old && dns ? { dns: sortKeys(result.dns) } : {}),
      ...some('interfaces', result.interfaces.map(inOrder('name', 'mac', 'sandbox'))),
      ...some(
        'ips',
        result.ips.map((ip) => ({
          ...(old ? { version: String(familyOf(ip.address)) } : {}),
          ...inOrder('interface', 'address', 'gateway')(ip),
        })),
      ),
      ...some('routes', result.routes.map(inOrder('dst', 'gw'))),
      ...(old ? { dns: result.dns } : {}),
    },
    4,
  )
}

/** Go leaves empty lists out. */
const some = (name: string, items: readonly unknown[]): JsonObject => (items.length === 0 ? {} : { [name]: items })

const inOrder =
  (...names: string[]) =>
  (value: object): JsonObject =>
    Object.fromEntries(names.map((name) => [name, (value as JsonObject)[name]]).filter(([, one]) => one !== undefined))
