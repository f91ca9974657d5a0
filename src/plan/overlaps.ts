/**
 * Peers whose pod CIDRs lie over each other with different prefixes: the longer one would take packets that are meant for the other's
 * pods. The older node keeps its route, the newcomer gets none. (With one prefix it is one route, which two owners claim: desired.ts.)
 * In a cluster where all have one prefix, as kube-controller-manager hands them out, this costs nothing.
 * @module
 */
import { canonicalNetwork, contains, parseCidr, prefixOf } from '#net/ip.ts'

interface Holder {
  readonly subnet: string
  readonly since: string
}

export class Overlaps {
  readonly #of = new Map<string, Holder>()
  /** Who holds a network, by prefix and network. */
  readonly #byPrefix = new Map<number, Map<string, Set<string>>>()

  /** `node` is routed to by `subnet`, or not at all. @returns  The others whose pod CIDR lies over its former or its new one. */
  set(node: string, subnet: string | undefined, since = ''): Set<string> {
    const before = this.#of.get(node)
    if (before?.subnet === subnet && before?.since === since) return new Set()
    if (before) {
      const networks = this.#byPrefix.get(prefixOf(before.subnet))!
      const nodes = networks.get(before.subnet)!
      nodes.delete(node)
      if (nodes.size === 0) networks.delete(before.subnet)
      if (networks.size === 0) this.#byPrefix.delete(prefixOf(before.subnet))
      this.#of.delete(node)
    }
    if (subnet !== undefined) {
      const networks = this.#byPrefix.get(prefixOf(subnet)) ?? new Map<string, Set<string>>()
      this.#byPrefix.set(prefixOf(subnet), networks.set(subnet, (networks.get(subnet) ?? new Set()).add(node)))
      this.#of.set(node, { subnet, since })
    }
    return new Set([before?.subnet, subnet].flatMap((one) => (one === undefined ? [] : this.#over(one))))
  }

  /** The older node whose pod CIDR lies over that of `node`. */
  olderThan(node: string): string | undefined {
    const own = this.#of.get(node)
    if (!own) return undefined
    const rank = (name: string): string => `${this.#of.get(name)!.since} ${name}`
    return this.#over(own.subnet).find((other) => rank(other) < rank(node))
  }

  #over(subnet: string): string[] {
    const prefix = prefixOf(subnet)
    const wide = parseCidr(subnet)!
    return [...this.#byPrefix].flatMap(([other, networks]) => {
      if (other === prefix) return []
      if (other < prefix) return [...(networks.get(canonicalNetwork(`${subnet.slice(0, subnet.indexOf('/'))}/${other}`)!) ?? [])]
      return [...networks].flatMap(([network, nodes]) => (contains(wide, parseCidr(network)!) ? [...nodes] : []))
    })
  }
}
