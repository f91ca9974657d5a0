/**
 * One plugin call, answered: which name does what for which command. The runtime drives the chain (lo; flannel, portmap);
 * flannel → bridge → host-local is in here.
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
  parseFlannelConf,
  removeScratch,
  requireOurDelegate,
  saveScratch,
} from '#cni/flannel.ts'
import type { HostPorts } from '#cni/hostports.ts'
import type { Caller, PodKernel, RemoveReferenceRules } from '#cni/kernel.ts'
import { demand, isAmong, type Network, netnsProblem, podNameOf, requireNetns } from '#cni/network.ts'
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
}

/** Carries out `call`. The text goes to stdout; DEL and CHECK have none. */
export async function callPlugin(call: CniCall, context: PluginContext, caller: Caller): Promise<string> {
  const plugin = plugins[call.plugin]!
  switch (call.command) {
    case 'ADD':
      return printResult(await plugin.add(call, context, caller), call.version)
    case 'DEL':
      await plugin.del?.(call, context)
      return ''
    case 'CHECK':
      await plugin.check?.(call, context)
      return ''
    case 'STATUS':
      plugin.status?.(call, context)
      return ''
    case 'GC':
      await collect(call, plugin, context)
      return ''
    default:
      throw new CniError(cniCode.invalidEnvironment, `unknown CNI_COMMAND: ${call.command}`)
  }
}

interface Plugin {
  add(call: CniCall, context: PluginContext, caller: Caller): Promise<CniResult>
  del?(call: CniCall, context: PluginContext): Promise<void>
  check?(call: CniCall, context: PluginContext): Promise<void>
  /** @throws {CniError} 50 while ADD could not be served. */
  status?(call: CniCall, context: PluginContext): void
  /** Takes back what is not `valid`. */
  gc?(call: CniCall, context: PluginContext, valid: readonly Owner[]): Promise<void>
}

const readValid = struct({ 'cni.dev/valid-attachments': list(struct({ containerID: text, ifname: text })) })

/** An absent list says nothing and nothing goes; an empty one says that nothing is valid. */
async function collect(call: CniCall, plugin: Plugin, context: PluginContext): Promise<void> {
  const listed = readValid(call.conf, 'NetConf')['cni.dev/valid-attachments']
  const valid = listed?.map(({ containerID, ifname }) => ({ containerId: containerID ?? '', ifname: ifname ?? '' }))
  if (valid) await plugin.gc?.(call, context, valid)
}

const flannel: Plugin = {
  async add(call, { network, flannel: paths }, caller) {
    const conf = parseFlannelConf(call.conf, paths)
    const content = delegateConf(call, conf, loadSubnetEnv(conf.subnetFile))
    const delegate = JSON.parse(content) as JsonObject
    requireOurDelegate(delegate)
    try {
      return await network.add(call, delegate, caller, () => saveScratch(conf.dataDir, call.containerId, content))
    } catch (error) {
      removeScratch(conf.dataDir, call.containerId)
      throw error
    }
  },
  async del(call, context) {
    const { flannel: paths } = context
    const conf = parseFlannelConf(call.conf, paths)
    const delegate = loadScratch(conf.dataDir, call.containerId) ?? fallbackConf(call, conf)
    requireOurDelegate(delegate)
    await detach(call, ipamOf(delegate), context)
    removeScratch(conf.dataDir, call.containerId)
  },
  check(call, { network, flannel: paths }) {
    const conf = parseFlannelConf(call.conf, paths)
    const delegate = loadScratch(conf.dataDir, call.containerId) ?? fallbackConf(call, conf)
    return network.check(call, delegate, () => requirePrevResult(call))
  },
  status(call, { flannel: paths }) {
    const { subnetFile } = parseFlannelConf(call.conf, paths)
    try {
      loadSubnetEnv(subnetFile)
    } catch (error) {
      throw error instanceof CniError ? new CniError(cniCode.notAvailable, error.message, error.details) : error
    }
  },
  async gc(call, { network, hostPorts, flannel: paths }, valid) {
    const conf = parseFlannelConf(call.conf, paths)
    await network.collect(call.network, ipamOf(fallbackConf(call, conf)), valid, (a) => hostPorts.remove(a))
    for (const { containerId, delegate } of allScratch(conf.dataDir)) {
      if (delegate?.name === call.network && valid.every((one) => one.containerId !== containerId)) removeScratch(conf.dataDir, containerId)
    }
  },
}

const bridge: Plugin = {
  add: (call, { network }, caller) => network.add(call, call.conf, caller),
  del: (call, context) => detach(call, ipamOf(call.conf), context),
  check: (call, { network }) => network.check(call, call.conf, () => requirePrevResult(call)),
  gc: (call, { network, hostPorts }, valid) => network.collect(call.network, ipamOf(call.conf), valid, (a) => hostPorts.remove(a)),
}

/** The interface goes, and what leads there: a runtime that does not name a pod's ports again at DEL never asks portmap for it. */
async function detach(call: CniCall, ipam: JsonObject, { network, hostPorts, removeReferenceRules }: PluginContext): Promise<void> {
  await hostPorts.remove(call)
  if (!network.has(call)) await removeReferenceRules(call)
  await network.del(call, ipam)
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
