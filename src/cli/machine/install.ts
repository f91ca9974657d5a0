/**
 * `twill install`: Twill on a machine without DaemonSets. What was there before is remembered first, whole; then the shim takes the
 * plugins' places, net-conf.json and the systemd unit are written, and the agent is started. A second install only brings these up
 * to date.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import { cliError } from '#cli/errors.ts'
import { type Layout, recall, remember, store } from '#cli/machine/before.ts'
import { run } from '#cli/machine/run.ts'
import { unitText } from '#cli/machine/unit.ts'
import { installShim, planShim } from '#cni/install.ts'
import { parseNetConf } from '#config/net-conf.ts'
import { parseCommandLine } from '#config/parse.ts'
import { writeFileItem } from '#kernel/files.ts'
import type { FileItem, Kernel } from '#model/kernel.ts'
import { backends } from '#plan/backends/all.ts'

/** Where systemd is the manager that runs. */
export const SYSTEMD = '/run/systemd/system'

export interface InstallOptions {
  readonly layout: Layout
  readonly shim: string
  /** bin/twill of this installation, absolute. */
  readonly program: string
  readonly nodeName: string
  readonly agentFlags: readonly string[]
  /** Content of net-conf.json; absent: a file that is there stays. */
  readonly netConf?: string
  readonly podCidr: string
  readonly start: boolean
  readonly dryRun: boolean
  readonly openKernel: () => Promise<Kernel>
  readonly now: Date
  readonly say: (line: string) => void
}

/** @throws {TwillError} for bad flags of the agent, a bad net-conf.json, a shim that is not built, files that cannot be written. */
export async function install(o: InstallOptions): Promise<void> {
  const { layout, say } = o
  const command = [o.program, 'agent', ...agentFlags(o)]
  const files = plannedFiles(o, command)
  // What is wrong is better said now than by a service that starts again and again.
  parseCommandLine(command.slice(2), {})
  parseNetConf(files.find(({ path }) => path === layout.netConf)?.content ?? readFileSync(layout.netConf, 'utf8'), layout.netConf, backends)
  if (o.dryRun) {
    if (!recall(layout.stateFile)) say(`would write ${layout.stateFile}: what this machine is now`)
    for (const { path, action } of planShim(o.shim, layout.binDir)) say(`${path} ${action === 'current' ? action : `would be ${action}`}`)
    for (const file of files) say(`${file.path} ${isCurrent(file) ? 'current' : 'would be written'}`)
    say(startText(o, command, 'would run: '))
    return
  }
  const kernel = await o.openKernel()
  try {
    store(await remember(kernel, layout, o.now))
  } finally {
    await kernel.close()
  }
  for (const { path, action, saved } of installShim(o.shim, layout.binDir)) {
    say(`${path} ${action}${saved ? ` (the other one is ${saved})` : ''}`)
  }
  const changed = files.filter((file) => !isCurrent(file))
  for (const file of files) {
    if (changed.includes(file)) await writeFileItem(file)
    say(`${file.path} ${changed.includes(file) ? 'written' : 'current'}`)
  }
  if (existsSync(SYSTEMD)) {
    await run('systemctl', 'daemon-reload')
    if (o.start) {
      await run('systemctl', 'enable', 'twill.service')
      await run('systemctl', changed.length > 0 ? 'restart' : 'start', '--no-block', 'twill.service')
    }
  }
  say(startText(o, command, ''))
}

/** The agent's flags: those given, and where this layout differs from their defaults. */
function agentFlags({ agentFlags: given, layout }: InstallOptions): string[] {
  const has = (name: string): boolean => given.some((word) => new RegExp(`^--?${name}(=|$)`).test(word))
  const always = [
    ['kube-subnet-mgr', '--kube-subnet-mgr'],
    ['ip-masq', '--ip-masq'],
    ['net-config-path', `--net-config-path=${layout.netConf}`],
    ['run-dir', `--run-dir=${layout.runDir}`],
  ] as const
  return [...always.filter(([name]) => !has(name)).map(([, flag]) => flag), ...given]
}

function plannedFiles(o: InstallOptions, command: readonly string[]): FileItem[] {
  const { layout, netConf } = o
  const content = netConf ?? (existsSync(layout.netConf) ? undefined : stockNetConf(o.podCidr))
  const unit = unitText({ command, environment: { NODE_NAME: o.nodeName } })
  return [
    ...(content === undefined ? [] : [{ kind: 'file', path: layout.netConf, content, mode: 0o644 } as const]),
    ...(existsSync(SYSTEMD) ? [{ kind: 'file', path: layout.unit, content: unit, mode: 0o644 } as const] : []),
  ]
}

const stockNetConf = (podCidr: string): string =>
  `${JSON.stringify({ Network: podCidr, EnableNFTables: false, Backend: { Type: 'vxlan' } }, null, 2)}\n`

const isCurrent = ({ path, content }: FileItem): boolean => existsSync(path) && readFileSync(path, 'utf8') === content

function startText(o: InstallOptions, command: readonly string[], would: string): string {
  if (existsSync(SYSTEMD))
    return o.start ? `${would}systemctl enable --now twill.service` : 'start it with: systemctl enable --now twill.service'
  return `No systemd runs here. Start the agent with what starts your services:\n  NODE_NAME=${o.nodeName} ${command.map(shellWord).join(' ')}`
}

const shellWord = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)

/** Twill is installed here. @throws {TwillError} ERR_NOT_INSTALLED */
export function requireInstalled(stateFile: string): NonNullable<ReturnType<typeof recall>> {
  const before = recall(stateFile)
  if (!before) throw cliError.ERR_NOT_INSTALLED({ path: stateFile })
  return before
}
