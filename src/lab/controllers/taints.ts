/** Taints and tolerations, node selectors and node affinity: which node may hold which pod. Pure. Source: k8s.io/component-helpers/scheduling. */
import { matches, requirementsOf } from '#lab/control/selectors.ts'
import type { Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration } from '#lab/controllers/objects.ts'

/** True if `toleration` lets a pod live with `taint`; an empty key with Exists tolerates all, an empty effect every effect. */
export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false
  if (toleration.key && toleration.key !== taint.key) return false
  if (toleration.operator === 'Exists') return true
  return Boolean(toleration.key) && (toleration.value ?? '') === (taint.value ?? '')
}

/** The first taint of `node` with one of `effects` that `tolerations` do not cover. */
export function untolerated(
  node: Node,
  tolerations: readonly Toleration[] | undefined,
  effects: readonly Taint['effect'][],
): Taint | undefined {
  return (node.spec?.taints ?? []).find(
    (taint) => effects.includes(taint.effect) && !tolerations?.some((toleration) => tolerates(toleration, taint)),
  )
}

/** nodeSelector and required node affinity. */
export function nodeMatches(spec: PodSpec, node: Node): boolean {
  const labels = node.metadata.labels ?? {}
  if (Object.entries(spec.nodeSelector ?? {}).some(([key, value]) => labels[key] !== value)) return false
  const terms = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms
  return !terms || terms.some((term) => termMatches(term, node))
}

/** All requirements of one term; a term without any matches nothing. */
export function termMatches(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? []
  const fields = term.matchFields ?? []
  if (expressions.length + fields.length === 0) return false
  return holds(expressions, node.metadata.labels ?? {}) && holds(fields, { 'metadata.name': node.metadata.name })
}

const holds = (requirements: readonly NodeSelectorRequirement[], labels: Record<string, string>): boolean =>
  matches(requirementsOf({ matchExpressions: [...requirements] }), labels)
