/**
 * /run/flannel/subnet.env, by which the agent (or flanneld) tells the plugin its subnet. Read as Flannel's plugin reads it:
 * each line is split at its first `=`, nothing is trimmed, unknown keys pass.
 * @module
 */
import { CniError, cniCode } from '#cni/failure.ts'
import { canonicalNetwork, familyOf } from '#net/ip.ts'

export interface SubnetEnv {
  /** The cluster's networks and the node's subnets, masked, IPv4 before IPv6. */
  readonly networks: readonly string[]
  readonly subnets: readonly string[]
  readonly mtu: number
  readonly ipMasq: boolean
}

/** @throws {CniError} that says which keys are missing or which value is no CIDR or number. */
export function parseSubnetEnv(content: string, path: string): SubnetEnv {
  const env = new Map<string, string>()
  for (const line of content.split('\n')) {
    const equals = line.indexOf('=')
    if (equals > 0) env.set(line.slice(0, equals), line.slice(equals + 1).replace(/\r$/, ''))
  }
  const cidrs = (key: string): string[] =>
    [...new Set((env.get(key) ?? '').split(',').filter((one) => one !== ''))].map((one) => {
      const network = canonicalNetwork(one)
      if (network === undefined) throw new CniError(cniCode.generic, `${path}: ${key} is "${one}": expected a CIDR such as 10.244.1.1/24`)
      return network
    })
  const networks = [...cidrs('FLANNEL_NETWORK'), ...cidrs('FLANNEL_IPV6_NETWORK')]
  const subnets = [...cidrs('FLANNEL_SUBNET'), ...cidrs('FLANNEL_IPV6_SUBNET')]
  const mtu = env.get('FLANNEL_MTU')
  const missing = [
    ...(networks.length === 0 ? ['FLANNEL_NETWORK'] : []),
    ...(subnets.length === 0 ? ['FLANNEL_SUBNET'] : []),
    ...(mtu === undefined ? ['FLANNEL_MTU'] : []),
    ...(env.has('FLANNEL_IPMASQ') ? [] : ['FLANNEL_IPMASQ']),
  ]
  if (missing.length > 0) throw new CniError(cniCode.generic, `${path} is missing ${missing.join(', ')}`)
  if (!/^\d{1,10}$/.test(mtu!)) throw new CniError(cniCode.generic, `${path}: FLANNEL_MTU is "${mtu}": expected a number of bytes`)
  const byFamily = (list: string[]): string[] => list.toSorted((a, b) => familyOf(a) - familyOf(b))
  return { networks: byFamily(networks), subnets: byFamily(subnets), mtu: Number(mtu), ipMasq: env.get('FLANNEL_IPMASQ') === 'true' }
}
