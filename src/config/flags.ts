/**
 * Every flag of the agent in one table: parser, environment, --help and docs/flags.md all read it.
 * The first part is flanneld's (v0.28.9), with its names and defaults; flags marked `own` are Twill's.
 * @module
 */

export type FlagType = 'string' | 'bool' | 'int' | 'list'

export interface Flag {
  readonly type: FlagType
  readonly default: string | boolean | number | readonly string[]
  readonly help: string
  /** Twill's own, unknown to flanneld. */
  readonly own?: true
  /** Never printed or logged. */
  readonly secret?: true
  /** Integers: smallest and largest value that is accepted. */
  readonly min?: number
  readonly max?: number
  /** Accepted so that a flanneld command line works as it is, without effect here. */
  readonly ignored?: string
}

const ETCD = 'etcd leases are not there yet'
const KLOG = 'klog only'

export const flags = {
  'etcd-endpoints': {
    type: 'string',
    default: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    help: 'a comma-delimited list of etcd endpoints',
    ignored: ETCD,
  },
  'etcd-prefix': { type: 'string', default: '/coreos.com/network', help: 'etcd prefix', ignored: ETCD },
  'etcd-keyfile': { type: 'string', default: '', help: 'key file of the etcd client', ignored: ETCD },
  'etcd-certfile': { type: 'string', default: '', help: 'certificate file of the etcd client', ignored: ETCD },
  'etcd-cafile': { type: 'string', default: '', help: 'certificate authority file for etcd', ignored: ETCD },
  'etcd-username': { type: 'string', default: '', help: 'user name for etcd', ignored: ETCD },
  'etcd-password': { type: 'string', default: '', help: 'password for etcd', secret: true, ignored: ETCD },
  iface: {
    type: 'list',
    default: [],
    help: 'interface (name or address) for traffic between nodes; may be given several times, the first match wins',
  },
  'iface-regex': {
    type: 'list',
    default: [],
    help: 'regular expression on addresses, then names; tried after every --iface; may be repeated',
  },
  'iface-can-reach': { type: 'string', default: '', help: 'take the interface that the route to this address uses' },
  'subnet-file': { type: 'string', default: '/run/flannel/subnet.env', help: 'where the CNI plugin reads the lease' },
  'public-ip': { type: 'string', default: '', help: 'IPv4 address that other nodes reach this node at' },
  'public-ipv6': { type: 'string', default: '', help: 'IPv6 address that other nodes reach this node at' },
  'subnet-lease-renew-margin': { type: 'int', default: 60, min: 1, max: 1439, help: 'minutes before the end of an etcd lease to renew it' },
  'ip-masq': { type: 'bool', default: false, help: 'masquerade traffic that leaves the pod network' },
  'ip-masq-fully-random-disable': { type: 'bool', default: false, help: 'masquerade without fully random source ports' },
  'kube-subnet-mgr': { type: 'bool', default: false, help: 'take leases from the Kubernetes nodes instead of etcd' },
  'kube-api-url': {
    type: 'string',
    default: '',
    help: 'address of the Kubernetes API server, in place of the one from the kubeconfig or the pod',
  },
  'kube-annotation-prefix': { type: 'string', default: 'flannel.alpha.coreos.com', help: 'prefix of the node annotations' },
  'kubeconfig-file': { type: 'string', default: '', help: 'kubeconfig; default: the service account of the pod' },
  'net-config-path': { type: 'string', default: '/etc/kube-flannel/net-conf.json', help: 'the network configuration' },
  'set-node-network-unavailable': {
    type: 'bool',
    default: true,
    help: 'set NetworkUnavailable to False on the node when the network is up',
  },
  'healthz-ip': { type: 'string', default: '0.0.0.0', help: 'address of the health server' },
  'healthz-port': { type: 'int', default: 0, min: 0, max: 65535, help: 'port of the health server; 0 turns it off' },
  'iptables-resync': {
    type: 'int',
    default: 5,
    min: 1,
    max: 86400,
    help: 'seconds between checks of firewall rules',
    ignored: 'changes are noticed as they happen',
  },
  'iptables-forward-rules': { type: 'bool', default: true, help: 'accept forwarded traffic of the pod network' },
  'ip-blackhole-route': { type: 'bool', default: false, help: 'blackhole route for addresses of the own pod CIDR that no pod has' },
  version: { type: 'bool', default: false, help: 'print the version and exit' },
  v: { type: 'int', default: 0, min: 0, max: 2 ** 31 - 1, help: 'log level: 0 info, 2 and above debug' },
  vmodule: { type: 'string', default: '', help: 'log level by file', ignored: KLOG },
  log_backtrace_at: { type: 'string', default: '', help: 'stack trace when logging hits file:N', ignored: KLOG },

  services: { type: 'bool', default: false, own: true, help: 'serve services (in place of kube-proxy)' },
  'run-dir': {
    type: 'string',
    default: '/run/twill',
    own: true,
    help: 'sockets of `twill status` and the CNI shim, its delete queue and journal',
  },
  cni: { type: 'bool', default: true, own: true, help: 'answer CNI requests and write the conflist when ready' },
  'cni-conf-dir': { type: 'string', default: '/etc/cni/net.d', own: true, help: 'where the conflist is written' },
  'cni-conf-file': { type: 'string', default: '10-flannel.conflist', own: true, help: 'name of the conflist' },
  'cni-conf-source': {
    type: 'string',
    default: '/etc/kube-flannel/cni-conf.json',
    own: true,
    help: 'content of the conflist; the stock one if there is no such file',
  },
  'resync-seconds': { type: 'int', default: 300, min: 1, max: 86400, own: true, help: 'seconds between full comparisons with the kernel' },
} as const satisfies Record<string, Flag>

export type FlagName = keyof typeof flags

interface ValueOf {
  string: string
  bool: boolean
  int: number
  list: readonly string[]
}

/** The value of every flag, by its name on the command line. */
export type Flags = { readonly [N in FlagName]: ValueOf[(typeof flags)[N]['type']] }

export const flagEntries = Object.entries(flags) as readonly (readonly [FlagName, Flag])[]

/** FLANNELD_ETCD_ENDPOINTS for etcd-endpoints. */
export const envName = (flag: string): string => `FLANNELD_${flag.toUpperCase().replaceAll('-', '_')}`
