/**
 * host-local's configuration and the choice of an address: values in, values out. The store (store.ts) keeps what is taken.
 * Rules and texts: plugins/ipam/host-local/backend/allocator of containernetworking/plugins.
 * @module
 */
import { anything, type JsonObject, list, object, type Reader, struct, text } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import { parseKnownArgs } from '#cni/request.ts'
import { type ResultRoute, readRoutes } from '#cni/result.ts'
import { compareVersions } from '#cni/version.ts'
import {
  addressOf,
  addToIp,
  type Cidr,
  canonicalIp,
  compareIp,
  contains,
  type Family,
  formatCidr,
  formatIp,
  maskCidr,
  parseCidr,
  parseIp,
} from '#net/ip.ts'

/** Inclusive; `gateway` is never given out. Addresses are canonical texts. */
export interface Range {
  readonly subnet: Cidr
  readonly start: string
  readonly end: string
  readonly gateway: string
}
/** One address is given from each set. */
export type RangeSet = readonly Range[]

export interface IpamConf {
  readonly dataDir: string
  readonly sets: readonly RangeSet[]
  /** Addresses asked for, canonical. */
  readonly requested: readonly string[]
  readonly routes: readonly ResultRoute[]
  readonly resolvConf?: string
}

/** Texts that Go's decoder takes as addresses already: what is none fails before any rule is looked at. */
const address: Reader<string | undefined> = (value, where) => {
  const ip = text(value, where)
  if (ip === '') return undefined
  const canonical = canonicalIp(ip)
  if (canonical === undefined) throw generic(`invalid IP address: ${ip}`)
  return canonical
}
const cidr: Reader<Cidr> = (value, where) => {
  const network = text(value, where)
  const parsed = parseCidr(network)
  if (parsed === undefined) throw generic(`invalid CIDR address: ${network}`)
  return parsed
}
const generic = (message: string): CniError => new CniError(cniCode.generic, message)

const readRange = struct({ subnet: cidr, rangeStart: address, rangeEnd: address, gateway: address })
const readIpam = struct({
  type: text,
  dataDir: text,
  resolvConf: text,
  routes: readRoutes,
  ranges: list(list(readRange)),
  subnet: cidr,
  rangeStart: address,
  rangeEnd: address,
  gateway: address,
})
const readOuter = struct({
  cniVersion: text,
  runtimeConfig: struct({ ipRanges: list(list(readRange)), ips: list(text) }),
  args: struct({ cni: struct({ ips: list(text) }) }),
})

/** Where DEL looks: all it needs of the configuration. */
export function ipamDataDir(ipam: JsonObject, fallback: string): string {
  return struct({ dataDir: text, ranges: anything })(ipam, 'IPAMConfig').dataDir || fallback
}

/** @param conf  The network configuration that holds `ipam`.
 * @param args  CNI_ARGS: `IP` asks for an address. */
export function parseIpam(conf: JsonObject, ipam: JsonObject, args: string, defaultDataDir: string): IpamConf {
  const got = readIpam(object(ipam, 'Net.ipam'), 'IPAMConfig')
  if (got.type !== 'host-local') {
    throw unsupported('ipam.type', got.type ?? '', 'this agent serves the address management "host-local"')
  }
  const outer = readOuter(conf, 'Net')
  const routes = (got.routes ?? []).map(parseRoute)
  const asked = [parseKnownArgs(args, ['IP']).get('IP') ?? '', ...(outer.args?.cni?.ips ?? []), ...(outer.runtimeConfig?.ips ?? [])]
  const requested = asked.filter((ip) => ip !== '').map(parseRequested)
  const { subnet, rangeStart, rangeEnd, gateway } = got
  const flat = subnet === undefined ? [] : [[{ subnet, ...defined({ rangeStart, rangeEnd, gateway }) }]]
  const sets = [...(outer.runtimeConfig?.ipRanges ?? []), ...flat, ...(got.ranges ?? [])].map(parseSet)
  if (sets.length === 0) throw generic('no IP ranges specified')
  requireOneAFamily(sets, outer.cniVersion ?? '')
  for (const [i, a] of sets.entries()) {
    for (const [j, b] of sets.entries()) if (i < j && overlap(a, b)) throw generic(`range set ${i} overlaps with ${j}`)
  }
  return {
    dataDir: got.dataDir || defaultDataDir,
    sets,
    requested: [...new Set(requested)],
    routes,
    ...(got.resolvConf ? { resolvConf: got.resolvConf } : {}),
  }
}

/** The destination keeps its host bits in the result; the kernel then refuses them. */
function parseRoute(route: ReturnType<typeof readRoutes>[number]): ResultRoute {
  const dst = cidr(route.dst ?? '', 'Net.ipam.routes.dst')
  const { gw, ...rest } = route
  const via = gw === undefined ? undefined : address(gw, 'Net.ipam.routes.gw')
  return { ...rest, dst: formatCidr(dst), ...(via === undefined ? {} : { gw: via }) }
}

/** With or without a prefix length, which is left aside. */
function parseRequested(ip: string): string {
  const canonical = ip.includes('/') ? parseCidr(ip) && canonicalIp(addressOf(ip)) : canonicalIp(ip)
  if (canonical === undefined) throw generic(ip.includes('/') ? `invalid CIDR address: ${ip}` : `invalid IP address: ${ip}`)
  return canonical
}

/** The result form of the oldest versions has room for one address of each. */
function requireOneAFamily(sets: readonly RangeSet[], version: string): void {
  const count = (family: Family): number => sets.filter((set) => familyOfSet(set) === family).length
  if (compareVersions(version || '0.1.0', '0.3.0') < 0 && (count(4) > 1 || count(6) > 1)) {
    throw generic(`CNI version ${version} does not support more than 1 address per family`)
  }
}

function defined(range: Record<string, string | undefined>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(range).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function parseSet(ranges: readonly ReturnType<typeof readRange>[], index: number): RangeSet {
  const fail = (why: string): CniError => generic(`invalid range set ${index}: ${why}`)
  if (ranges.length === 0) throw fail('empty range set')
  const set = ranges.map((range) => parseRange(range, fail))
  if (set.some((range) => range.subnet.family !== set[0]!.subnet.family)) throw fail('mixed address families')
  for (const [i, a] of set.entries()) {
    for (const b of set.slice(i + 1)) {
      if (overlap([a], [b])) throw fail(`subnets ${showRange(a)} and ${showRange(b)} overlap`)
    }
  }
  return set
}

function parseRange(range: ReturnType<typeof readRange>, fail: (why: string) => CniError): Range {
  const { subnet } = range
  if (!subnet) throw fail('IP <nil> not v4 nor v6')
  const bits = subnet.bytes.length * 8
  if (subnet.prefix > bits - 2) throw fail(`Network ${formatCidr(subnet)} too small to allocate from`)
  const network = formatIp(maskCidr(subnet).bytes)
  if (network !== formatIp(subnet.bytes)) {
    throw fail(`Network has host bits set. For a subnet mask of length ${subnet.prefix} the network address is ${network}`)
  }
  const first = formatIp(addToIp(subnet.bytes, 1)!)
  const inside = (name: string, ip: string | undefined, fallback: string): string => {
    if (ip !== undefined && !contains(subnet, parseIp(ip)!)) throw fail(`${name} ${ip} not in network ${formatCidr(subnet)}`)
    return ip ?? fallback
  }
  const start = inside('RangeStart', range.rangeStart, first)
  if (range.rangeEnd !== undefined && compareIp(range.rangeEnd, start) < 0) {
    const [name, ip] = range.rangeStart === undefined ? ['RangeEnd', range.rangeEnd] : ['RangeStart', start]
    throw fail(`${name} ${ip} not in network ${formatCidr(subnet)}`)
  }
  const end = inside('RangeEnd', range.rangeEnd, lastOf(subnet))
  if (compareIp(start, end) > 0) throw fail(`RangeStart ${start} is after the last address ${end}`)
  return { subnet, start, end, gateway: range.gateway ?? first }
}

/** IPv4: the one before broadcast. IPv6 has no broadcast: the last of the prefix. */
function lastOf(subnet: Cidr): string {
  const bytes = subnet.bytes.map((byte, i) => byte | (0xff >> Math.max(0, Math.min(8, subnet.prefix - 8 * i))))
  return formatIp(subnet.family === 4 ? addToIp(bytes, -1)! : bytes)
}

const overlap = (a: RangeSet, b: RangeSet): boolean =>
  a.some((x) => b.some((y) => x.subnet.family === y.subnet.family && compareIp(x.start, y.end) <= 0 && compareIp(y.start, x.end) <= 0))

const showRange = (range: Range): string => `${range.start}-${range.end}`
export const showSet = (set: RangeSet): string => set.map(showRange).join(',')

/** The range of `set` that holds `ip`. */
export const rangeOf = (set: RangeSet, ip: string): Range | undefined =>
  set.find((range) => familyOfSet(set) === parseIp(ip)?.family && compareIp(ip, range.start) >= 0 && compareIp(ip, range.end) <= 0)

export const familyOfSet = (set: RangeSet): Family => set[0]!.subnet.family

/** Every address of `set` but the gateways, in the order of trying: from the one after `last` round to `last` itself. A freed
 * address so rests as long as it can, and with it what others remember of it (ARP, conntrack). */
export function* candidates(set: RangeSet, last: string | undefined): Generator<{ ip: string; range: Range }> {
  const startAt = last === undefined ? -1 : set.findIndex((range) => rangeOf([range], last) !== undefined)
  const order = startAt < 0 ? set : [...set.slice(startAt), ...set.slice(0, startAt)]
  for (const [i, range] of order.entries()) yield* walk(range, startAt >= 0 && i === 0 ? after(last!) : range.start, range.end)
  if (startAt >= 0) yield* walk(set[startAt]!, set[startAt]!.start, last!)
}

const after = (ip: string): string | undefined => {
  const next = addToIp(parseIp(ip)!.bytes, 1)
  return next && formatIp(next)
}

function* walk(range: Range, from: string | undefined, to: string): Generator<{ ip: string; range: Range }> {
  for (let ip = from; ip !== undefined && compareIp(ip, to) <= 0; ip = after(ip)) if (ip !== range.gateway) yield { ip, range }
}

/** resolv.conf as DNS settings of a result. Lines that start with `#` or `;` are comments. */
export function parseResolvConf(content: string): JsonObject {
  const nameservers: string[] = []
  const search: string[] = []
  const options: string[] = []
  let domain: string | undefined
  for (const line of content.split('\n')) {
    if (/^\s*[#;]/.test(line)) continue
    const [keyword, ...words] = line.trim().split(/\s+/)
    if (words.length === 0) continue
    if (keyword === 'nameserver') nameservers.push(words[0]!)
    if (keyword === 'domain') domain = words[0]
    if (keyword === 'search') search.push(...words)
    if (keyword === 'options') options.push(...words)
  }
  return {
    ...(nameservers.length > 0 ? { nameservers } : {}),
    ...(domain === undefined ? {} : { domain }),
    ...(search.length > 0 ? { search } : {}),
    ...(options.length > 0 ? { options } : {}),
  }
}
