/**
 * The CNI result in its three forms, and the way between them:
 *
 *     0.1.0, 0.2.0          ip4 and ip6, each one address with its routes; no interfaces
 *     0.3.0, 0.3.1, 0.4.0   interfaces, ips with `version`, routes
 *     1.0.0, 1.1.0          the same without `version`; 1.1.0 may say more of interfaces
 *
 * Printed as the Go library prints it: indented by four blanks, members in its order, no newline at the end.
 * Source: pkg/types/{020,040,100} of containernetworking/cni.
 * @module
 */
import { int, type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { goJson, sortKeys } from '#cni/json.ts'
import { type CniVersion, compareVersions } from '#cni/version.ts'
import { familyOf } from '#net/ip.ts'

export interface CniResult {
  readonly interfaces: readonly ResultInterface[]
  readonly ips: readonly ResultIp[]
  readonly routes: readonly ResultRoute[]
  readonly dns: JsonObject
}

export interface ResultInterface {
  readonly name: string
  readonly mac?: string
  /** Since 1.1.0, as the two below. */
  readonly mtu?: number
  readonly sandbox?: string
  readonly socketPath?: string
  readonly pciID?: string
}

export interface ResultIp {
  /** Index into interfaces. */
  readonly interface?: number
  /** With host bits and prefix. */
  readonly address: string
  readonly gateway?: string
}

export interface ResultRoute {
  readonly dst: string
  readonly gw?: string
  /** Since 1.1.0, but travelling with any version since 0.3.0. */
  readonly mtu?: number
  readonly advmss?: number
  readonly priority?: number
  readonly table?: number
  readonly scope?: number
}

const routeExtras = ['mtu', 'advmss', 'priority', 'table', 'scope'] as const
export const readRoutes = list(struct({ dst: text, gw: text, mtu: int, advmss: int, priority: int, table: int, scope: int }))
const readOldest = struct({ ip: text, gateway: text, routes: readRoutes })
const readResult = struct({
  cniVersion: text,
  interfaces: list(struct({ name: text, mac: text, mtu: int, sandbox: text, socketPath: text, pciID: text })),
  ips: list(struct({ version: text, interface: int, address: text, gateway: text })),
  routes: readRoutes,
  ip4: readOldest,
  ip6: readOldest,
  dns: object,
})

const isOldest = (version: CniVersion): boolean => compareVersions(version, '0.3.0') < 0
const isNewest = (version: CniVersion): boolean => compareVersions(version, '1.0.0') >= 0

/** The `prevResult` of a chained plugin, or the result of a delegate. It must be of the config's own version, or say none. */
export function parseResult(value: unknown, version: CniVersion): CniResult {
  const got = readResult(value, 'Result')
  if (got.cniVersion && got.cniVersion !== version) {
    throw new CniError(
      cniCode.generic,
      `could not parse prevResult: result type supports [${version}] but unmarshalled CNIVersion is "${got.cniVersion}"`,
    )
  }
  const dns = got.dns ?? {}
  const routesOf = (routes: ReturnType<typeof readRoutes>): ResultRoute[] => routes.map((one) => ({ dst: '', ...one }))
  if (isOldest(version)) {
    const both = [got.ip4, got.ip6].filter((one) => one !== undefined)
    return {
      interfaces: [],
      ips: both.map(({ ip, gateway }) => ({ address: ip ?? '', ...(gateway === undefined ? {} : { gateway }) })),
      routes: both.flatMap(({ routes }) => routesOf(routes ?? [])),
      dns,
    }
  }
  return {
    interfaces: (got.interfaces ?? []).map((one) => ({ name: '', ...one })),
    ips: (got.ips ?? []).map(({ version: _, ...one }) => ({ address: '', ...one })),
    routes: routesOf(got.routes ?? []),
    dns,
  }
}

/** `result` as a plugin prints it in `version`.
 * @throws {CniError} for a version that cannot say it: the two oldest know no result without an address. */
export function printResult(result: CniResult, version: CniVersion): string {
  if (isOldest(version)) return goJson({ cniVersion: version, ...oldestMembers(result), dns: result.dns }, 4)
  const newest = isNewest(version)
  const dns = Object.keys(result.dns).length > 0
  const interfaceMembers = newest ? ['name', 'mac', 'mtu', 'sandbox', 'socketPath', 'pciID'] : ['name', 'mac', 'sandbox']
  return goJson(
    {
      cniVersion: version,
      ...(newest && dns ? { dns: sortKeys(result.dns) } : {}),
      ...some('interfaces', result.interfaces.map(inOrder(...interfaceMembers))),
      ...some(
        'ips',
        result.ips.map((ip) => ({
          ...(newest ? {} : { version: String(familyOf(ip.address)) }),
          ...inOrder('interface', 'address', 'gateway')(ip),
        })),
      ),
      ...some('routes', result.routes.map(inOrder('dst', 'gw', ...routeExtras))),
      ...(newest ? {} : { dns: result.dns }),
    },
    4,
  )
}

/** `result` after a plugin has printed it in `version` and the next has read it: the two oldest lose what they have no room for. */
export const passedOn = (result: CniResult, version: CniVersion): CniResult =>
  isOldest(version) ? parseResult(JSON.parse(printResult(result, version)), version) : result

/** The first address of each family, and the routes of that family: all that the oldest form has room for. */
function oldestMembers({ ips, routes }: CniResult): JsonObject {
  const members: Record<string, unknown> = {}
  for (const family of [4, 6] as const) {
    const first = ips.find(({ address }) => familyOf(address) === family)
    if (!first) continue
    const own = routes.filter(({ dst }) => familyOf(dst) === family).map(inOrder('dst', 'gw', ...routeExtras))
    members[`ip${family}`] = {
      ip: first.address,
      ...(first.gateway === undefined ? {} : { gateway: first.gateway }),
      ...some('routes', own),
    }
  }
  if (Object.keys(members).length === 0) throw new CniError(cniCode.generic, 'cannot convert: no valid IP addresses')
  return members
}

/** Go leaves empty lists out. */
const some = (name: string, items: readonly unknown[]): JsonObject => (items.length === 0 ? {} : { [name]: items })

const inOrder =
  (...names: string[]) =>
  (value: object): JsonObject =>
    Object.fromEntries(names.map((name) => [name, (value as JsonObject)[name]]).filter(([, one]) => one !== undefined))
