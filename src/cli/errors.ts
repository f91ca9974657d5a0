/** What an operator's command can run into. */
import { errorTable } from '#base/errors.ts'

export const cliError = errorTable({
  ERR_NO_AGENT: {
    text: (d: { socket: string; found: string }) => `No agent answers on ${d.socket}: ${d.found}`,
    remedy:
      'Run this as root on a node whose agent runs (in the lab: twill lab exec NODE -- twill status), or name its socket with --socket. `twill doctor` needs no agent, and says whether it is gone or stopped.',
  },
  ERR_AGENT_ANSWER: {
    text: (d: { path: string; status: number; body: string }) => `The agent answered ${d.path} with status ${d.status}: ${d.body}`,
    remedy: "See the agent's log. If agent and command are of different versions, restart the agent.",
  },
  ERR_DOCTOR_NOT_ROOT: {
    text: (d: { uid: number }) => `twill doctor runs as uid ${d.uid}: it cannot look into the kernel and send probes`,
    remedy: 'Run it as root, on the node.',
  },
  ERR_FREE: {
    text: (d: { path: string }) => `Cannot delete ${d.path}`,
    remedy: 'Run this as root on the node, on a file system that can be written.',
  },
  ERR_NOT_BUILT: {
    text: (d: { path: string }) => `${d.path} is not there`,
    remedy: 'Run `make setup` in the repository.',
  },
  ERR_NOT_INSTALLED: {
    text: (d: { path: string }) => `There is no ${d.path}: Twill was not installed here by \`twill install\``,
    remedy: 'Where a DaemonSet runs Twill, delete that: see docs/migration.md.',
  },
  ERR_INSTALL_RECORD: {
    text: (d: { path: string }) => `${d.path}, which says what this machine was before, cannot be read`,
    remedy:
      'It is written whole or not at all: see who changed it. If it is lost, delete it, and take away by hand what docs/recovery.md lists.',
  },
  ERR_OTHER_PLACES: {
    text: (d: { what: string; asked: string; installed: string }) =>
      `Twill is installed here with ${d.what} ${d.installed}, and now ${d.asked} is asked for`,
    remedy: 'Run `twill uninstall` first, so that nothing is left behind at the old place.',
  },
  ERR_PODS_RUN: {
    text: (d: { count: number; addresses: string }) => `${d.count} addresses are held by pods: ${d.addresses}`,
    remedy: 'Drain the node first. With --force the pods keep their network, for the plugins that come next.',
  },
  ERR_AGENT_RUNS: {
    text: (d: { pid: number }) => `The agent still runs (process ${d.pid}): it would put everything back`,
    remedy: 'Stop it where it was started, then run this again.',
  },
  ERR_PROGRAM: {
    text: (d: { command: string; said: string }) => `\`${d.command}\` failed: ${d.said || 'it said nothing'}`,
    remedy: 'See what it said, mend that, and run the same command again: it goes on where it stopped.',
  },
})
