/**
 * host-local's configuration and the choice of an address: values in, values out. The store (store.ts) keeps what is taken.
 * Rules and texts: plugins/ipam/host-local/backend/allocator of containernetworking/plugins.
 * @module
 */
import { anything, type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode, unsupported } from '#cni/failure.ts'
import { parseKnownArgs } from '#cni/request.ts'
import {
  addToIp,
  type Cidr,
  canonicalIp,
  canonicalNetwork,
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
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[]
  readonly resolvConf?: string
}

const readRange = struct({ subnet: text, rangeStart: text, rangeEnd: text, gateway: text })
const readIpam = struct({
  type: text,
  dataDir: text,
  resolvConf: text,
  routes: list(struct({ dst: text, gw: text })),
  ranges: list(list(readRange)),
  subnet: text,
  rangeStart: text,
  rangeEnd: text,
  gateway: text,
})
const readOuter = struct({
  runtimeConfig: struct({ ipRanges: list(list(readRange)), ips: list(text) }),
  args: struct({ cni: struct({ ips: list(text) }) }),
})

const generic = (message: string): CniError => new CniError(cniCode.generic, message)

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
  const { subnet, rangeStart, rangeEnd, gateway } = got
  const flat = subnet === undefined ? [] : [[defined({ subnet, rangeStart, rangeEnd, gateway })]]
  const sets = [...(outer.runtimeConfig?.ipRanges ?? []), ...flat, ...(got.ranges ?? [])].map(parseSet)
  if (sets.length === 0) throw generic('no IP ranges specified')
  for (const [i, a] of sets.entries()) {
    for (const [j, b] of sets.entries()) if (i < j && overlap(a, b)) throw generic(`range set ${i} overlaps with ${j}`)
  }
  const asked = [parseKnownArgs(args, ['IP']).get('IP') ?? '', ...(outer.args?.cni?.ips ?? []), ...(outer.runtimeConfig?.ips ?? [])]
  const requested = asked
    .filter((ip) => ip !== '')
    .map((ip) => {
      const canonical = canonicalIp(ip.replace(/\/\d+$/, ''))
      if (canonical === undefined) throw generic(`invalid IP address ${JSON.stringify(ip)}: expected an address such as 10.244.1.7`)
      return canonical
    })
  return {
    dataDir: got.dataDir || defaultDataDir,
    sets,
    requested,
    routes: (got.routes ?? []).map((route) => {
      const dst = canonicalNetwork(route.dst ?? '')
      if (dst === undefined) throw generic(`invalid route destination ${JSON.stringify(route.dst ?? '')}: expected a CIDR`)
      return { dst, ...(route.gw === undefined ? {} : { gw: route.gw }) }
    }),
    ...(got.resolvConf ? { resolvConf: got.resolvConf } : {}),
  }
}

function defined(range: Record<string, string | undefined>): Record<string, string> {
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
  const subnet = parseCidr(range.subnet ?? '')
  if (!subnet) throw fail(`subnet ${JSON.stringify(range.subnet ?? '')} is no CIDR`)
  const bits = subnet.bytes.length * 8
  if (subnet.prefix > bits - 2) throw fail(`Network ${formatCidr(subnet)} too small to allocate from`)
  const network = formatIp(maskCidr(subnet).bytes)
  if (network !== formatIp(subnet.bytes)) {
    throw fail(`Network has host bits set. For a subnet mask of length ${subnet.prefix} the network address is ${network}`)
  }
  const first = formatIp(addToIp(subnet.bytes, 1)!)
  const inside = (name: string, value: string | undefined, fallback: string): string => {
    if (!value) return fallback
    const ip = parseIp(value)
    if (!ip || !contains(subnet, ip)) throw fail(`${name} ${value} not in network ${formatCidr(subnet)}`)
    return formatIp(ip.bytes)
  }
  const gateway = range.gateway ? canonicalIp(range.gateway) : first
  if (gateway === undefined) throw fail(`gateway ${range.gateway} is no address`)
  const start = inside('RangeStart', range.rangeStart, first)
  const end = inside('RangeEnd', range.rangeEnd, lastOf(subnet))
  if (compareIp(start, end) > 0) throw fail(`RangeStart ${start} is after RangeEnd ${end}`)
  return { subnet, start, end, gateway }
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
