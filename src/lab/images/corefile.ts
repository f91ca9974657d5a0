/**
 * The lines of a Corefile that the lab's coredns heeds: zones and port of the server block, kubernetes (zones, ttl, pods), forward, health,
 * ready. Plugins it knows and needs nothing of (errors, cache, loop, reload, loadbalance, prometheus) are accepted; others are refused by name.
 * @module
 */
export interface Corefile {
  readonly port: number
  readonly zone: string
  readonly ttl: number
  readonly forward: readonly string[]
  readonly healthPort: number | undefined
  readonly readyPort: number | undefined
}

const ignored = [
  'errors',
  'cache',
  'loop',
  'reload',
  'loadbalance',
  'prometheus',
  'log',
  'lameduck',
  'pods',
  'fallthrough',
  'ttl',
  'max_concurrent',
  'prefer_udp',
  'policy',
  'disable',
]

/** @throws {Error} naming the first line it cannot heed. */
export function parseCorefile(text: string): Corefile {
  const lines = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '' && line !== '}')
    .map((line) => line.replace(/\s*\{$/, '').split(/\s+/))
  const find = (word: string): string[] | undefined => lines.find(([first]) => first === word)
  const known = ['kubernetes', 'forward', 'health', 'ready', ...ignored]
  const unknown = lines.find(([word], i) => i > 0 && !known.includes(word!))
  if (unknown) throw new Error(`Corefile: the lab's coredns has no plugin "${unknown[0]}"; it has kubernetes, forward, health, ready`)
  const portOf = (word: string, standard: number): number | undefined => {
    const line = find(word)
    return line && Number(line[1]?.replace(/^.*:/, '') ?? standard)
  }
  return {
    port: Number(/:(\d+)$/.exec(lines[0]?.[0] ?? '')?.[1] ?? 53),
    zone:
      find('kubernetes')
        ?.slice(1)
        .find((zone) => !zone.endsWith('.arpa'))
        ?.replace(/\.$/, '') ?? 'cluster.local',
    ttl: Number(find('ttl')?.[1] ?? 5),
    forward: find('forward')?.slice(2) ?? [],
    healthPort: portOf('health', 8080),
    readyPort: portOf('ready', 8181),
  }
}

/** What kubeadm installs. */
export const stockCorefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`
