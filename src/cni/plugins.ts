/**
 * One plugin call, answered: which name does what for which command. The runtime drives the chain (lo; flannel, portmap);
 * flannel → bridge → host-local is in here; what is another maker's is run for us (others.ts).
 * @module
 */
import { existsSync } from 'node:fs'
import { type JsonObject, list, object, struct, text } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import {
  allScratch,
  delegateConf,
  type FlannelPaths,
  fallbackConf,
  loadScratch,
  loadSubnetEnv,
  otherDelegate,
  parseFlannelConf,
  removeScratch,
  saveScratch,
} from '#cni/flannel.ts'
import type { HostPorts } from '#cni/hostports.ts'
import { SAVED } from '#cni/install.ts'
import type { Caller, PodKernel, RemoveReferenceRules } from '#cni/kernel.ts'
import { demand, isAmong, type Network, netnsProblem, podNameOf, requireNetns } from '#cni/network.ts'
import { otherIpam, parseOtherResult } from '#cni/other-ipam.ts'
import { callIfThere, callOther } from '#cni/others.ts'
import { checkPorts, mapPorts } from '#cni/portmap.ts'
import type { CniCall } from '#cni/request.ts'
import { type CniResult, parseResult, printResult } from '#cni/result.ts'
import type { Owner } from '#cni/store.ts'
import { loopbackOps } from '#plan/pod.ts'

export interface PluginContext {
  readonly network: Network
  readonly kernel: PodKernel
  readonly flannel: FlannelPaths
  readonly hostPorts: HostPorts
  readonly removeReferenceRules: RemoveReferenceRules
  /** Name of our network. Absent: all are. */
  readonly ownNetwork?: string
}

/** Carries out `call`. The text goes to stdout; DEL and CHECK have none. */
export async function callPlugin(call: CniCall, context: PluginContext, caller: Caller): Promise<string> {
  if (isOthers(call, context)) {
    const saved = { file: `${call.plugin}${SAVED}`, plugin: call.plugin }
    const stdout = await callIfThere(call, caller, saved, call.command, call.config)
    if (stdout !== undefined) return stdout
  }
  const plugin = plugins[call.plugin]!
  switch (call.command) {
    case 'ADD':
      return printResult(await plugin.add(call, context, caller), call.version)
    case 'DEL':
      await plugin.del?.(call, context, caller)
      return ''
    case 'CHECK':
      await plugin.check?.(call, context, caller)
      return ''
    case 'STATUS':
      await plugin.status?.(call, context, caller)
      return ''
    case 'GC':
      await collect(call, plugin, context, caller)
      return ''
    default:
      throw new CniError(cniCode.invalidEnvironment, `unknown CNI_COMMAND: ${call.command}`)
  }
}

/** True for a network that the plugin whose place ours took may serve: it has another name than ours, and nothing of this
 * interface was made by us. Where no plugin was saved we serve it too. */
const isOthers = (call: CniCall, { ownNetwork, network, hostPorts }: PluginContext): boolean =>
  (call.plugin === 'flannel' || call.plugin === 'portmap') &&
  ownNetwork !== undefined &&
  call.network !== ownNetwork &&
  !network.has(call) &&
  hostPorts.get(call) === undefined

interface Plugin {
  add(call: CniCall, context: PluginContext, caller: Caller): Promise<CniResult>
  del?(call: CniCall, context: PluginContext, caller: Caller): Promise<void>
  check?(call: CniCall, context: PluginContext, caller: Caller): Promise<void>
  /** @throws {CniError} 50 while ADD could not be served. */
  status?(call: CniCall, context: PluginContext, caller: Caller): Promise<void>
  /** Takes back what is not `valid`. */
  gc?(call: CniCall, context: PluginContext, valid: readonly Owner[], caller: Caller): Promise<void>
}

const readValid = struct({ 'cni.dev/valid-attachments': list(struct({ containerID: text, ifname: text })) })

/** An absent list says nothing and nothing goes; an empty one says that nothing is valid. */
async function collect(call: CniCall, plugin: Plugin, context: PluginContext, caller: Caller): Promise<void> {
  const listed = readValid(call.conf, 'NetConf')['cni.dev/valid-attachments']
  const valid = listed?.map(({ containerID, ifname }) => ({ containerId: containerID ?? '', ifname: ifname ?? '' }))
  if (valid) await plugin.gc?.(call, context, valid, caller)
}

const flannel: Plugin = {
  async add(call, { network, flannel: paths }, caller) {
    const conf = parseFlannelConf(call.conf, paths)
    const content = delegateConf(call, conf, loadSubnetEnv(conf.subnetFile))
    const delegate = JSON.parse(content) as JsonObject
    const save = (): void => saveScratch(conf.dataDir, call.containerId, content)
    const other = otherDelegate(delegate)
    try {
      return await (other === undefined ? network.add(call, delegate, caller, save) : addByOther(call, caller, other, delegate, save))
    } catch (error) {
      removeScratch(conf.dataDir, call.containerId)
      throw error
    }
  },
  async del(call, context, caller) {
    const conf = parseFlannelConf(call.conf, context.flannel)
    const delegate = loadScratch(conf.dataDir, call.containerId) ?? fallbackConf(call, conf)
    const other = otherDelegate(delegate)
    if (other === undefined) await detach(call, delegate, context, caller)
    else await callOther(call, caller, other, 'DEL', delegate)
    removeScratch(conf.dataDir, call.containerId)
  },
  async check(call, context, caller) {
    const conf = parseFlannelConf(call.conf, context.flannel)
    const delegate = loadScratch(conf.dataDir, call.containerId) ?? fallbackConf(call, conf)
    await checkDelegate(call, context, caller, { ...delegate, prevResult: call.conf.prevResult })
  },
  async status(call, { flannel: paths }, caller) {
    const conf = parseFlannelConf(call.conf, paths)
    let delegate: JsonObject
    try {
      delegate = JSON.parse(delegateConf(call, conf, loadSubnetEnv(conf.subnetFile))) as JsonObject
    } catch (error) {
      throw error instanceof CniError ? new CniError(cniCode.notAvailable, error.message, error.details) : error
    }
    const other = otherDelegate(delegate)
    if (other === undefined) await askIpam(call, caller, 'STATUS', delegate)
    else await callOther(call, caller, other, 'STATUS', delegate)
  },
  async gc(call, { network, hostPorts, flannel: paths }, valid, caller) {
    const conf = parseFlannelConf(call.conf, paths)
    const delegate = { ...fallbackConf(call, conf), cniVersion: call.version, ...attachmentsIn(call.conf) }
    await network.collect(call.network, ipamOf(delegate), valid, (a) => hostPorts.remove(a))
    const other = otherDelegate(delegate)
    if (other === undefined) await askIpam(call, caller, 'GC', delegate)
    else await callOther(call, caller, other, 'GC', delegate)
    for (const { containerId, delegate } of allScratch(conf.dataDir)) {
      const ours = delegate === undefined || delegate.name === call.network // a torn one is of no use to anyone
      if (ours && valid.every((one) => one.containerId !== containerId)) removeScratch(conf.dataDir, containerId)
    }
  },
}

/** ADD by a delegate that is not ours: its configuration is kept before it begins, and DEL follows if it fails or no one waits any more. */
async function addByOther(call: CniCall, caller: Caller, type: string, delegate: JsonObject, save: () => void): Promise<CniResult> {
  save()
  try {
    const result = parseOtherResult(await callOther(call, caller, type, 'ADD', delegate), call.version)
    if (caller.gone.aborted) throw new CniError(cniCode.tryAgainLater, 'the runtime went away during ADD')
    return result
  } catch (error) {
    await callOther(call, caller, type, 'DEL', delegate).catch(() => {}) // the runtime hears why ADD failed, and sends a DEL of its own
    throw error
  }
}

function checkDelegate(call: CniCall, context: PluginContext, caller: Caller, delegate: JsonObject): Promise<unknown> {
  const other = otherDelegate(delegate)
  return other === undefined ? checkBridge(call, context, caller, delegate) : callOther(call, caller, other, 'CHECK', delegate)
}

const attachmentsIn = (conf: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(conf).filter(([key]) => key.startsWith('cni.dev/')))

const bridge: Plugin = {
  add: (call, { network }, caller) => network.add(call, call.conf, caller),
  del: (call, context, caller) => detach(call, call.conf, context, caller),
  check: (call, context, caller) => checkBridge(call, context, caller, call.conf),
  status: (call, _, caller) => askIpam(call, caller, 'STATUS', call.conf),
  async gc(call, { network, hostPorts }, valid, caller) {
    await network.collect(call.network, ipamOf(call.conf), valid, (a) => hostPorts.remove(a))
    await askIpam(call, caller, 'GC', call.conf)
  },
}

async function checkBridge(call: CniCall, { network }: PluginContext, caller: Caller, conf: JsonObject): Promise<void> {
  await askIpam(call, caller, 'CHECK', conf)
  await network.check(call, conf, () => requirePrevResult(call))
}

/** What is left for the address manager of a bridge's `conf`, if it is not ours. */
async function askIpam(call: CniCall, caller: Caller, command: CniCall['command'], conf: JsonObject): Promise<void> {
  const other = otherIpam(ipamOf(conf))
  if (other !== undefined) await callOther(call, caller, other, command, conf)
}

/** The interface goes, and what leads there: a runtime that does not name a pod's ports again at DEL never asks portmap for it. */
async function detach(
  call: CniCall,
  conf: JsonObject,
  { network, hostPorts, removeReferenceRules }: PluginContext,
  caller: Caller,
): Promise<void> {
  await hostPorts.remove(call)
  if (!network.has(call)) await removeReferenceRules(call)
  await network.del(call, ipamOf(conf))
  await askIpam(call, caller, 'DEL', conf)
}

const hostLocal: Plugin = {
  add: (call, { network }) => network.reserve(call, call.conf, ipamOf(call.conf)),
  del: (call, { network }) => network.unreserve(call, ipamOf(call.conf)),
  check: (call, { network }) => network.requireReserved(call, ipamOf(call.conf)),
  gc: (call, { network }, valid) => network.collectAddresses(call.network, ipamOf(call.conf), valid),
}

/** Without a mapping it only hands on what the plugin before it made. */
const portmap: Plugin = {
  async add(call, { hostPorts, kernel }, { gone }) {
    const prev = requirePrevResult(call)
    await mapPorts(call, prev, hostPorts, (ip) => kernel.deviceTo(ip), podNameOf(call.args))
    if (!gone.aborted) return prev
    await hostPorts.remove(call)
    throw new CniError(cniCode.tryAgainLater, 'the runtime went away during ADD')
  },
  async del(call, { hostPorts, removeReferenceRules }) {
    await hostPorts.remove(call)
    await removeReferenceRules(call)
  },
  check: async (call, { hostPorts }) => checkPorts(call, hostPorts),
  gc: (call, { hostPorts }, valid) => hostPorts.retain(call.network, (one) => isAmong(one, valid)),
}

/** lo is up in the pod; ::1 is there wherever the kernel has IPv6. */
const loopback: Plugin = {
  async add(call, { kernel }) {
    const prev = prevResultOf(call)
    requireNetns(call.netns)
    const owner = `loopback ${call.containerId}`
    demand(await kernel.commit(owner, [], loopbackOps(call.netns, owner, true)))
    if (prev) return prev
    const addresses = ['127.0.0.1/8', ...(existsSync('/proc/sys/net/ipv6') ? ['::1/128'] : [])]
    return {
      interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: call.netns }],
      ips: addresses.map((address) => ({ interface: 0, address })),
      routes: [],
      dns: {},
    }
  },
  async del(call, { kernel }) {
    if (call.netns === '' || netnsProblem(call.netns) !== undefined) return
    const owner = `loopback ${call.containerId}`
    demand(await kernel.release(owner, loopbackOps(call.netns, owner, false)))
  },
  check(call) {
    const problem = netnsProblem(call.netns)
    return problem === undefined ? Promise.resolve() : Promise.reject(new CniError(cniCode.generic, problem))
  },
}

const plugins: Readonly<Record<string, Plugin>> = { flannel, bridge, 'host-local': hostLocal, portmap, loopback }

const ipamOf = (conf: JsonObject): JsonObject => struct({ ipam: object })(conf, 'NetConf').ipam ?? {}

function prevResultOf(call: CniCall): CniResult | undefined {
  const { prevResult } = struct({ prevResult: object })(call.conf, 'NetConf')
  return prevResult && parseResult(prevResult, call.version)
}

function requirePrevResult(call: CniCall): CniResult {
  const prev = prevResultOf(call)
  if (!prev)
    throw new CniError(cniCode.generic, call.command === 'CHECK' ? 'Required prevResult missing' : 'must be called as chained plugin')
  return prev
}
