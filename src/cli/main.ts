/**
 * `twill`, the operator's command. Exit status: 0 fine, 1 findings, 2 could not run.
 * Two commands are programs of their own, started without what this one loads: the agent (by bin/twill) and the lab.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command, Option } from 'commander'
import { messageOf, TwillError } from '#base/errors.ts'
import { printableJson, printableLines, printableValue } from '#base/printable.ts'
import { VERSION } from '#base/version.ts'
import { ask, DEFAULT_SOCKET } from '#cli/ask.ts'
import { bashCompletion } from '#cli/completion.ts'
import { cliError } from '#cli/errors.ts'
import { type Layout, STATE_FILE } from '#cli/machine/before.ts'
import { renderManifest } from '#cli/manifest.ts'
import { planExit, renderPlan } from '#cli/plan.ts'
import { renderStatus, statusExit } from '#cli/status.ts'
import { wantsColor } from '#cli/table.ts'
import type { Flags } from '#config/flags.ts'
import type { Kernel } from '#model/kernel.ts'
import type { PlanDocument, StatusDocument } from '#model/status.ts'

/** The repository, run from source (src/cli/) or from its bundle (dist/). */
const home = join(import.meta.dirname, import.meta.filename.endsWith('.ts') ? '../..' : '..')
/** A plugin holds host-local's lock for milliseconds. */
const FREE_PATIENCE_MS = 10_000
const print = (text: string): boolean => process.stdout.write(text)

interface Output {
  readonly socket: string
  readonly output?: 'json'
}

const program = new Command('twill')
  .description('A Kubernetes pod network: drop-in Flannel, and what it holds in the kernel, explained.')
  .version(VERSION)
  .enablePositionalOptions()
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))

const asking = (name: string, about: string): Command =>
  program
    .command(name)
    .description(about)
    .option('--socket <path>', "unix socket of this node's agent", DEFAULT_SOCKET)
    .addOption(new Option('-o, --output <form>', 'for programs').choices(['json']))

asking('status', "this node's lease, backend, interface, peers and faults (exit 1 if there are faults)").action(async (o: Output) => {
  const status = await ask<StatusDocument>(o.socket, '/status')
  const color = wantsColor(process.stdout, process.env)
  print(o.output === 'json' ? json(status) : renderStatus(printableValue(status), { color, width: process.stdout.columns ?? 120 }))
  process.exitCode = statusExit(status)
})

asking('plan', 'what the agent would change in the kernel now, without doing it (exit 1 if anything)').action(async (o: Output) => {
  const plan = await ask<PlanDocument>(o.socket, '/plan')
  print(o.output === 'json' ? json(plan) : renderPlan(printableValue(plan), { color: wantsColor(process.stdout, process.env) }))
  process.exitCode = planExit(plan)
})

asking('doctor', 'find what is wrong on this node, in the cluster and on the way to its peers, and print the fix (exit 1 if anything)')
  .option('--kubeconfig <file>', 'look at the cluster too (default: $KUBECONFIG)')
  .option('--fix', 'run the printed commands, after asking for each finding')
  .option('--yes', 'with --fix: do not ask')
  .action(async (o: Output & { kubeconfig?: string; fix?: true; yes?: true }) => {
    const { doctor, doctorExit, mend, renderDoctor } = await import('#cli/doctor/doctor.ts')
    const color = wantsColor(process.stdout, process.env)
    const progress = (text: string): void => void (process.stderr.isTTY && process.stderr.write(`${text}\n`))
    const look = () => doctor({ socket: o.socket, kubeconfig: o.kubeconfig ?? process.env.KUBECONFIG, progress })
    let found = await look()
    if (o.fix && (await mend(found, { yes: o.yes ?? false, print: (text) => void process.stderr.write(printableLines(text)) })) > 0)
      found = await look()
    print(o.output === 'json' ? json(found) : renderDoctor(printableValue(found), { color, width: process.stdout.columns ?? 120 }))
    process.exitCode = doctorExit(found)
  })

const ipam = program
  .command('ipam')
  .description('who has which address on this node, and what is wrong with that; needs no agent (exit 1 if anything)')
  .addOption(new Option('-o, --output <form>', 'for programs').choices(['json']))
  .action(async (o: Pick<Output, 'output'>) => {
    const [{ auditNode, ipamExit, renderIpam }, { nodePaths }] = await Promise.all([import('#cli/ipam.ts'), import('#cli/doctor/node.ts')])
    const audit = auditNode(nodePaths)
    print(o.output === 'json' ? json(audit) : renderIpam(audit, { color: wantsColor(process.stdout, process.env) }))
    process.exitCode = ipamExit(audit)
  })
ipam
  .command('free')
  .description('free the addresses that are reserved for no one, after asking (exit 1 if something is wrong afterwards)')
  .option('--yes', 'do not ask')
  .action(async (o: { yes?: true }) => {
    const [{ auditNode, freeLeaked, ipamExit }, { nodePaths }, { lockFile }, { systemClock }] = await Promise.all([
      import('#cli/ipam.ts'),
      import('#cli/doctor/node.ts'),
      import('#kernel/lock.ts'),
      import('#base/clock.ts'),
    ])
    const takeLock = (path: string) => lockFile(path, systemClock, FREE_PATIENCE_MS)
    const freed = await freeLeaked({ paths: nodePaths, takeLock, yes: o.yes ?? false, say })
    say(freed.length === 0 ? 'Nothing was freed.' : `Freed ${freed.join(', ')}.`)
    process.exitCode = ipamExit(auditNode(nodePaths))
  })

program
  .command('offload')
  .description('checksum offload of a device, on or off: what ethtool -K DEV tx-checksum-ip-generic does')
  .argument('<device>', 'flannel.1, …')
  .argument('<state>', 'on or off')
  .action(async (device: string, state: string) => {
    if (state !== 'on' && state !== 'off') program.error(`error: ${state} is neither on nor off`)
    const { setChecksumOffload } = await import('#kernel/offload.ts')
    await setChecksumOffload(device, state === 'on')
  })

program
  .command('manifest')
  .description('print the Kubernetes objects that install Twill')
  .option('--pod-cidr <cidr>', 'Network of net-conf.json', '10.244.0.0/16')
  .option('--backend <words>', 'Backend of net-conf.json: type, then KEY=VALUE…: "vxlan VNI=7", host-gw, vxlan-direct', 'vxlan')
  .option('--image <image>', 'image of agent and shim', `ghcr.io/twill-net/twill:${VERSION}`)
  .option('--iface <name>', 'interface between nodes; default: the one of the default route')
  .option('--services', 'serve services in place of kube-proxy', false)
  .option('--kube-api-url <url>', 'API server, where nothing serves its ClusterIP yet')
  .action((o: Parameters<typeof renderManifest>[0]) => {
    print(renderManifest(o))
  })

program
  .command('install-cni')
  .description('put the CNI shim in place of flannel, portmap and loopback (bridge and host-local only where absent)')
  .option('--bin-dir <path>', 'where the runtime looks for plugins', '/opt/cni/bin')
  .option('--shim <path>', 'the built shim', join(home, 'dist/shim/twill-cni'))
  .action(async ({ binDir, shim }: { binDir: string; shim: string }) => {
    const { installShim } = await import('#cni/install.ts')
    for (const { path, action, saved } of installShim(shim, binDir))
      print(`${path} ${action}${saved ? ` (the other one is ${saved})` : ''}\n`)
  })

program
  .command('install')
  .description('install Twill on a machine without DaemonSets: shim, net-conf.json, systemd unit; remembers what was there before')
  .argument('[agent-flags...]', 'flags of the agent, after --')
  .option('--node-name <name>', 'name of this Node in the cluster', hostname().toLowerCase())
  .option('--pod-cidr <cidr>', 'Network of net-conf.json, where there is no such file yet', '10.244.0.0/16')
  .option('--net-conf <file>', 'net-conf.json to install')
  .option('--bin-dir <path>', 'where the runtime looks for plugins', '/opt/cni/bin')
  .option('--shim <path>', 'the built shim', join(home, 'dist/shim/twill-cni'))
  .option('--no-start', 'do not start the agent')
  .option('--dry-run', 'only print what would be done')
  .action(async (flags: string[], o: InstallArguments) => {
    const { install } = await import('#cli/machine/install.ts')
    const { parseCommandLine } = await import('#config/parse.ts')
    await install({
      layout: layoutOf(parseCommandLine(flags, {}).flags, o.binDir),
      shim: o.shim,
      program: join(home, 'bin/twill'),
      nodeName: o.nodeName,
      agentFlags: flags,
      ...(o.netConf !== undefined && { netConf: readFileSync(o.netConf, 'utf8') }),
      podCidr: o.podCidr,
      start: o.start,
      dryRun: o.dryRun ?? false,
      openKernel,
      now: new Date(),
      say,
    })
  })

program
  .command('uninstall')
  .description('make this machine what it was before `twill install`; refuses while pods run')
  .option('--force', 'with pods running: they keep their network, and another portmap gets their hostPorts')
  .option('--dry-run', 'only print what would be done')
  .action(async (o: { force?: true; dryRun?: true }) => {
    const { uninstall } = await import('#cli/machine/uninstall.ts')
    await uninstall({ stateFile: STATE_FILE, force: o.force ?? false, dryRun: o.dryRun ?? false, openKernel, say })
  })

program
  .command('completion')
  .description('print shell completion')
  .argument('<shell>', 'bash')
  .action((shell: string) => {
    if (shell !== 'bash') program.error(`error: no completion for ${shell}; there is bash`)
    print(bashCompletion(program))
  })

// For help and completion only: bin/twill starts these two before this file is loaded.
for (const [name, about] of [
  ['agent', "the node agent, with flanneld's command line"],
  ['lab', 'three Kubernetes nodes on this machine'],
] as const) {
  program
    .command(name)
    .description(about)
    .helpOption(false)
    .argument('[words...]')
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (words: string[]) => runProgram(name, words))
}
/** Another program of this package, in this process. */
async function runProgram(name: 'agent' | 'lab', words: readonly string[]): Promise<void> {
  const bundle = join(home, `dist/${name}.mjs`)
  if (!existsSync(bundle)) throw cliError.ERR_NOT_BUILT({ path: bundle })
  process.argv.splice(1, Infinity, bundle, ...words)
  await import(pathToFileURL(bundle).href)
}

interface InstallArguments {
  readonly nodeName: string
  readonly podCidr: string
  readonly netConf?: string
  readonly binDir: string
  readonly shim: string
  readonly start: boolean
  readonly dryRun?: true
}

const layoutOf = (flags: Flags, binDir: string): Layout => ({
  binDir,
  runDir: flags['run-dir'],
  subnetFile: flags['subnet-file'],
  conflist: join(flags['cni-conf-dir'], flags['cni-conf-file']),
  netConf: flags['net-config-path'],
  unit: '/etc/systemd/system/twill.service',
  stateFile: STATE_FILE,
  cniStateDir: '/var/lib/cni',
})
const openKernel = async (): Promise<Kernel> => (await import('#kernel/linux.ts')).openLinux()
const say = (line: string): boolean => print(`${line}\n`)

const json = (value: object): string => `${printableJson(value, 2)}\n`

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(printableLines(`twill: ${messageOf(error)}\n${error instanceof TwillError ? `${error.remedy}\n` : ''}`))
  process.exitCode = 2
}
