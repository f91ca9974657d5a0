/**
 * Pods that the reference plugins attached before Twill came: libcni keeps what each ADD was told and what it answered
 * (/var/lib/cni/results), so they become attachments like our own: kept, repaired, deleted, counted. Their hostPorts move into our
 * table, and the reference portmap's rules go once ours stand.
 *
 * An entry counts only if the node still has the host's end with the MAC of the answer, and host-local still holds the addresses for
 * the container: the cache outlives reboots and lost DELs. What is of another maker's network stays that maker's.
 * Source of the file's form: containernetworking/cni libcni/api.go.
 * @module
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { messageOf } from '#base/errors.ts'
import type { Log } from '#base/log.ts'
import type { Attachments, Entry } from '#cni/attachments.ts'
import { parseBridgeConf } from '#cni/bridge.ts'
import { anything, type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { loadScratch } from '#cni/flannel.ts'
import type { HostPorts } from '#cni/hostports.ts'
import { ipamDataDir } from '#cni/ipam.ts'
import { parseJson } from '#cni/json.ts'
import type { PodKernel, RemoveReferenceRules } from '#cni/kernel.ts'
import { podNameOf } from '#cni/network.ts'
import { addressesOn, parsePortMap } from '#cni/portmap.ts'
import { type CniResult, parseResult } from '#cni/result.ts'
import type { CniVersion } from '#cni/version.ts'
import type { ReferencePorts } from '#model/pod.ts'
import { addressOf, prefixOf } from '#net/ip.ts'

export interface AdoptOptions {
  readonly attachments: Attachments
  readonly hostPorts: HostPorts
  readonly kernel: PodKernel
  readonly removeReferenceRules: RemoveReferenceRules
  readonly listReferencePorts: () => Promise<readonly ReferencePorts[]>
  readonly log: Log
  /** libcni's cache: /var/lib/cni/results. */
  readonly resultsDir: string
  /** Flannel's scratch files. */
  readonly flannelDir: string
  /** host-local's default directory. */
  readonly networksDir: string
}

/** One ADD as libcni remembers it. */
interface Cached {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
  readonly netns: string
  readonly args: string
  readonly plugins: readonly JsonObject[]
  readonly portMappings: unknown
  readonly result: CniResult
}

/** Takes over what can be taken over; the rest is logged and left alone. @returns The attachments that are new. */
export async function adopt(o: AdoptOptions): Promise<Entry[]> {
  const entries: Entry[] = []
  for (const name of existsSync(o.resultsDir) ? readdirSync(o.resultsDir) : []) {
    try {
      const cached = parseCached(readFileSync(`${o.resultsDir}/${name}`, 'utf8'))
      if (!cached || o.attachments.get(cached)) continue
      const entry = await entryOf(cached, o)
      if (!entry) continue
      o.attachments.begin(entry)
      o.attachments.finish(entry)
      entries.push(entry)
      const about = { containerId: cached.containerId, ifname: cached.ifname, pod: entry.attachment.podName }
      o.log.info(about, 'took over a pod')
      await adoptPorts(cached, entry, o).catch((error: unknown) =>
        o.log.warn({ ...about, err: messageOf(error) }, 'its hostPorts stay in the rules of the reference portmap, until DEL'),
      )
    } catch (error) {
      o.log.warn(
        { file: name, err: messageOf(error) },
        'a pod of the reference plugins could not be taken over; it stays as it is, and DEL knows it by its namespace',
      )
    }
  }
  await adoptSavedPorts(o).catch((error: unknown) =>
    o.log.warn({ err: messageOf(error) }, 'the hostPorts in the rules of the reference portmap stay there, until DEL'),
  )
  return entries
}

const readCached = struct({
  kind: text,
  containerId: text,
  config: text,
  ifName: text,
  networkName: text,
  netns: text,
  cniArgs: list(list(text)),
  capabilityArgs: struct({ portMappings: anything }),
  result: object,
})

/** Undefined if the file is none of libcni's, or of a form before cniCacheV1, which lacks what is needed here. */
function parseCached(content: string): Cached | undefined {
  const parsed = parseJson(content)
  if (!('value' in parsed) || typeof parsed.value !== 'object' || parsed.value === null) return undefined
  const got = readCached(parsed.value, 'cache')
  const { containerId, ifName, networkName, netns, config, result } = got
  if (got.kind !== 'cniCacheV1' || !containerId || !ifName || !networkName || !netns || !config || !result) return undefined
  const conf = parseJson(Buffer.from(config, 'base64').toString())
  const { plugins } = struct({ plugins: list(object) })('value' in conf ? conf.value : {}, 'config')
  return {
    network: networkName,
    containerId,
    ifname: ifName,
    netns,
    args: (got.cniArgs ?? []).map((pair) => pair.join('=')).join(';'),
    plugins: plugins ?? [],
    portMappings: got.capabilityArgs?.portMappings,
    result: parseResult(result, result.cniVersion as CniVersion),
  }
}

/** The attachment that `cached` tells of; undefined if it is of another kind of network, or no longer there. */
async function entryOf(cached: Cached, o: AdoptOptions): Promise<Entry | undefined> {
  const [main] = cached.plugins
  const conf = main?.type === 'flannel' ? loadScratch(o.flannelDir, cached.containerId) : main?.type === 'bridge' ? main : undefined
  if (conf?.type !== 'bridge') return undefined
  const bridge = parseBridgeConf({ ...conf, ipMasq: false }, cached.args)
  const { interfaces, ips, routes } = cached.result
  const index = interfaces.findIndex((one) => one.name === cached.ifname && one.sandbox)
  const pod = interfaces[index]
  const host = interfaces.find((one) => !one.sandbox && one.name !== bridge.bridge)
  const own = ips.filter((ip) => ip.interface === index)
  if (!pod?.mac || !host?.mac || own.length === 0 || (await macOnNode(o.kernel, host.name)) !== host.mac) return undefined
  const dataDir = ipamDataDir(bridge.ipam, o.networksDir)
  const holds = (ip: string): boolean => readHeld(`${dataDir}/${cached.network}/${ip}`)[0] === cached.containerId
  if (!own.every(({ address }) => holds(addressOf(address)))) return undefined
  const podName = podNameOf(cached.args)
  return {
    dataDir,
    attachment: {
      network: cached.network,
      containerId: cached.containerId,
      ifname: cached.ifname,
      ...(podName !== undefined && { podName }),
      netns: cached.netns,
      bridge: bridge.bridge,
      hairpin: bridge.hairpin,
      ...(bridge.isolated && { isolated: true }),
      ...(bridge.promisc && { promisc: true }),
      mtu: bridge.mtu,
      host: { name: host.name, mac: host.mac },
      pod: { mac: pod.mac, addresses: own.map(({ address }) => address) },
      gateways: bridge.isGateway
        ? own.flatMap(({ gateway, address }) => (gateway === undefined ? [] : [`${gateway}/${prefixOf(address)}`]))
        : [],
      routes: routes.map(({ dst, gw }) => ({ dst, ...(gw === undefined ? {} : { via: gw }) })),
    },
  }
}

/** Container ID and interface in host-local's file at `path`; nothing if there is none. */
const readHeld = (path: string): string[] => (existsSync(path) ? readFileSync(path, 'utf8').trim().split('\r\n') : [])

/** hostPorts of which only the reference portmap's rules tell: the cache is gone, or of an old form. */
async function adoptSavedPorts(o: AdoptOptions): Promise<void> {
  for (const ports of await o.listReferencePorts()) {
    const ip = addressOf(ports.addresses[0]!)
    const [containerId, ifname = 'eth0'] = readHeld(`${o.networksDir}/${ports.network}/${ip}`)
    const dev = containerId === ports.containerId ? await o.kernel.deviceTo(ip) : undefined
    if (dev === undefined) continue
    await o.hostPorts.add({ ...ports, ifname, dev })
    await o.removeReferenceRules({ ...ports, ifname })
    o.log.info({ containerId, ifname }, 'took over hostPorts')
  }
}

/** Ours first, then theirs go: the ports are open all the while. */
async function adoptPorts(cached: Cached, { attachment }: Entry, o: AdoptOptions): Promise<void> {
  const plugin = cached.plugins.find(({ type }) => type === 'portmap')
  if (!plugin || cached.portMappings === undefined) return
  const conf = parsePortMap({ ...plugin, runtimeConfig: { portMappings: cached.portMappings } })
  if (conf.mappings.length === 0) return
  const { network, containerId, ifname, podName, bridge } = attachment
  const addresses = addressesOn(ifname, cached.result)
  await o.hostPorts.add({ network, containerId, ifname, ...(podName !== undefined && { podName }), addresses, dev: bridge, ...conf })
  await o.removeReferenceRules(attachment)
}

const macOnNode = async (kernel: PodKernel, name: string): Promise<string | undefined> =>
  (await kernel.host()).links.find((link) => link.name === name)?.mac
