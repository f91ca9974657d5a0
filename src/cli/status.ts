/** `twill status`: what this node's agent holds, and what is wrong with what to do about it. */
import { columns, painter, wrap } from '#cli/table.ts'
import type { PeerStatus, StatusDocument } from '#model/status.ts'

/** 0 fine, 1 findings. A node that waits has a finding that says for what. */
export const statusExit = (status: StatusDocument): 0 | 1 => (status.findings.length > 0 || status.agent.phase !== 'serving' ? 1 : 0)

/** The page for people. `width` is the terminal's, in columns. */
export function renderStatus(status: StatusDocument, o: { color: boolean; width: number }): string {
  const paint = painter(o.color)
  const facts = factsOf(status)
  const nameWidth = Math.max(...facts.map(([name]) => name.length))
  const phase = status.agent.phase === 'serving' ? paint('green', 'serving') : paint('yellow', status.agent.phase)
  const parts = [
    `${paint('bold', status.node?.name ?? 'this node')}: ${phase}`,
    facts.map(([name, value]) => `  ${name.padEnd(nameWidth)}  ${value}`).join('\n'),
  ]
  if (status.peers.length > 0) {
    const rows = status.peers.map((p) => [p.node, p.subnet, p.publicIp, p.backendType || '-', stateOf(p)])
    parts.push(columns(['PEER', 'POD CIDR', 'PUBLIC IP', 'BACKEND', 'STATE'], rows))
  }
  if (status.repairs.recent.length > 0) {
    const rows = status.repairs.recent.slice(-5).map((r) => [r.at, r.found, r.by ?? '-', r.op])
    const table = columns(['REPAIRED AT', 'FOUND', 'BY', 'WHAT'], rows)
    parts.push(
      table
        .split('\n')
        .map((line) => cut(line, o.width))
        .join('\n'),
    )
  }
  if (status.repairs.contested.length > 0) {
    const rows = status.repairs.contested.map((c) => [c.object, String(c.times), c.by.join(', ') || '-', `${c.delaySeconds}s`])
    parts.push(columns(['CONTESTED', 'TIMES', 'BY', 'PAUSE'], rows))
  }
  for (const { id, severity, subject, text, remedy } of status.findings) {
    const head = `${paint(severity === 'error' ? 'red' : 'yellow', severity)} ${id} (${subject})`
    parts.push(`${head}\n${wrap(text, o.width, '  ')}\n${wrap(remedy, o.width, '  → ').replaceAll('\n  → ', '\n    ')}`)
  }
  if (status.findings.length === 0) parts.push(paint('dim', 'Nothing is wrong.'))
  return `${parts.join('\n\n')}\n`
}

function stateOf({ objects, dev }: PeerStatus): string {
  if (objects === 0) return 'not served'
  return dev === undefined ? 'programmed' : `by ${dev}`
}

function factsOf(status: StatusDocument): [name: string, value: string][] {
  const { agent, node, lease, backend, kernel, api, repairs } = status
  const objects = Object.entries(status.objects).map(([kind, count]) => `${count} ${kind}`)
  return [
    ['agent', `twill ${agent.version}, pid ${agent.pid}, up ${duration(agent.uptimeSeconds)}${started(agent.startMs)}`],
    ...row('waiting for', agent.waitingFor),
    ...row('internal IP', node?.internalIPs.join(', ')),
    ...row('lease', lease && `${lease.subnet} of ${lease.network}, ${lease.announced ? 'announced' : 'not announced yet'}`),
    ...row(
      'interface',
      status.interface && `${status.interface.name}, ${status.interface.address}, MTU ${status.interface.mtu}: ${status.interface.why}`,
    ),
    ...row('public IP', lease?.publicIp),
    ...row('backend', backend && `${backend.type}${backend.device ? `, ${backend.device} ${backend.mac}` : ''}, pod MTU ${backend.mtu}`),
    ['pods', String(status.pods)],
    ['objects', objects.join(', ') || 'none'],
    ['kernel', `${kernel.release}, ${kernel.mutations} changes sent, ${repaired(repairs)}`],
    ...kernel.features.map(({ what, present, otherwise }): [string, string] => ['', `${what}: ${present ? 'yes' : `no, ${otherwise}`}`]),
    ['API', `${api.server ?? 'not found yet'}, ${api.connected ? 'connected' : `not connected${api.error ? `: ${api.error}` : ''}`}`],
  ]
}

/** A rule of nftables is longer than any terminal is wide. */
const cut = (line: string, width: number): string => (line.length > width ? `${line.slice(0, width - 1)}…` : line)

const row = (name: string, value: string | undefined): [string, string][] => (value ? [[name, value]] : [])
const started = (ms: number | undefined): string => (ms === undefined ? '' : `, data plane verified ${ms} ms after exec`)

/** `3 repaired: 2 route, 1 nft-table`. */
const repaired = ({ total, byKind }: StatusDocument['repairs']): string => {
  const kinds = Object.entries(byKind).map(([kind, count]) => `${count} ${kind}`)
  return `${total} repaired${kinds.length > 0 ? `: ${kinds.join(', ')}` : ''}`
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}
