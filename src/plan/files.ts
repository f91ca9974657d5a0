/** Files that are contracts with others, byte for byte. */
import { addToIp, formatIp, parseCidr, prefixOf } from '#net/ip.ts'

/** The lease as the CNI plugin reads it. */
export function subnetEnv(o: { network: string; subnet: string; mtu: number; ipMasq: boolean }): string {
  const first = formatIp(addToIp(parseCidr(o.subnet)!.bytes, 1)!)
  return [
    `FLANNEL_NETWORK=${o.network}`,
    `FLANNEL_SUBNET=${first}/${prefixOf(o.subnet)}`,
    `FLANNEL_MTU=${o.mtu}`,
    `FLANNEL_IPMASQ=${o.ipMasq}`,
    '',
  ].join('\n')
}

/** cni-conf.json of Flannel's manifest, and with it 10-flannel.conflist. */
export const STOCK_CONFLIST = `${JSON.stringify(
  {
    name: 'cbr0',
    cniVersion: '0.3.1',
    plugins: [
      { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  },
  null,
  2,
)}\n`
