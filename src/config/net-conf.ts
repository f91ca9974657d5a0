/**
 * net-conf.json, read as Go's encoding/json would: keys match in any case, unknown keys are ignored, a repeated key's last value
 * wins, `null` leaves the default, a wrong type is an error. All problems are reported at once, each with key, value and what is allowed.
 * @module
 */
import { printable, quoted } from '#base/printable.ts'
import { configError } from '#config/errors.ts'
import { canonicalNetwork, familyOf, parseCidr, specialIn } from '#net/ip.ts'

/** `B` is what the backend's own keys make. */
export interface NetConf<B = unknown> {
  /** Masked; absent if not configured. */
  readonly network?: string
  readonly enableIPv4: boolean
  /** Flannel's nft mode. Twill always uses nftables; the modes differ in which packets are masqueraded. */
  readonly enableNFTables: boolean
  readonly backend: B
}

/** What may stand in Backend.Type, and how its other keys are read. */
export type BackendTypes<B> = ReadonlyMap<string, { configure(keys: Keys): B }>

/** Backend types of Flannel, in its own order. */
export const FLANNEL_BACKENDS = ['vxlan', 'host-gw', 'wireguard', 'udp', 'ipip', 'ipsec', 'extension', 'tencent-vpc', 'alloc'] as const

type Json = Readonly<Record<string, unknown>>

/** One JSON object with keys in any case. A value of the wrong type is noted as a problem and reads as if it were absent. */
export class Keys {
  readonly #values = new Map<string, unknown>()
  readonly #path: string
  readonly #problems: string[]

  constructor(object: Json, path: string, problems: string[]) {
    for (const [key, value] of Object.entries(object)) this.#values.set(key.toLowerCase(), value)
    this.#path = path
    this.#problems = problems
  }

  fail(key: string, found: unknown, allowed: string): undefined {
    this.#problems.push(`${this.#path}${key}: found ${quoted(found)}, allowed is ${allowed}`)
    return undefined
  }

  /** The value of `key` if it is of the type that `is` tests; undefined if absent or null. */
  #get<T>(key: string, is: (value: unknown) => value is T, allowed: string): T | undefined {
    const value = this.#values.get(key.toLowerCase())
    if (value === undefined || value === null) return undefined
    return is(value) ? value : this.fail(key, value, allowed)
  }

  text = (key: string): string | undefined => this.#get(key, (v): v is string => typeof v === 'string', 'a text')
  bool = (key: string): boolean | undefined => this.#get(key, (v): v is boolean => typeof v === 'boolean', 'true or false')
  object = (key: string): Json | undefined =>
    this.#get(key, (v): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v), 'an object')
  int = (key: string, min: number, max: number): number | undefined =>
    this.#get(
      key,
      (v): v is number => Number.isInteger(v) && (v as number) >= min && (v as number) <= max,
      `an integer from ${min} to ${max}`,
    )
}

/**
 * Parses the text of net-conf.json; `path` is for messages, `backends` are those there are, by Backend.Type.
 * @throws {TwillError} ERR_NET_CONF with every problem, ERR_BACKEND_TO_COME, ERR_FAMILY_TO_COME.
 */
export function parseNetConf<B>(text: string, path: string, backends: BackendTypes<B>): NetConf<B> {
  const problems: string[] = []
  const top = new Keys(parseObject(text, path), '', problems)

  // Type checks only, so that a file with a typing error is refused as Flannel refuses it: these keys rule etcd mode.
  for (const key of ['SubnetLen', 'IPv6SubnetLen']) top.int(key, 0, 128)
  for (const key of ['SubnetMin', 'SubnetMax', 'IPv6SubnetMin', 'IPv6SubnetMax', 'IPv6Network']) top.text(key)

  const given = top.text('Network')
  const network = given === undefined ? undefined : canonicalNetwork(given)
  if (given !== undefined && (network === undefined || familyOf(network) !== 4))
    top.fail('Network', given, 'an IPv4 CIDR such as 10.244.0.0/16')
  else if (network !== undefined) {
    const special = specialIn(parseCidr(network)!)
    if (special !== undefined && special !== 'link-local') top.fail('Network', given, `addresses of hosts, and these are ${special}`)
  }
  const enableIPv4 = top.bool('EnableIPv4') ?? true
  const enableIPv6 = top.bool('EnableIPv6') ?? false
  if (!enableIPv4 && !enableIPv6) top.fail('EnableIPv4', false, 'true, unless EnableIPv6 is')
  if (enableIPv4 && given === undefined) top.fail('Network', null, 'an IPv4 CIDR such as 10.244.0.0/16')
  const enableNFTables = top.bool('EnableNFTables') ?? false

  const object = top.object('Backend')
  const backend = new Keys(object ?? {}, 'Backend.', problems)
  const found = backend.text('Type')
  const type = object === undefined ? 'udp' : (found ?? '').toLowerCase() // udp: Flannel's default for an absent Backend
  const known = [...new Set([...backends.keys(), ...FLANNEL_BACKENDS])]
  if (!known.includes(type)) backend.fail('Type', found ?? null, [...backends.keys()].join(', '))
  const configured = backends.get(type)?.configure(backend)

  if (problems.length > 0) throw configError.ERR_NET_CONF({ path, problems })
  if (configured === undefined) throw configError.ERR_BACKEND_TO_COME({ type, available: [...backends.keys()] })
  if (enableIPv6) throw configError.ERR_FAMILY_TO_COME({})
  return Object.freeze({ ...(network && { network }), enableIPv4, enableNFTables, backend: configured })
}

function parseObject(text: string, path: string): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw configError.ERR_NET_CONF({ path, problems: [`not JSON: ${printable((error as Error).message)}`] }, error)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw configError.ERR_NET_CONF({ path, problems: [`found ${quoted(value)}, allowed is a JSON object`] })
  }
  return value as Json
}
