/** What can be wrong with the configuration. Every text names the key, what was found and what is allowed. */
import { errorTable } from '#base/errors.ts'

const list = (problems: readonly string[]): string => (problems.length === 1 ? problems[0]! : problems.map((p) => `\n  ${p}`).join(''))

export const configError = errorTable({
  ERR_FLAGS: {
    text: (d: { problems: readonly string[] }) => `Bad command line or environment: ${list(d.problems)}`,
    remedy: 'Correct it, or run `twill agent --help` for every flag with its type and default.',
  },
  ERR_ETCD_MODE: {
    text: (d: { endpoints: string }) =>
      `Leases from etcd (${d.endpoints}) are not there yet in this version of Twill: without --kube-subnet-mgr there is nothing to read them from`,
    remedy: 'Add --kube-subnet-mgr, so that leases come from the Kubernetes nodes, or keep Flannel on clusters that use etcd.',
  },
  ERR_NET_CONF_READ: {
    text: (d: { path: string }) => `Cannot read the network configuration ${d.path}`,
    remedy: 'Mount the ConfigMap kube-flannel-cfg at /etc/kube-flannel, or name the file with --net-config-path.',
  },
  ERR_NET_CONF: {
    text: (d: { path: string; problems: readonly string[] }) => `Network configuration ${d.path}: ${list(d.problems)}`,
    remedy:
      'Correct what is named. On a cluster that is net-conf.json in the ConfigMap kube-flannel-cfg; then restart the DaemonSet (kubectl -n kube-flannel rollout restart ds).',
  },
  ERR_BACKEND_TO_COME: {
    text: (d: { type: string; available: readonly string[] }) =>
      `Backend.Type "${d.type}" is a Flannel backend that this version of Twill does not have yet; it has: ${d.available.join(', ')}`,
    remedy: 'Set Backend.Type to one of those in net-conf.json, or keep Flannel on this cluster until the backend is there.',
  },
  ERR_FAMILY_TO_COME: {
    text: (_d: object) => 'EnableIPv6 is true, but this version of Twill carries pod networks over IPv4 only',
    remedy: 'Set EnableIPv6 to false (and EnableIPv4 to true) in net-conf.json, or keep Flannel on this cluster.',
  },
  ERR_ANNOTATION_PREFIX: {
    text: (d: { prefix: string; reason: string }) => `--kube-annotation-prefix "${d.prefix}": ${d.reason}`,
    remedy: 'Give a domain name with at least one dot, and at most one "/": flannel.alpha.coreos.com or example.com/net.',
  },
})
