/** What the probes towards the peers, and through FORWARD, have shown. */
import type { Diagnosis } from '#model/doctor.ts'
import { restarted } from '#plan/doctor/cluster.ts'
import { diagnosis, word } from '#plan/doctor/diagnosis.ts'
import type { Culprit, Facts, PeerProbe } from '#plan/doctor/facts.ts'
import type { Place } from '#plan/doctor/place.ts'

const VXLAN_OVERHEAD_BYTES = 50
const DEFAULT_PORT = 8472

/** One phrase that names who drops: `the policy of chain FORWARD (iptables, table filter)`. */
function named({ tool, family, table, chain, handle, base }: Culprit): string {
  const place = tool === 'nft' ? `nft, table ${family} ${table}` : `${tool}, table ${table}`
  const by = chain === base ? '' : `, called by ${base}`
  return `${handle === undefined && chain === base ? 'the policy' : 'a rule'} of chain ${chain}${by} (${place})`
}

/** Accepts ahead of what drops: for each match, `{ iptables, nft }` words. */
function accept(
  culprit: Culprit,
  matches: readonly { readonly iptables: string; readonly nft: string }[],
  programs: readonly string[],
): string[] {
  const { tool, family, table, base } = culprit
  if (tool === 'nft' || (tool === 'iptables' && !programs.includes('iptables-nft'))) {
    return matches.map(({ nft }) => `nft insert rule ${family} ${word(table)} ${word(base)} ${nft} accept`)
  }
  const program = tool === 'iptables' ? 'iptables-nft' : 'iptables-legacy'
  return matches.map(({ iptables }) => `${program} -t ${word(table)} -I ${word(base)} 1 ${iptables} -j ACCEPT`)
}

/** The firewall's own command, where the culprit is a known one's and its program is here. */
function ownWords({ chain, table }: Culprit, programs: readonly string[], o: { ufw: string; firewalld: string }): string[] | undefined {
  if (chain.startsWith('ufw-') && programs.includes('ufw')) return [o.ufw]
  if (table === 'firewalld' && programs.includes('firewall-cmd'))
    return [`firewall-cmd ${o.firewalld}`, `firewall-cmd --permanent ${o.firewalld}`]
  return undefined
}

export function forwardDrops({ forwarding, files: { programs } }: Facts, { node, network }: Place): Diagnosis[] {
  if (!forwarding || network === undefined) return []
  const culprits = new Map(forwarding.dropped.map((one) => [`${one.tool} ${one.family} ${one.table} ${one.base}`, one]))
  return [...culprits.values()].map((culprit) => {
    const directions = new Set(
      forwarding.dropped.filter(({ table, base }) => table === culprit.table && base === culprit.base).map((d) => d.direction),
    )
    const what = directions.size === 2 ? 'from and to pods' : directions.has('in') ? 'to pods' : 'from pods'
    const matches = [
      { iptables: `-s ${network}`, nft: `ip saddr ${network}` },
      { iptables: `-d ${network}`, nft: `ip daddr ${network}` },
    ]
    return diagnosis('forward-drop', {
      subject: `node ${node}`,
      where: `chain ${culprit.chain}, table ${culprit.family} ${culprit.table}`,
      text: `Packets ${what} are dropped by ${named(culprit)}`,
      remedy:
        'Accept the pod network ahead of it. To have it stay, tell the firewall itself: Docker keeps what is in DOCKER-USER, ufw has `ufw route allow`, firewalld zones.',
      fix:
        ownWords(culprit, programs, { ufw: `ufw route allow from ${network}`, firewalld: `--zone=trusted --add-source=${network}` }) ??
        accept(culprit, matches, programs),
    })
  })
}

/** Peers that are silent in the same way, and for the same reason, are one finding. */
export function silentPeers(facts: Facts, place: Place): Diagnosis[] {
  const silent = facts.probes.filter(({ tunnel }) => !tunnel)
  const groups = Map.groupBy(silent, (probe) => JSON.stringify([wayOf(probe), probe.culprits]))
  return [...groups.values()].map((probes) =>
    wayOf(probes[0]!) === 'peer-unreachable' ? unreachable(probes) : blocked(facts, place, probes),
  )
}

function wayOf({ underlay, out, in: back }: PeerProbe): 'peer-unreachable' | 'vxlan-blocked' | 'vxlan-blocked-in' | 'vxlan-blocked-out' {
  if (!underlay) return 'peer-unreachable'
  if (out === true && back !== true) return 'vxlan-blocked-in'
  return back === true && out !== true ? 'vxlan-blocked-out' : 'vxlan-blocked'
}

const list = (texts: readonly string[]): string => texts.join(', ')
const namesOf = (probes: readonly PeerProbe[]): string => list(probes.map(({ node }) => node))
const addressesOf = (probes: readonly PeerProbe[]): string => list(probes.map(({ publicIp }) => publicIp))

const unreachable = (probes: readonly PeerProbe[]): Diagnosis =>
  diagnosis('peer-unreachable', {
    subject: `peer ${namesOf(probes)}`,
    where: `the network between here and ${addressesOf(probes)}`,
    text: `No answer to a ping, neither at ${addressesOf(probes)} nor through the tunnel, from ${namesOf(probes)}`,
    remedy: `See whether it runs, and the cable, switch or routes between: ip route get ${probes[0]!.publicIp}`,
  })

function blocked({ files: { programs } }: Facts, { node, tunnel, uplink }: Place, probes: readonly PeerProbe[]): Diagnosis {
  const port = tunnel?.vxlan?.port || DEFAULT_PORT
  const id = wayOf(probes[0]!)
  const { culprits } = probes[0]!
  const dev = word(uplink?.name ?? '')
  const fix = culprits.flatMap((culprit) => {
    const leaving = culprit.hook === 'output' || culprit.hook === 'postrouting'
    const match = leaving
      ? { iptables: `-o ${dev} -p udp --dport ${port}`, nft: `oifname ${dev} udp dport ${port}` }
      : { iptables: `-i ${dev} -p udp --dport ${port}`, nft: `iifname ${dev} udp dport ${port}` }
    const own = { ufw: `ufw allow in on ${dev} to any port ${port} proto udp`, firewalld: `--add-port=${port}/udp` }
    return ownWords(culprit, programs, own) ?? accept(culprit, [match], programs)
  })
  const seen =
    id === 'vxlan-blocked'
      ? `UDP ${port} passes neither there nor back`
      : `UDP ${port} does not pass ${id === 'vxlan-blocked-in' ? 'from there' : 'to there'}, the other way it does`
  const here = culprits.length > 0 ? `; it is dropped here by ${culprits.map(named).join(' and by ')}` : ''
  return diagnosis(id, {
    subject: `peer ${namesOf(probes)}`,
    where:
      culprits.length > 0
        ? culprits.map(({ chain, family, table }) => `chain ${chain}, table ${family} ${table}`).join('; ')
        : `between ${node} and ${namesOf(probes)}`,
    text: `${addressesOf(probes)} answers a ping, but not through the tunnel: ${seen}${here}`,
    remedy:
      culprits.length > 0
        ? 'Accept tunnel packets ahead of it, and tell the firewall itself, so that it stays.'
        : `No rule of this machine drops it. Run \`twill doctor\` on ${namesOf(probes)}; if it finds nothing either, allow UDP ${port} between the nodes in the security group or on the firewall in between.`,
    fix: [...new Set(fix)],
  })
}

export function blackHoles({ probes, cluster }: Facts, { uplink, podMtu }: Place): Diagnosis[] {
  const lossy = probes.filter(({ largest }) => largest !== undefined)
  if (lossy.length === 0 || podMtu === undefined) return []
  const largest = Math.min(...lossy.map((probe) => probe.largest!))
  const outer = largest + VXLAN_OVERHEAD_BYTES
  const set = cluster?.agents
  return [
    diagnosis('mtu-black-hole', {
      subject: `peer ${lossy[0]!.node}`,
      where: `the path of ${uplink?.name ?? 'the uplink'} to ${lossy.map(({ publicIp }) => publicIp).join(', ')}`,
      text: `Through the tunnel packets of ${podMtu} bytes get lost on the way to ${lossy.map((p) => p.node).join(', ')}, such of ${largest} pass: somewhere between the nodes the MTU is about ${outer}`,
      remedy: `Raise the MTU of that network (jumbo frames, a VPN, a cloud's virtual switch), or tell the agents with Backend.MTU ${outer} in net-conf.json. Running pods then learn it by path MTU discovery.`,
      fix: set?.config ? [...lowerMtu(set.namespace, set.config, outer), ...restarted(set)] : [],
    }),
  ]
}

function lowerMtu(namespace: string, config: { name: string; netConf: string }, mtu: number): string[] {
  try {
    const conf = JSON.parse(config.netConf) as Record<string, unknown>
    const lowered = { ...conf, Backend: { ...(conf.Backend as object), MTU: mtu } }
    const patch = JSON.stringify({ data: { 'net-conf.json': JSON.stringify(lowered, null, 2) } })
    return [`kubectl -n ${namespace} patch configmap ${config.name} --type=merge -p ${word(patch)}`]
  } catch {
    return []
  }
}

export function brokenChecksums({ probes, files: { programs } }: Facts, { node, tunnel }: Place): Diagnosis[] {
  const broken = probes.filter(({ checksum }) => checksum === false)
  if (broken.length === 0 || !tunnel) return []
  return [
    diagnosis('inner-checksum', {
      subject: `node ${node}`,
      where: `checksum offload of ${tunnel.name}`,
      text: `UDP through the tunnel to ${broken.map((probe) => probe.node).join(', ')} is dropped there for its checksum; without one it passes`,
      remedy: `Let the kernel fill in checksums before the tunnel. It lasts until ${tunnel.name} is made anew; the cure is a driver or a virtual switch that can do it.`,
      fix: [programs.includes('ethtool') ? `ethtool -K ${tunnel.name} tx-checksum-ip-generic off` : `twill offload ${tunnel.name} off`],
    }),
  ]
}
