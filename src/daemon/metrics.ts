/**
 * What the agent counts, in the text format of Prometheus (version 0.0.4): made from the same document as `twill status`, so the two
 * never disagree. Served on /metrics beside /healthz, and on the status socket. One prefix, base units.
 * @module
 */
import { printable } from '#base/printable.ts'
import type { StatusDocument } from '#model/status.ts'

export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** Series of faulty objects at most, and letters of a name: what others wrote must not fill whoever collects this. */
const LIMITS = { faults: 100, letters: 120 }

interface Sample {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

export function metricsOf(status: StatusDocument): string {
  const { agent, findings, objects, repairs, kernel, api } = status
  const by = (label: string, counts: Readonly<Record<string, number>>): Sample[] =>
    Object.entries(counts).map(([name, value]) => ({ labels: { [label]: name }, value }))
  const ids = Map.groupBy(findings, ({ id, severity }) => `${id} ${severity}`)
  const faults = new Map(findings.slice(0, LIMITS.faults).map(({ id, subject }) => [`${id} ${subject}`, { id, subject }]))
  return [
    family('twill_build_info', 'gauge', 'The running version; always 1.', [{ labels: { version: agent.version }, value: 1 }]),
    family('twill_ready', 'gauge', '1 while pods can come.', [{ value: Number(agent.phase === 'serving') }]),
    family('twill_uptime_seconds', 'gauge', 'Since the agent was started.', [{ value: agent.uptimeSeconds }]),
    family('twill_api_connected', 'gauge', '1 while the API server is heard.', [{ value: Number(api.connected) }]),
    family('twill_peers', 'gauge', 'Other nodes that announce themselves.', [{ value: status.peers.length }]),
    family('twill_pods', 'gauge', 'Pod interfaces in place.', [{ value: status.pods }]),
    family('twill_objects', 'gauge', 'Objects kept in the kernel.', by('kind', objects)),
    family('twill_kernel_changes_total', 'counter', 'Mutating messages sent to the kernel.', [{ value: kernel.mutations }]),
    family('twill_kernel_refused', 'gauge', 'Operations that the kernel refused in the last pass.', [{ value: kernel.refused.length }]),
    family('twill_repairs_total', 'counter', 'Objects that others changed, put right.', by('kind', repairs.byKind)),
    family(
      'twill_findings',
      'gauge',
      'What is wrong now, by id (twill status has the text and the remedy).',
      [...ids.values()].map((of) => ({ labels: { id: of[0]!.id, severity: of[0]!.severity }, value: of.length })),
    ),
    family(
      'twill_faulty_object',
      'gauge',
      `The object that a finding is about; always 1. The first ${LIMITS.faults} only.`,
      [...faults.values()].map(({ id, subject }) => ({ labels: { id, subject }, value: 1 })),
    ),
  ].join('')
}

function family(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): string {
  const lines = samples.map(({ labels = {}, value }) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${labelValue(text)}"`)
    return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`
  })
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines].map((line) => `${line}\n`).join('')
}

/** Backslash and quote as the format has them; what a terminal would act on, as everywhere. */
const labelValue = (text: string): string => printable(text.slice(0, LIMITS.letters)).replace(/["\\]/g, '\\$&')
