/** Who of all agents tells of a fault that all of them see: two, so that one may be down, and the same two without a word between them. */
import type { NodeRecord } from '#model/cluster.ts'
import { isManaged } from '#plan/leases.ts'

const SPOKESMEN = 2

/** True if `own` is among those who speak for `subject`: of the nodes with an agent, those whose hash together with it is lowest. */
export function speaksFor(subject: string, own: string, nodes: Iterable<NodeRecord>): boolean {
  const mine = hash(`${subject}/${own}`)
  let before = 0
  for (const node of nodes) {
    if (node.name === own || !isManaged(node)) continue
    const theirs = hash(`${subject}/${node.name}`)
    if ((theirs < mine || (theirs === mine && node.name < own)) && ++before === SPOKESMEN) return false
  }
  return true
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value >>> 0
}
