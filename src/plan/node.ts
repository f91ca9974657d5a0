/** What the node itself needs, whoever its peers are. */
import type { Flags } from '#config/flags.ts'
import type { Item } from '#model/kernel.ts'
import type { Backend, Self } from '#plan/backends/backend.ts'
import { subnetEnv } from '#plan/files.ts'

/** Items of owner `node`. Layers of the diff put the file last: a reader of subnet.env finds the rest in place. */
export function nodeItems(self: Self, backend: Backend, flags: Pick<Flags, 'subnet-file' | 'ip-masq'>): Item[] {
  const content = subnetEnv({ network: self.network, subnet: self.subnet, mtu: backend.mtu(self), ipMasq: flags['ip-masq'] })
  return [
    { kind: 'sysctl', path: self.family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding', value: '1' },
    ...backend.own(self),
    { kind: 'file', path: flags['subnet-file'], content, mode: 0o644 },
  ]
}
