/**
 * `twill uninstall`: the machine as it was before `twill install`. What was there then is wanted, all else of ours is not: the same
 * difference and the same executor as the agent's.
 *
 * Pods that run need what Twill made for them. With --force it stays (devices, routes, addresses), another maker's plugins get their
 * places back, and the reference portmap writes the pods' hostPorts into its own rules before our table goes.
 * @module
 */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { ask } from '#cli/ask.ts'
import { cliError } from '#cli/errors.ts'
import { type Before, type Layout, networksIn, observeMachine } from '#cli/machine/before.ts'
import { requireInstalled, SYSTEMD } from '#cli/machine/install.ts'
import { run, runWith } from '#cli/machine/run.ts'
import { readHostPorts } from '#cni/hostports.ts'
import { isOurShim, uninstallShim } from '#cni/install.ts'
import { type Item, type Kernel, type Op, showOp } from '#model/kernel.ts'
import type { PodPorts } from '#model/pod.ts'
import type { StatusDocument } from '#model/status.ts'
import { parseIp } from '#net/ip.ts'
import { Desired } from '#plan/desired.ts'

export interface UninstallOptions {
  readonly stateFile: string
  readonly force: boolean
  readonly dryRun: boolean
  readonly openKernel: () => Promise<Kernel>
  readonly say: (line: string) => void
}

/** @throws {TwillError} ERR_NOT_INSTALLED, ERR_PODS_RUN, ERR_AGENT_RUNS; the first that the kernel refuses */
export async function uninstall(o: UninstallOptions): Promise<void> {
  const before = requireInstalled(o.stateFile)
  const { layout } = before
  const held = addressesHeld(layout)
  if (held.length > 0 && !o.force) throw cliError.ERR_PODS_RUN({ count: held.length, addresses: held.slice(0, 5).join(', ') })
  const keepPods = held.length > 0
  const hasUnit = existsSync(layout.unit) && existsSync(SYSTEMD)
  const ports = keepPods ? readHostPorts(`${layout.runDir}/hostports`) : []
  const kernel = await o.openKernel()
  try {
    if (o.dryRun) {
      if (hasUnit) o.say('would run: systemctl disable --now twill.service')
      for (const op of plan(before, await observeMachine(kernel, layout), keepPods)) o.say(`would ${showOp(op)}`)
      o.say(`would take the shim out of ${layout.binDir}`)
      return
    }
    if (hasUnit) await run('systemctl', 'disable', '--now', 'twill.service')
    await requireNoAgent(`${layout.runDir}/agent.sock`)
    uninstallShim(layout.binDir)
    for (const each of ports) await giveBack(each, before, o.say)
    const ops = plan(before, await observeMachine(kernel, layout), keepPods)
    for (const { op, error } of await kernel.apply(ops)) {
      if (error) throw error
      o.say(showOp(op))
    }
    if (hasUnit) await run('systemctl', 'daemon-reload')
  } finally {
    await kernel.close()
  }
  removeState(before, keepPods)
  o.say(keepPods ? 'Done. The pods that run keep their devices and addresses for the plugins that come next.' : 'Done.')
}

/** From what there is to what there was. Where pods stay, only our table and our own files go. */
function plan({ items, layout }: Before, now: readonly Item[], keepPods: boolean): Op[] {
  const desired = new Desired()
  const goes = (item: Item): boolean =>
    item.kind.startsWith('nft-') || (item.kind === 'file' && (item.path === layout.unit || item.path === layout.conflist))
  const files = items.filter((item) => item.kind === 'file')
  const kept = keepPods ? [...now.filter((item) => !goes(item)), ...files] : items
  desired.setOwner('before', kept)
  return desired.planAgainst(now, () => true)
}

/** Addresses that host-local's files hold: each is a pod that runs, as far as anyone knows. */
const addressesHeld = (layout: Layout): string[] =>
  networksIn(layout).flatMap((network) =>
    readdirSync(`${layout.cniStateDir}/networks/${network}`).filter((name) => parseIp(name) !== undefined),
  )

/** An agent that runs on would put everything back. */
async function requireNoAgent(socket: string): Promise<void> {
  if (!existsSync(socket)) return
  const status = await ask<StatusDocument>(socket, '/status').catch(() => undefined)
  if (status) throw cliError.ERR_AGENT_RUNS({ pid: status.agent.pid })
}

/** Has the reference portmap make its rules for one pod, so that it can take them away at the pod's DEL. */
async function giveBack(ports: PodPorts, { layout }: Before, say: (line: string) => void): Promise<void> {
  const plugin = `${layout.binDir}/portmap`
  const list = ports.mappings.map(({ hostPort, protocol }) => `${hostPort}/${protocol}`).join(', ')
  if (!existsSync(plugin) || isOurShim(plugin)) {
    say(`hostPorts ${list} of ${ports.podName ?? ports.containerId} end here: there is no other portmap in ${layout.binDir}`)
    return
  }
  const { network, containerId, ifname, addresses, masquerade } = ports
  const netns = netnsOf(`${layout.runDir}/attachments/${containerId}-${ifname}.json`)
  const conf = {
    cniVersion: '0.3.1',
    name: network,
    type: 'portmap',
    snat: masquerade !== 'none',
    masqAll: masquerade === 'all',
    runtimeConfig: {
      portMappings: ports.mappings.map(({ hostIp, ...rest }) => ({ ...rest, ...(hostIp !== undefined && { hostIP: hostIp }) })),
    },
    prevResult: {
      cniVersion: '0.3.1',
      interfaces: [{ name: ifname, sandbox: netns }],
      ips: addresses.map((address) => ({ version: address.includes(':') ? '6' : '4', interface: 0, address })),
    },
  }
  const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: ifname, CNI_PATH: layout.binDir }
  await runWith({ stdin: JSON.stringify(conf), env }, plugin)
  say(`hostPorts ${list} of ${ports.podName ?? containerId} are given to ${plugin}`)
}

/** The pod's namespace as the runtime named it; portmap needs only that there is a name. */
function netnsOf(path: string): string {
  if (!existsSync(path)) return '/var/run/netns/gone'
  return (JSON.parse(readFileSync(path, 'utf8')) as { attachment: { netns: string } }).attachment.netns
}

/** Our own files, and the directories that were not there before and have nothing of others in them; the record last of all. */
function removeState({ layout, absentDirs, networks }: Before, keepPods: boolean): void {
  rmSync(layout.runDir, { recursive: true, force: true })
  for (const network of keepPods ? [] : networksIn(layout)) {
    // host-local's book-keeping: the lock, and the address given last.
    if (!networks.includes(network)) rmSync(`${layout.cniStateDir}/networks/${network}`, { recursive: true })
  }
  for (const dir of absentDirs.toReversed()) removeIfEmpty(dir)
  rmSync(layout.stateFile, { force: true })
  removeIfEmpty(dirname(layout.stateFile))
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EBUSY') throw error
  }
}
