/**
 * Masquerade and forward rules: Flannel's, in our own table. Flannel has two sets of them, for iptables and for nftables, which
 * differ in two places; a cluster that moves to Twill keeps the one that it had.
 *
 *     rule  iptables mode                              nftables mode (EnableNFTables)
 *     1     mark 0x4000 among others: return           mark exactly 0x4000: return       (kube-proxy masquerades it)
 *     2     own subnet → network: return               same                              (pods see each other's addresses)
 *     3     network → own subnet: return               same
 *     4     not network → own subnet: return           not own subnet → network: return
 *     5     network → not multicast: masquerade        same                              (pods to the world)
 *     6     not network → network: masquerade          same, but rule 4 leaves it nothing
 *
 * Rule 4 of nftables mode is wider: there a host address that peers have no route to does not reach remote pods.
 * @module
 */
import type { Item } from '#model/kernel.ts'
import { familyOf } from '#net/ip.ts'
import { chain, tableItem } from '#plan/table.ts'

export interface Masquerade {
  /** One entry a family of the pod network. `subnet` is this node's podCIDR, `network` the whole cluster's. */
  readonly networks: readonly { readonly network: string; readonly subnet: string }[]
  readonly ipMasq: boolean
  readonly forwardRules: boolean
  readonly randomFully: boolean
  readonly mode: 'iptables' | 'nftables'
}

const SERVICE_MARK = '0x00004000'
const words = { 4: { ip: 'ip', multicast: '224.0.0.0/4' }, 6: { ip: 'ip6', multicast: 'ff00::/8' } } as const

/** Items of owner `masq`; none if neither masquerade nor forward rules are wanted. */
export function masqItems({ networks, ipMasq, forwardRules, randomFully, mode }: Masquerade): Item[] {
  const masquerade = randomFully ? 'masquerade fully-random' : 'masquerade'
  const marked = mode === 'iptables' ? `meta mark & ${SERVICE_MARK} == ${SERVICE_MARK} return` : `meta mark ${SERVICE_MARK} return`
  const postrouting = networks.flatMap(({ network, subnet }) => {
    const { ip, multicast } = words[familyOf(network)]
    return [
      `${ip} saddr ${subnet} ${ip} daddr ${network} return`,
      `${ip} saddr ${network} ${ip} daddr ${subnet} return`,
      mode === 'iptables'
        ? `${ip} saddr != ${network} ${ip} daddr ${subnet} return`
        : `${ip} saddr != ${subnet} ${ip} daddr ${network} return`,
      `${ip} saddr ${network} ${ip} daddr != ${multicast} ${masquerade}`,
      `${ip} saddr != ${network} ${ip} daddr ${network} ${masquerade}`,
    ]
  })
  const forward = networks.flatMap(({ network }) => {
    const { ip } = words[familyOf(network)]
    return [`${ip} saddr ${network} accept`, `${ip} daddr ${network} accept`]
  })
  const items: Item[] = []
  if (ipMasq) {
    const base = { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' } as const
    items.push(chain('masq', [marked, ...postrouting], base))
  }
  if (forwardRules) items.push(chain('forward', forward, { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' }))
  return items.length === 0 ? [] : [tableItem, ...items]
}
