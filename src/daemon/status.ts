/** What the agent says about itself, as documents: `twill status` and `twill plan` print them. */
import { release } from 'node:os'
import { VERSION } from '#base/version.ts'
import type { Agent } from '#daemon/agent.ts'
import { show } from '#model/kernel.ts'
import type { PlanDocument, StatusDocument } from '#model/status.ts'
import type { PlannedOp } from '#plan/desired.ts'

const RECENT_REPAIRS = 20

export function statusOf(agent: Agent): StatusDocument {
  const { phase, waitingFor, startMs, plans, steward, kernel, node } = agent
  return {
    kind: 'TwillStatus',
    version: 1,
    agent: {
      version: VERSION,
      pid: process.pid,
      phase,
      ...(waitingFor && { waitingFor: waitingFor.text }),
      uptimeSeconds: Math.round(process.uptime()),
      ...(startMs !== undefined && { startMs }),
    },
    ...(node && { node: { name: node.name, internalIPs: node.internalIPs } }),
    ...(plans && leaseOf(agent)),
    peers: [...(plans?.peers.values() ?? [])].toSorted((a, b) => (a.node < b.node ? -1 : 1)),
    findings: agent.findings,
    objects: steward?.desired.counts() ?? {},
    pods: agent.door?.count() ?? 0,
    services: agent.parts.flags.services,
    repairs: repairsOf(agent),
    kernel: { release: release(), mutations: kernel?.mutations ?? 0, features: kernel?.features ?? [], refused: steward?.failing ?? [] },
    api: apiOf(agent),
  }
}

function leaseOf({ plans, backend, announcer }: Agent): Pick<StatusDocument, 'lease' | 'interface' | 'backend'> {
  const { self } = plans!
  const { name, address, mtu, why, publicIp } = self.uplink
  const device = backend.device(self.family)
  return {
    lease: { network: self.network, subnet: self.subnet, publicIp, announced: announcer.done },
    interface: { name, address, mtu, why },
    backend: { type: backend.type, mtu: backend.mtu(self), ...(device !== undefined && { device, mac: self.mac }) },
  }
}

function repairsOf({ steward }: Agent): StatusDocument['repairs'] {
  return {
    total: steward?.journal.total ?? 0,
    byKind: steward?.journal.byKind ?? {},
    recent: steward?.journal.recent.slice(-RECENT_REPAIRS) ?? [],
    contested: (steward?.feuds ?? []).map(({ key, times, by, delayMs }) => ({ object: key, times, by, delaySeconds: delayMs / 1000 })),
  }
}

function apiOf({ parts }: Agent): StatusDocument['api'] {
  const { server, kinds } = parts.cluster.health
  const all = Object.values(kinds)
  const heard = all.flatMap((kind) => kind.lastContactMs ?? [])
  const error = all.find((kind) => kind.error !== undefined)?.error
  return {
    ...(server !== undefined && { server }),
    connected: all.length > 0 && all.every((kind) => kind.watching),
    ...(heard.length > 0 && { lastContactSeconds: Math.max(0, Math.round((parts.clock.now() - Math.min(...heard)) / 1000)) }),
    ...(error !== undefined && { error }),
  }
}

/** The dry run. Until the agent knows its lease there is nothing it would do. */
export async function planOf(agent: Agent): Promise<PlanDocument> {
  const ops = (await agent.steward?.plan()) ?? []
  const waiting = agent.waitingFor?.text
  return {
    kind: 'TwillPlan',
    version: 1,
    node: agent.node?.name ?? '',
    ...(waiting !== undefined && { waitingFor: waiting }),
    ops: ops.map(shown),
  }
}

const shown = ({ verb, item, reason }: PlannedOp): PlanDocument['ops'][number] => ({
  verb,
  object: show(item),
  ...(item.owner !== undefined && { owner: item.owner }),
  ...(reason !== undefined && { reason }),
})
