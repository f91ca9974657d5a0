/**
 * The flannel plugin: it has no network of its own but writes the configuration of a delegate from subnet.env, and keeps
 * that text in a scratch file for DEL. Text, place and name of the file are Flannel's, byte for byte, so that either
 * plugin can delete what the other one added. Source: flannel-io/cni-plugin.
 * @module
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { goJson, parseJson, sortKeys } from '#cni/json.ts'
import type { CniCall } from '#cni/request.ts'
import { parseSubnetEnv, type SubnetEnv } from '#cni/subnet-env.ts'
import { wholeFiles, writeWhole } from '#cni/whole-file.ts'

export interface FlannelPaths {
  readonly subnetFile: string
  readonly dataDir: string
}

interface FlannelConf extends FlannelPaths {
  readonly delegate: JsonObject
  readonly ipam: JsonObject
  readonly runtimeConfig?: JsonObject
}

const readFlannelConf = struct({ subnetFile: text, dataDir: text, delegate: object, ipam: object, runtimeConfig: object })

export function parseFlannelConf(conf: JsonObject, defaults: FlannelPaths): FlannelConf {
  const got = readFlannelConf(conf, 'NetConf')
  const delegate = got.delegate ?? {}
  if ('type' in delegate && typeof delegate.type !== 'string') {
    throw new CniError(cniCode.generic, "'delegate' dictionary, if present, must have (string) 'type' field")
  }
  for (const key of ['name', 'ipam']) {
    if (key in delegate) throw new CniError(cniCode.generic, `'delegate' dictionary must not have '${key}' field, it'll be set by flannel`)
  }
  return {
    subnetFile: got.subnetFile || defaults.subnetFile,
    dataDir: got.dataDir || defaults.dataDir,
    delegate,
    ipam: got.ipam ?? {},
    ...(got.runtimeConfig === undefined ? {} : { runtimeConfig: got.runtimeConfig }),
  }
}

/** @throws {CniError} if the file is not there: the text says where to look. */
export function loadSubnetEnv(path: string): SubnetEnv {
  let content: string
  try {
    content = readFileSync(path, 'utf8')
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or directory' : (error as Error).message
    throw new CniError(
      cniCode.generic,
      `failed to load flannel 'subnet.env' file: open ${path}: ${why}. Check the flannel pod log for this node.`,
      'the Twill agent writes the file when it has its lease: see `twill status` on the node',
    )
  }
  return parseSubnetEnv(content, path)
}

/** The delegate's configuration: the exact text that is stored and acted on. */
export function delegateConf(call: Pick<CniCall, 'network' | 'conf'>, conf: FlannelConf, env: SubnetEnv): string {
  const { cniVersion } = struct({ cniVersion: text })(call.conf, 'NetConf')
  const type = (conf.delegate.type as string | undefined) ?? 'bridge'
  const delegate: Record<string, unknown> = {
    ipMasq: !env.ipMasq,
    mtu: env.mtu,
    ...(type === 'bridge' ? { isGateway: true } : {}),
    ...conf.delegate,
    type,
    name: call.network,
    ...(cniVersion ? { cniVersion } : {}),
    ...(conf.runtimeConfig === undefined ? {} : { runtimeConfig: conf.runtimeConfig }),
    ipam: {
      type: 'host-local',
      ...conf.ipam,
      ranges: env.subnets.map((subnet) => [{ subnet }]),
      routes: [...list(object)(conf.ipam.routes ?? [], 'NetConf.ipam.routes'), ...env.networks.map((dst) => ({ dst }))],
    },
  }
  return goJson(sortKeys(delegate))
}

/** What DEL needs when the scratch file is gone or torn: where the addresses are. Needs no subnet.env. */
export function fallbackConf(call: Pick<CniCall, 'network'>, conf: FlannelConf): JsonObject {
  return { type: 'bridge', ...conf.delegate, name: call.network, ipam: { type: 'host-local', ...conf.ipam } }
}

/** The type of a delegate that is another maker's; bridge runs inside the agent. */
export const otherDelegate = ({ type }: JsonObject): string | undefined => (type === 'bridge' ? undefined : String(type))

const scratchPath = (dataDir: string, containerId: string): string => `${dataDir}/${containerId}`

/** Writes the scratch file, whole or not at all. It is not synced: a power cut takes the pod along, and a DEL that then finds the
 * file empty works from the current configuration. */
export function saveScratch(dataDir: string, containerId: string, content: string): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  writeWhole(scratchPath(dataDir, containerId), content)
}

/** The delegate's configuration that ADD stored; undefined if it is gone, empty or torn. */
export function loadScratch(dataDir: string, containerId: string): JsonObject | undefined {
  let content: string
  try {
    content = readFileSync(scratchPath(dataDir, containerId), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const parsed = parseJson(content)
  const usable = 'value' in parsed && parsed.value !== null && typeof parsed.value === 'object' && !Array.isArray(parsed.value)
  return usable ? (parsed.value as JsonObject) : undefined
}

/** Everything that is kept; `delegate` is absent where the file is torn. */
export function allScratch(dataDir: string): { containerId: string; delegate: JsonObject | undefined }[] {
  return wholeFiles(dataDir).map((containerId) => ({ containerId, delegate: loadScratch(dataDir, containerId) }))
}

export function removeScratch(dataDir: string, containerId: string): void {
  rmSync(scratchPath(dataDir, containerId), { force: true })
}
