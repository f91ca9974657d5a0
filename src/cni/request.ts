/**
 * A request judged: the environment and the parts of the configuration that every plugin shares. Rules, codes and texts are
 * those of the Go library (pkg/skel, pkg/utils of containernetworking/cni), which runtimes and people know.
 * @module
 */
import { type JsonObject, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { parseJson } from '#cni/json.ts'
import { DEPTH } from '#cni/others.ts'
import type { RawRequest } from '#cni/protocol.ts'
import { type CniVersion, compareVersions, since, supportedVersions } from '#cni/version.ts'
import type { CniRequest } from '#model/pod.ts'

/** A request with its configuration decoded. `conf` is the whole object on stdin. */
export interface CniCall extends CniRequest {
  readonly version: CniVersion
  readonly network: string
  readonly conf: JsonObject
  /** How many plugins called each other through us to get here. */
  readonly depth: number
}

const commands = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC'] as const
const plugins = ['flannel', 'portmap', 'loopback', 'bridge', 'host-local']
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/** @throws {CniError} as the reference plugins answer. */
export function parseRequest(raw: RawRequest): CniCall {
  const env = (name: string): string => raw.env.get(name) ?? ''
  const plugin = env('PLUGIN')
  if (!plugins.includes(plugin)) {
    throw new CniError(
      cniCode.invalidEnvironment,
      `this CNI plugin is called ${JSON.stringify(plugin)}; it knows the names ${plugins.join(', ')}`,
    )
  }
  const command = commands.find((one) => one === env('CNI_COMMAND'))
  if (command === undefined) throw new CniError(cniCode.invalidEnvironment, `unknown CNI_COMMAND: ${env('CNI_COMMAND')}`)

  const aboutContainer = command === 'ADD' || command === 'DEL' || command === 'CHECK'
  const required = [
    ...(aboutContainer ? ['CNI_CONTAINERID'] : []),
    ...(aboutContainer && command !== 'DEL' ? ['CNI_NETNS'] : []),
    ...(aboutContainer ? ['CNI_IFNAME'] : []),
    'CNI_PATH',
  ]
  const missing = required.filter((name) => env(name) === '')
  if (missing.length > 0) throw new CniError(cniCode.invalidEnvironment, `required env variables [${missing.join(',')}] missing`)

  const { conf, network, version } = parseConf(raw.config)
  if (aboutContainer) {
    checkContainerId(env('CNI_CONTAINERID'))
    checkIfname(env('CNI_IFNAME'))
  }
  const first = since[command]
  if (first !== undefined && compareVersions(version, first) < 0) {
    throw new CniError(cniCode.incompatibleVersion, `config version does not allow ${command}`)
  }
  return {
    plugin,
    command,
    containerId: env('CNI_CONTAINERID'),
    netns: env('CNI_NETNS'),
    ifname: env('CNI_IFNAME'),
    args: env('CNI_ARGS'),
    path: env('CNI_PATH'),
    config: raw.config,
    version: knownVersion(version),
    network,
    conf,
    depth: Number(env(DEPTH)) || 0,
  }
}

const readConf = struct({ name: text })

function parseConf(config: string): { conf: JsonObject; network: string; version: string } {
  const parsed = parseJson(config)
  if ('problem' in parsed) throw new CniError(cniCode.decoding, `error unmarshall network config: ${parsed.problem}`)
  try {
    const conf = object(parsed.value ?? {}, 'NetConf') // null leaves everything out, as in Go
    const cniVersion = versionOf(conf)
    const { name } = readConf(conf, '')
    if (!name) throw new CniError(cniCode.invalidConfig, 'missing network name')
    if (!NAME.test(name)) throw new CniError(cniCode.invalidConfig, 'invalid characters found in network name', name)
    return { conf, network: name, version: cniVersion || '0.1.0' }
  } catch (error) {
    if (error instanceof CniError && error.code === cniCode.generic) {
      throw new CniError(cniCode.decoding, error.message.replace('failed to load netconf', 'error unmarshall network config'))
    }
    throw error
  }
}

/** Read first, and said so. */
function versionOf(conf: JsonObject): string | undefined {
  try {
    return struct({ cniVersion: text })(conf, '').cniVersion
  } catch (error) {
    const why = (error as Error).message.replace('failed to load netconf: ', '')
    throw new CniError(cniCode.decoding, `decoding version from network config: ${why}`)
  }
}

function knownVersion(version: string): CniVersion {
  const known = supportedVersions.find((one) => one === version)
  if (known !== undefined) return known
  const list = supportedVersions.map((one) => `"${one}"`).join(' ')
  throw new CniError(cniCode.incompatibleVersion, 'incompatible CNI versions', `config is "${version}", plugin supports [${list}]`)
}

function checkContainerId(id: string): void {
  if (!NAME.test(id)) throw new CniError(cniCode.invalidEnvironment, 'invalid characters in containerID', id)
}

function checkIfname(name: string): void {
  const refuse = (message: string, details?: string): never => {
    throw new CniError(cniCode.invalidEnvironment, message, details)
  }
  if (Buffer.byteLength(name) > 15) refuse('interface name is too long', 'interface name should be less than 16 characters')
  if (name === '.' || name === '..') refuse('interface name is . or ..')
  if (/[/:\s]/.test(name)) refuse('interface name contains / or : or whitespace characters')
}

/** CNI_ARGS as pairs. Plugins that take no arguments never look at it. */
export function parseArgs(args: string): ReadonlyMap<string, string> {
  const pairs = new Map<string, string>()
  if (args === '') return pairs
  for (const pair of args.split(';')) {
    const halves = pair.split('=')
    if (halves.length !== 2) throw new CniError(cniCode.generic, `ARGS: invalid pair ${JSON.stringify(pair)}`)
    pairs.set(halves[0]!, halves[1]!)
  }
  return pairs
}

/** CNI_ARGS for a plugin that knows `known`: any other key is an error unless IgnoreUnknown says otherwise. */
export function parseKnownArgs(args: string, known: readonly string[]): ReadonlyMap<string, string> {
  const pairs = parseArgs(args)
  const ignore = pairs.get('IgnoreUnknown')
  if (ignore !== undefined && !/^(1|true|0|false)$/i.test(ignore)) {
    const why = `boolean unmarshal error: invalid input ${ignore}`
    throw new CniError(cniCode.generic, `ARGS: error parsing value of pair "IgnoreUnknown=${ignore}": ${why}`)
  }
  const unknown = [...pairs].filter(([key]) => key !== 'IgnoreUnknown' && !known.includes(key))
  if (!/^(1|true)$/i.test(ignore ?? '') && unknown.length > 0) {
    const list = unknown.map(([key, value]) => JSON.stringify(`${key}=${value}`)).join(' ')
    throw new CniError(cniCode.generic, `ARGS: unknown args [${list}]`)
  }
  return pairs
}
