/** What is wrong with the agent of this node, and what it says itself. */
import type { Finding } from '#model/cluster.ts'
import type { Diagnosis } from '#model/doctor.ts'
import { findingTable } from '#model/findings.ts'
import { diagnosis } from '#plan/doctor/diagnosis.ts'
import type { Facts } from '#plan/doctor/facts.ts'
import type { Place } from '#plan/doctor/place.ts'

export function agentDown({ agent: { state, process }, cluster }: Facts, { node }: Place): Diagnosis[] {
  if (state === 'answers') return []
  const subject = `node ${node}`
  if (process) {
    return [
      diagnosis('agent-stopped', {
        subject,
        where: `process ${process.pid}`,
        text: `The agent (process ${process.pid}) ${process.stopped ? 'is stopped by a signal' : 'runs, and does not answer on its socket'}`,
        remedy: process.stopped ? 'Let it go on.' : 'End it: its pod starts it again, and what is programmed stays.',
        fix: [`kill -${process.stopped ? 'CONT' : 'KILL'} ${process.pid}`],
      }),
    ]
  }
  const set = cluster?.agents
  const pod = set?.pods.find((one) => one.node === node)
  return [
    diagnosis('agent-not-running', {
      subject,
      where: 'the socket of the agent',
      text: pod
        ? `No agent answers, although pod ${set!.namespace}/${pod.name} is to run it`
        : 'No agent answers, and no process of it is to be seen',
      remedy: set
        ? `See kubectl -n ${set.namespace} describe ds ${set.name}, and the log of its pod on this node.`
        : 'Install it: twill manifest | kubectl apply -f -',
      fix: pod ? [`kubectl -n ${set!.namespace} delete pod ${pod.name}`] : [],
    }),
  ]
}

/** The agent's own findings, but those that `known` (found by the doctor itself, with their commands) covers. */
export function agentsWord({ status }: Facts, known: readonly Finding[]): Diagnosis[] {
  if (!status) return []
  const seen = new Set(known.map(({ id }) => id))
  const said = status.findings
    .filter(({ id }) => !seen.has(id))
    .map((finding): Diagnosis => ({ ...finding, where: finding.subject, why: findingTable[finding.id]?.why ?? '', fix: [] }))
  if (status.agent.phase === 'serving' || said.length > 0) return said
  return [
    diagnosis('agent-waiting', {
      subject: `node ${status.node?.name ?? ''}`.trim(),
      where: 'the agent',
      text: status.agent.waitingFor ?? `The agent is ${status.agent.phase}`,
      remedy: 'If this stays for more than a minute, see its log.',
    }),
  ]
}

export function versionSkew({ status, version, cluster }: Facts, { node }: Place): Diagnosis[] {
  const set = cluster?.agents
  const old = set?.pods.filter(({ image }) => image !== set.image) ?? []
  const found: Diagnosis[] = []
  if (set && old.length > 0) {
    found.push(
      diagnosis('agent-version-skew', {
        severity: 'warning',
        subject: `daemonset ${set.namespace}/${set.name}`,
        where: old.map((pod) => `pod ${set.namespace}/${pod.name}`).join(', '),
        text: `${old.map((pod) => `${pod.node} runs ${pod.image}`).join(', ')}; the DaemonSet says ${set.image}`,
        remedy: 'Finish the roll-out: a new pod takes over what the old one programmed, and no connection is cut.',
        fix: [`kubectl -n ${set.namespace} delete pod ${old.map(({ name }) => name).join(' ')}`],
      }),
    )
  }
  if (status && status.agent.version !== version) {
    found.push(
      diagnosis('agent-version-skew', {
        severity: 'warning',
        subject: `node ${node}`,
        where: `process ${status.agent.pid} of the agent`,
        text: `The agent is version ${status.agent.version}, this command ${version}`,
        remedy: 'Let both be of one version: update the older.',
      }),
    )
  }
  return found
}
