/** Why an agent cannot start. Whatever may pass by itself is waited for instead, and shown as a finding. */
import { errorTable } from '#base/errors.ts'

export const daemonError = errorTable({
  ERR_NODE_NAME: {
    text: (_d: object) => 'Cannot tell which node this is: neither NODE_NAME nor POD_NAME with POD_NAMESPACE is set',
    remedy: 'Set POD_NAME and POD_NAMESPACE by fieldRef as the manifest does, or NODE_NAME outside of a pod.',
  },
  ERR_LISTEN: {
    text: (d: { what: string; address: string; code: string }) => `Cannot listen for ${d.what} on ${d.address}: ${d.code}`,
    remedy: 'If the address is in use, another agent or program holds it: `ss -ltnp` shows which. Choose another by flag, or stop it.',
  },
  ERR_AGENT_RUNNING: {
    text: (d: { socket: string }) => `Another agent answers on ${d.socket}`,
    remedy: 'One agent runs on a node: stop the other first, or give this one a --run-dir of its own.',
  },
  ERR_PUBLIC_IP: {
    text: (d: { key: string; value: string }) => `${d.key} is ${JSON.stringify(d.value)}, allowed is an IPv4 address`,
    remedy: 'Correct the flag, or leave it out: the address of the chosen interface is announced then.',
  },
})
