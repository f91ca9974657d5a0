/**
 * `twill lab`: three Kubernetes nodes on this machine. Exit status: 0 done, 2 could not; `exec` ends with its command's.
 * @module
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'
import { messageOf, TwillError } from '#base/errors.ts'
import { pidOf } from '#lab/alive.ts'
import { labError } from '#lab/errors.ts'
import { findKubectl } from '#lab/kubectl.ts'
import { lockLab } from '#lab/lock.ts'
import { lacking } from '#lab/needs.ts'
import { sweep } from '#lab/nodes/down.ts'
import { nodeEnvironment, onNode } from '#lab/nodes/enter.ts'
import { exitStatus, tryRun } from '#lab/nodes/run.ts'
import { isLabName, MAX_NODES, topology } from '#lab/nodes/topology.ts'
import { labEntry, nodeBinary, repo } from '#lab/repo.ts'
import { isAlive, type LabState, labNames, type NodeState, readState } from '#lab/state.ts'
import { bringUp, hostKubeconfig } from '#lab/up.ts'

const print = (text: string): boolean => process.stdout.write(`${text}\n`)
// Whoever reads us may have seen enough (`| head`): the work goes on.
process.stdout.on('error', () => {})

/** Runs one command of the lab. @returns the exit status. */
export async function runLab(argv: readonly string[]): Promise<number> {
  let status = 0
  const program = new Command('twill lab')
    .description(
      'Kubernetes nodes on this machine, three by default: real links, routes and packets in namespaces, a control plane beside them.',
    )
    .enablePositionalOptions()
    .exitOverride()
  const command = (name: string, about: string): Command =>
    program
      .command(name)
      .description(about)
      .addOption(new Option('--name <lab>', 'which lab, where several run').env('TWILL_LAB').default('twill'))

  command('up', 'build the lab and tell its story; an earlier one of this name is removed first')
    .option('--iface <name>', "--iface of the agents; '' leaves it out: the NAT trap", 'eth1')
    .option('--nodes <n>', `how many nodes, 1 to ${MAX_NODES}`, '3')
    .option('--segments <n>', '2: the last third of the nodes is on a second switch, behind a router', '1')
    .option('--backend <words>', 'as for twill manifest: vxlan, vxlan-direct, host-gw, "vxlan VNI=7 Port=4789"', 'vxlan')
    .option('--no-story', 'stop at a cluster without a pod network')
    .action(async ({ name, iface, story, backend, ...sizes }: UpOptions) => {
      const lab = labName(name)
      const nodes = inRange('--nodes', sizes.nodes, 1, MAX_NODES)
      const segments = inRange('--segments', sizes.segments, 1, Math.min(2, nodes))
      checkWords('--iface', iface, /^[\w.@:-]*$/, 'the name or address of an interface')
      checkWords('--backend', backend, /^[\w-]+( +\w+=\w+)*$/, 'a type, then KEY=VALUE…')
      needRoot()
      const missing = lacking()
      if (missing) throw labError.ERR_LAB_PROGRAMS(missing)
      if (story) await checkBackend(backend)
      using _ = await lockLab(lab, 'twill lab up')
      removeOnInterrupt(lab)
      const started = performance.now()
      const elapsed = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`
      const kubectl = await findKubectl(print)
      const state = await bringUp(topology(lab, { nodes, segments }), kubectl.path, (text) => print(`${elapsed().padStart(6)}  ${text}`))
      leaveOnInterrupt(state)
      if (story) {
        const { tellStory } = await import('#lab/story/story.ts')
        await tellStory(state, { iface, backend, ...(kubectl.path === undefined ? { noKubectl: kubectl.why } : {}) })
        print(`\nTold in ${elapsed()}.`)
      }
      print(howToGoOn(state))
    })
  command('down', 'remove every trace of the lab')
    .addOption(new Option('--interrupted', 'this ends an `up`').hideHelp())
    .action(async ({ name, interrupted }: { name: string; interrupted?: true }) => {
      needRoot()
      using _ = await lockLab(labName(name), 'twill lab down')
      await sweep(labName(name))
      print(interrupted ? `\nInterrupted. What was built of lab ${name} is removed.` : `lab ${name} is gone`)
      if (interrupted) status = 130
    })
  command('status', 'nodes and programs of the lab (exit 1 if one is dead)')
    .addOption(new Option('-o, --output <form>', 'for programs').choices(['json']))
    .action(({ name, output }: { name: string; output?: 'json' }) => {
      const state = running(name)
      const alive = (p: { pid: number; start: string }): boolean => isAlive(p)
      const view = {
        ...{ apiVersion: 'lab.twill/v1', kind: 'LabStatus', lab: state.lab, complete: state.complete, createdAt: state.createdAt },
        ...{ api: `https://127.0.0.1:${state.apiPort}`, kubeconfig: hostKubeconfig(state.lab) },
        nodes: state.nodes.map((n) => ({ name: n.name, ip: n.ip, pid: n.init.pid, alive: alive(n.init) })),
        parts: state.parts.map((part) => {
          const pid = pidOf(state, part)
          return { name: part.name, node: part.node ?? null, pid: pid ?? part.pid, alive: pid !== undefined, log: part.log }
        }),
      }
      if (output === 'json') print(JSON.stringify(view, null, 2))
      else {
        print(`lab ${view.lab}  api ${view.api}  kubeconfig ${view.kubeconfig}`)
        for (const n of view.nodes) print(`node  ${n.name.padEnd(8)} ${n.ip.padEnd(15)} pid ${n.pid}  ${n.alive ? 'alive' : 'DEAD'}`)
        for (const p of view.parts)
          print(`part  ${p.name.padEnd(15)} ${(p.node ?? '-').padEnd(8)} pid ${p.pid}  ${p.alive ? 'alive' : 'DEAD'}`)
      }
      status = [...view.nodes, ...view.parts].every((x) => x.alive) ? 0 : 1
    })
  command('kubeconfig', 'path of a kubeconfig for this machine').action(({ name }: { name: string }) => {
    print(hostKubeconfig(running(name).lab))
  })
  command('exec', 'run a command on a node; ends with its exit status')
    .passThroughOptions()
    .argument('<node>', 'k8s-ctr, k8s-w1, …')
    .argument('<command...>', 'after --')
    .action(async (node: string, words: string[], { name }: { name: string }) => {
      status = await inside(name, node, words[0] === '--' ? words.slice(1) : words)
    })
  command('ssh', 'a shell on a node')
    .argument('<node>', 'k8s-ctr, k8s-w1, …')
    .action(async (node: string, { name }: { name: string }) => {
      // A terminal born on the node: the caller's has no name there, and a shell on it no job control.
      const terminal = process.stdin.isTTY ? "script --quiet --return --command 'bash -l' /dev/null" : 'bash -l'
      status = await inside(name, node, ['sh', '-c', `cd; exec ${terminal}`])
    })
  command('logs', 'what a program of the lab has said')
    .argument('[part]', 'control-plane, internet, kubelet-k8s-w1, …')
    .action(async (part: string | undefined, { name }: { name: string }) => {
      const state = running(name)
      const found = state.parts.find((p) => p.name === part)
      if (!found) throw labError.ERR_LAB_PART({ part: part ?? '(none named)', parts: state.parts.map((p) => p.name) })
      if (found.name.startsWith('kubelet-')) status = await inside(name, found.node!, ['cat', '/var/log/kubelet.log'])
      else process.stdout.write(existsSync(found.log) ? readFileSync(found.log, 'utf8') : '')
    })

  try {
    await program.parseAsync(argv, { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    process.stderr.write(`twill lab: ${messageOf(error)}\n${error instanceof TwillError ? `${error.remedy}\n` : ''}`)
    return 2
  }
}

const interrupts = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Until the lab stands, Ctrl-C becomes `down`: this very process turns into it, so that nothing of `up` goes on beside it. */
function removeOnInterrupt(lab: string): void {
  const argv = [nodeBinary, '--disable-warning=ExperimentalWarning', labEntry, 'down', '--interrupted', '--name', lab]
  for (const signal of interrupts) process.once(signal, () => process.execve!(nodeBinary, argv, process.env as Record<string, string>))
}

/** Once it stands, Ctrl-C ends the story alone. */
function leaveOnInterrupt(state: LabState): void {
  for (const signal of interrupts) {
    process.removeAllListeners(signal)
    process.once(signal, () => {
      print(`\nThe story is interrupted.${howToGoOn(state)}`)
      process.exit(130)
    })
  }
}

/** What to type next. */
export function howToGoOn(state: LabState): string {
  const name = state.lab === 'twill' ? '' : ` --name ${state.lab}`
  const node = state.nodes.at(1)?.name ?? 'k8s-ctr'
  const lines: readonly (readonly [command: string, about: string])[] = [
    [`bin/twill lab ssh${name} k8s-ctr`, 'a shell on a node; kubectl is set up there'],
    [`export KUBECONFIG=$(bin/twill lab kubeconfig${name})`, 'kubectl from this machine'],
    [`bin/twill lab exec${name} ${node} -- twill status`, 'what the agent knows'],
    [name === '' ? 'make lab-down' : `bin/twill lab down${name}`, 'remove it'],
  ]
  const width = Math.max(...lines.map(([command]) => command.length))
  return ['', 'The lab runs on. To go on:', ...lines.map(([command, about]) => `  ${command.padEnd(width)}   ${about}`)].join('\n')
}

function labName(name: string): string {
  if (!isLabName(name)) throw labError.ERR_LAB_NAME({ name })
  return name
}

interface UpOptions {
  readonly name: string
  readonly iface: string
  readonly nodes: string
  readonly segments: string
  readonly backend: string
  readonly story: boolean
}

function inRange(option: string, found: string, min: number, max: number): number {
  const n = Number(found)
  if (!Number.isInteger(n) || n < min || n > max)
    throw labError.ERR_LAB_OPTION({ option, found, allowed: `an integer from ${min} to ${max}` })
  return n
}

/** The story types these words into a shell. */
function checkWords(option: string, found: string, pattern: RegExp, allowed: string): void {
  if (!pattern.test(found)) throw labError.ERR_LAB_OPTION({ option, found, allowed })
}

/** The product's own word on --backend, before anything is built or an earlier lab is removed. */
async function checkBackend(backend: string): Promise<void> {
  const { status, stderr } = await tryRun([`${repo}/bin/twill`, 'manifest', `--backend=${backend}`])
  if (status === 0) return
  // The last line is manifest's way out; ours is another.
  const lines = stderr
    .trim()
    .replace(/^twill: /, '')
    .split('\n')
  throw labError.ERR_LAB_BACKEND({ backend, said: lines.slice(0, Math.max(1, lines.length - 1)).join('\n') })
}

function needRoot(): void {
  const uid = process.getuid?.() ?? 0
  if (uid !== 0) throw labError.ERR_LAB_NOT_ROOT({ uid })
}

/** The running lab of that name. @throws {TwillError} ERR_LAB_DOWN */
function running(name: string): LabState {
  needRoot()
  const state = labNames().includes(labName(name)) ? readState(name) : undefined
  if (!state) throw labError.ERR_LAB_DOWN({ lab: name })
  return state
}

/** Runs `words` on a node with this terminal; gives their exit status. */
async function inside(name: string, nodeName: string, words: readonly string[]): Promise<number> {
  const state = running(name)
  const node: NodeState | undefined = state.nodes.find((n) => n.name === nodeName)
  if (!node) throw labError.ERR_LAB_NODE({ node: nodeName, nodes: state.nodes.map((n) => n.name) })
  if (!isAlive(node.init)) throw labError.ERR_LAB_NODE_DEAD({ node: nodeName })
  const [program, ...args] = onNode(state.lab, node, words)
  const child = spawn(program!, args, { stdio: 'inherit', env: nodeEnvironment(node.name), cwd: '/' })
  // Ctrl-C is for the command; this process ends when it does.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => signal === 'SIGINT' || child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(exitStatus(code, signal)))
  })
}
