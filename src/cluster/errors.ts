/** What can go wrong between the agent and the Kubernetes API. Callers match on `code`; `details.status` is the HTTP status. */
import { errorTable } from '#base/errors.ts'

export const clusterError = errorTable({
  ERR_NO_CLUSTER: {
    text: (d: { looked: string }) => `Found no way to the Kubernetes API: looked at ${d.looked}`,
    remedy: 'Run in a pod with a service account, or pass --kubeconfig-file (or KUBECONFIG), or --kube-api-url with one of these.',
  },
  ERR_KUBECONFIG: {
    text: (d: { file: string; field: string; found: string; allowed: string }) =>
      `Kubeconfig ${d.file}: ${d.field} is ${d.found}, it must be ${d.allowed}`,
    remedy: 'Correct the file; it is read again before the next attempt. `kubectl --kubeconfig FILE get nodes` tests it.',
  },
  ERR_CREDENTIAL_PLUGIN: {
    text: (d: { command: string; found: string }) => `Credential plugin ${d.command} gave no credential: ${d.found}`,
    remedy: 'Run the command of users[].user.exec by hand; it must print an ExecCredential with a status (client.authentication.k8s.io).',
  },
  ERR_API_UNREACHABLE: {
    text: (d: { server: string; request: string; found: string }) => `No answer from ${d.server} to ${d.request}: ${d.found}`,
    remedy:
      'Check that the address answers from this node (curl -k SERVER/version). In a pod the service address 10.96.0.1 needs a service proxy: pass --kube-api-url, or run Twill with services.',
  },
  ERR_API_UNAUTHORIZED: {
    text: (d: { request: string; status: number; message: string }) =>
      `The API server does not know us (401) at ${d.request}: ${d.message}`,
    remedy: 'The token or client certificate has expired or belongs to another cluster: renew it in the kubeconfig, or restart the pod.',
  },
  ERR_API_FORBIDDEN: {
    text: (d: { request: string; status: number; message: string }) => `The API server refuses ${d.request} (403): ${d.message}`,
    remedy: 'Apply the ClusterRole and ClusterRoleBinding of deploy/kube-flannel.yml: they list each rule with its reason.',
  },
  ERR_API_STATUS: {
    text: (d: { request: string; status: number; reason: string; message: string; retryAfterMs?: number }) =>
      `${d.request} was answered ${d.status} ${d.reason}: ${d.message}`,
    remedy: 'The message is the API server’s own; its log tells more.',
  },
  ERR_API_STALE: {
    text: (d: { request: string; found: string; known: string }) =>
      `${d.request} answered with resource version ${d.found}, and ${d.known} was known: nothing is removed for it`,
    remedy: 'One of several API servers may lag behind: the list is asked for again. After a restore from a backup the fourth is believed.',
  },
  ERR_API_ANSWER: {
    text: (d: { request: string; found: string; allowed: string }) => `${d.request}: found ${d.found} where ${d.allowed} is due`,
    remedy: 'Something else than a Kubernetes API server may answer at this address: check the server in the kubeconfig or --kube-api-url.',
  },
  ERR_API_EMPTY: {
    text: (d: { request: string }) => `${d.request}: found an empty list, at least one object is due`,
    remedy: 'Nothing is deleted on its word, and the list is asked for again. If it stays empty, look at the API server and its etcd.',
  },
  ERR_OBJECT_SHAPE: {
    text: (d: { object: string; field: string; found: string; allowed: string }) =>
      `${d.object}: ${d.field} is ${d.found}, it must be ${d.allowed}`,
    remedy: 'The object is skipped, what was known of it before is kept. Correct it with kubectl edit.',
  },
  ERR_POD_UNSCHEDULED: {
    text: (d: { pod: string }) => `Pod ${d.pod} has no spec.nodeName, so the name of this node is not known`,
    remedy: 'Set NODE_NAME from spec.nodeName (fieldRef), or check POD_NAME and POD_NAMESPACE.',
  },
})
