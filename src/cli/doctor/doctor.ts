/**
 * `twill doctor`: looks at this node, its agent, the cluster and the peers, and says what is wrong, why it matters and how to mend it.
 * Facts are gathered here, judged in plan/doctor/, and printed. Exit status: 0 fine, 1 findings, 2 could not run.
 * @module
 */
import { spawn } from 'node:child_process'
import { confirmed } from '#cli/confirm.ts'
import { askCluster } from '#cli/doctor/api.ts'
import { lookAround, routesTo } from '#cli/doctor/node.ts'
import { probeForwarding, probePeers } from '#cli/doctor/probe.ts'
import { cliError } from '#cli/errors.ts'
import { painter, wrap } from '#cli/table.ts'
import type { Diagnosis, DoctorDocument } from '#model/doctor.ts'
import { examine } from '#plan/doctor/checks.ts'
import type { Facts } from '#plan/doctor/facts.ts'
import { sourcesOf } from '#plan/doctor/kernel.ts'
import { placeOf } from '#plan/doctor/place.ts'

export interface DoctorOptions {
  readonly socket: string
  readonly kubeconfig?: string | undefined
  /** Told of what takes long. */
  readonly progress: (text: string) => void
}

/** Gathers, judges, reports. @throws {TwillError} when this node cannot be looked at. */
export async function doctor(o: DoctorOptions): Promise<DoctorDocument> {
  const uid = process.getuid?.() ?? 0
  if (uid !== 0) throw cliError.ERR_DOCTOR_NOT_ROOT({ uid })
  const [local, told] = await Promise.all([lookAround({ socket: o.socket }), o.kubeconfig ? askCluster(o.kubeconfig) : {}])
  const known: Facts = { ...local, ...told, probes: [] }
  const place = placeOf(known)
  const routes = await routesTo(sourcesOf(place))
  const probes = await probePeers(known, place, o.progress)
  const forwarding = await probeForwarding(known, place)
  const facts: Facts = { ...known, kernel: { ...known.kernel, routes }, probes, ...(forwarding && { forwarding }) }
  return {
    kind: 'TwillDoctor',
    version: 1,
    node: place.node,
    looked: { kernel: true, agent: facts.status !== undefined, cluster: facts.cluster !== undefined, peers: facts.probes.length },
    findings: examine(facts),
  }
}

export const doctorExit = (document: DoctorDocument): 0 | 1 => (document.findings.length > 0 ? 1 : 0)

/** The page for people. `width` is the terminal's, in columns. */
export function renderDoctor({ node, findings, looked }: DoctorDocument, o: { color: boolean; width: number }): string {
  const paint = painter(o.color)
  const seen = [
    'kernel and files',
    looked.agent ? 'the agent' : '',
    looked.cluster ? 'the cluster' : '',
    looked.peers > 0 ? `${looked.peers} peer${looked.peers > 1 ? 's' : ''}` : '',
  ].filter((part) => part !== '')
  const scope = paint('dim', `Looked at: ${seen.join(', ')}.${looked.cluster ? '' : ' For the cluster, give --kubeconfig.'}`)
  if (findings.length === 0) return `${paint('bold', node)}: ${paint('green', 'nothing is wrong')}\n${scope}\n`
  const parts = findings.map((finding) => renderFinding(finding, o))
  const count = findings.length === 1 ? '1 finding' : `${findings.length} findings`
  return `${paint('bold', node)}: ${paint('red', count)}\n\n${parts.join('\n\n')}\n\n${scope}\n`
}

function renderFinding({ id, severity, subject, where, text, why, remedy, fix }: Diagnosis, o: { color: boolean; width: number }): string {
  const paint = painter(o.color)
  const lines = [
    `${paint(severity === 'error' ? 'red' : 'yellow', severity)} ${paint('bold', id)} (${subject})`,
    wrap(`${text}.`, o.width, '  '),
    ...(where === subject ? [] : [wrap(`where: ${where}`, o.width, '  ')]),
    ...(why === '' ? [] : [wrap(`why: ${why}`, o.width, '  ')]),
    wrap(remedy, o.width, '  → ').replaceAll('\n  → ', '\n    '),
    // Whole lines, however wide the terminal: they are there to be copied.
    ...fix.map((command) => `      ${paint('green', command)}`),
  ]
  return lines.join('\n')
}

/**
 * Asks about each finding that has commands (or, with `yes`, does not), and runs them by `sh -c`: they are our own words.
 * @returns  How many findings were mended.
 */
export async function mend(document: DoctorDocument, o: { yes: boolean; print: (text: string) => void }): Promise<number> {
  let mended = 0
  for (const { id, subject, fix } of document.findings) {
    if (fix.length === 0) continue
    o.print(`\n${id} (${subject})\n${fix.map((command) => `  ${command}\n`).join('')}`)
    if (!o.yes && !(await confirmed('Run this?'))) continue
    let status = 0
    for (const command of fix) {
      status = await shell(command)
      if (status !== 0) break
    }
    if (status === 0) mended++
    else o.print(`  ended with status ${status}; the rest of it is not run\n`)
  }
  return mended
}

/** Its output goes to stderr: stdout is the report's. */
function shell(command: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', command], { stdio: ['ignore', process.stderr, process.stderr] })
    child.once('error', reject).once('exit', (code) => resolve(code ?? 1))
  })
}
