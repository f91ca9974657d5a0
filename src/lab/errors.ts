/** What the lab's machines and its command can say has gone wrong. */
import { errorTable } from '#base/errors.ts'

export const labError = errorTable({
  ERR_LAB_NOT_ROOT: {
    text: (d: { uid: number }) => `The lab makes namespaces and cgroups, which takes root; this is user id ${d.uid}`,
    remedy: 'Run it as root: sudo make lab.',
  },
  ERR_LAB_COMMAND: {
    text: (d: { argv: readonly string[]; status: number; stderr: string }) =>
      `${d.argv.join(' ')} ${d.status < 0 ? 'could not be started' : `ended with status ${d.status}`}${d.stderr === '' ? '' : `: ${d.stderr}`}`,
    remedy: 'The text is that program’s own. If the kernel lacks the feature it names, the lab cannot run here.',
  },
  ERR_LAB_NAME: {
    text: (d: { name: string }) => `--name ${d.name}: a lab's name is 1 to 12 small letters and digits, a letter first`,
    remedy: 'Namespaces and cgroups are named after it; leave it out for the name twill.',
  },
  ERR_LAB_OPTION: {
    text: (d: { option: string; found: string; allowed: string }) => `${d.option} ${JSON.stringify(d.found)}: allowed is ${d.allowed}`,
    remedy: 'twill lab up --help lists the options with their defaults.',
  },
  ERR_LAB_BACKEND: {
    text: (d: { backend: string; said: string }) => `--backend ${JSON.stringify(d.backend)} is refused by twill manifest: ${d.said}`,
    remedy: 'docs/backends.md lists the backends there are, with their keys.',
  },
  ERR_LAB_BUSY: {
    text: (d: { lab: string; holder: string }) => `Lab ${d.lab} is being changed by another command (${d.holder})`,
    remedy: 'Wait for it to end, or stop it with Ctrl-C; what it leaves is cleared by the next up or down.',
  },
  ERR_LAB_DOWN: {
    text: (d: { lab: string }) => `Lab ${d.lab} is not running`,
    remedy: 'Start it: make lab, or twill lab up.',
  },
  ERR_LAB_NODE: {
    text: (d: { node: string; nodes: readonly string[] }) => `No node ${d.node} in this lab; its nodes are ${d.nodes.join(', ')}`,
    remedy: 'Name one of them.',
  },
  ERR_LAB_NODE_DEAD: {
    text: (d: { node: string }) => `Node ${d.node} is dead: its pid 1 is gone`,
    remedy: 'Start the lab anew: twill lab up.',
  },
  ERR_LAB_PART: {
    text: (d: { part: string; parts: readonly string[] }) => `No part ${d.part} in this lab; its parts are ${d.parts.join(', ')}`,
    remedy: 'Name one of them; twill lab status lists them with the node they run on.',
  },
  ERR_LAB_NODE_INIT: {
    text: (d: { node: string; log: string }) => `Node ${d.node} could not be made:\n${d.log}`,
    remedy: 'The last line is the step that failed (lab/node-init.sh).',
  },
  ERR_LAB_PART_DIED: {
    text: (d: { part: string; waitingFor: string; log: string }) =>
      `${d.part} ended while the lab waited for ${d.waitingFor}. Its last lines:\n${d.log}`,
    remedy: 'The whole log: twill lab logs PART.',
  },
  ERR_LAB_TIMEOUT: {
    text: (d: { waitingFor: string; seconds: number; last: string }) =>
      `Waited ${d.seconds} s for ${d.waitingFor}${d.last === '' ? '' : `; last seen: ${d.last}`}`,
    remedy: 'twill lab status shows which part is not alive, twill lab logs PART what it said.',
  },
  ERR_LAB_STORY: {
    text: (d: { node: string; line: string; expected: string }) => `On ${d.node}, "${d.line}" did not show what it should: ${d.expected}`,
    remedy: 'The lab runs on: look with bin/twill lab ssh NODE, bin/twill lab exec NODE -- twill status, bin/twill lab logs PART.',
  },
  ERR_LAB_CAPTURE: {
    text: (d: { node: string; dev: string; said: string }) => `tcpdump on ${d.dev} of ${d.node} saw no packet: ${d.said}`,
    remedy: 'The packet took another way or was lost before: bin/twill lab exec NODE -- twill status tells what is missing.',
  },
  ERR_LAB_APPLY: {
    text: (d: { object: string; status: number; message: string }) =>
      `The API server did not take ${d.object} (${d.status === 0 ? 'no answer' : d.status}): ${d.message}`,
    remedy: 'twill lab logs control-plane shows what it said.',
  },
  ERR_LAB_PROGRAMS: {
    text: (d: { missing: readonly string[]; packages: readonly string[] }) =>
      `This machine lacks programs that the lab starts: ${d.missing.join(', ')} (Debian packages: ${d.packages.join(', ')})`,
    remedy: 'make lab installs them; or install the packages, then run this again.',
  },
  ERR_LAB_KUBECTL: {
    text: (d: { path: string }) => `TWILL_KUBECTL=${d.path} is no kubectl 1.30 or later`,
    remedy:
      'Name one by its path; none tells the story without it; build passes over an installed one; unset, the lab finds or builds its own.',
  },
  ERR_LAB_CGROUP: {
    text: () => 'No cgroup2 tree is mounted (looked in /proc/self/mountinfo)',
    remedy: 'Mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified.',
  },
  ERR_LAB_STUCK: {
    text: (d: { lab: string; what: string }) => `Lab ${d.lab} could not be removed wholly: ${d.what} is left`,
    remedy: 'Processes in state D hold it; run twill lab down again once they are gone.',
  },
  ERR_LAB_NO_COMPILER: {
    text: (d: { program: string; tried: readonly string[] }) =>
      `dist/${d.program} is not built and there is no C compiler to build it (tried ${d.tried.join(', ')})`,
    remedy: 'make lab installs one (musl-tools); or apt-get install musl-tools.',
  },
})
