/** Who of all agents tells of a fault that all of them see: those of the oldest nodes, without a word between them. */
import type { NodeRecord } from '#model/cluster.ts'
import { isManaged } from '#plan/leases.ts'

/** So that one or two may be down. Every one more is an Event more of each fault. */
const SPOKESMEN = 3

/** True if `own` is among the oldest nodes that have an agent. A Node that somebody makes up is young, and silences nobody. */
export function isSpokesman(own: NodeRecord, nodes: Iterable<NodeRecord>): boolean {
  let older = 0
  for (const node of nodes) {
    const before = node.created === own.created ? node.name < own.name : (node.created ?? '') < (own.created ?? '')
    if (before && isManaged(node) && ++older === SPOKESMEN) return false
  }
  return true
}
