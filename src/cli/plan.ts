/** `twill plan`: the agent's own planner against the kernel as it is now, printed and not carried out. */
import { painter } from '#cli/table.ts'
import type { PlanDocument } from '#model/status.ts'

/** 0 nothing to do, 1 something is. */
export const planExit = (plan: PlanDocument): 0 | 1 => (plan.ops.length > 0 || plan.waitingFor !== undefined ? 1 : 0)

export function renderPlan(plan: PlanDocument, o: { color: boolean }): string {
  const paint = painter(o.color)
  if (plan.waitingFor !== undefined) return `Nothing is planned yet on ${plan.node}: ${plan.waitingFor}\n`
  if (plan.ops.length === 0) return `The kernel of ${plan.node} holds what is wanted: nothing to do.\n`
  const lines = plan.ops.map(({ verb, object, owner, reason }) => {
    const line = verb === 'put' ? paint('green', `+ ${object}`) : paint('red', `- ${object}`)
    const aside = [owner, reason].filter((part) => part !== undefined).join('; ')
    return aside === '' ? line : `${line}  ${paint('dim', `(${aside})`)}`
  })
  const puts = plan.ops.filter(({ verb }) => verb === 'put').length
  return `${lines.join('\n')}\n${puts} to put, ${plan.ops.length - puts} to delete.\n`
}
