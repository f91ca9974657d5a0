/** What the node itself needs, whoever its peers are. */
import type { Flags } from '#config/flags.ts'
import { type Item, type RouteItem, TWILL_ROUTE_PROTOCOL } from '#model/kernel.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { subnetEnv } from '#plan/files.ts'

/** Worse than any that a person or the kernel chooses, so that cni0's own route to the same pod CIDR wins while it is there. */
const LAST_METRIC = 2 ** 31

/**
 * --ip-blackhole-route: a packet to an address of our pod CIDR that no pod has ends here, and does not follow the default route
 * out and back. Flannel's has no metric: beside cni0 the kernel refuses it, or, if it came first, it swallows what is for cni0.
 */
const blackholeRoute = (subnet: string): RouteItem => ({
  kind: 'route',
  dst: subnet,
  type: 'blackhole',
  metric: LAST_METRIC,
  protocol: TWILL_ROUTE_PROTOCOL,
})

/** Items of owner `node`. Layers of the diff put the file last: a reader of subnet.env finds the rest in place. */
export function nodeItems(self: Self, backend: Backend, flags: Pick<Flags, 'subnet-file' | 'ip-masq' | 'ip-blackhole-route'>): Item[] {
  const content = subnetEnv({ network: self.network, subnet: self.subnet, mtu: backend.mtu(self), ipMasq: flags['ip-masq'] })
  return [
    { kind: 'sysctl', path: self.family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding', value: '1' },
    ...backend.own(self),
    ...(flags['ip-blackhole-route'] ? [blackholeRoute(self.subnet)] : []),
    { kind: 'file', path: flags['subnet-file'], content, mode: 0o644 },
  ]
}
