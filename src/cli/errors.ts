/** What an operator's command can run into. */
import { errorTable } from '#base/errors.ts'

export const cliError = errorTable({
  ERR_NO_AGENT: {
    text: (d: { socket: string; code: string }) => `No agent answers on ${d.socket}: ${d.code}`,
    remedy:
      'Run this as root on a node whose agent runs (in the lab: twill lab exec NODE -- twill status), or name its socket with --socket.',
  },
  ERR_AGENT_ANSWER: {
    text: (d: { path: string; status: number; body: string }) => `The agent answered ${d.path} with status ${d.status}: ${d.body}`,
    remedy: "See the agent's log. If agent and command are of different versions, restart the agent.",
  },
  ERR_NOT_BUILT: {
    text: (d: { path: string }) => `${d.path} is not there`,
    remedy: 'Run `make setup` in the repository.',
  },
})
