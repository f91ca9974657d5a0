/** What can keep the agent from serving CNI at all; failures of single requests are CNI errors (failure.ts). @module */
import { errorTable } from '#base/errors.ts'

export const cniError = errorTable({
  ERR_CNI_SOCKET_BUSY: {
    text: (d: { path: string }) => `Cannot serve CNI on ${d.path}: another agent answers there`,
    remedy: 'One agent runs on a node. Stop the other one (kubectl -n kube-flannel get pod -owide), or give this one another --run-dir.',
  },
  ERR_SHIM_MISSING: {
    text: (d: { path: string }) => `Cannot install the CNI plugins: ${d.path} is no Twill CNI shim`,
    remedy: 'Build it with make -C shim; in an image it belongs into dist/shim.',
  },
})
