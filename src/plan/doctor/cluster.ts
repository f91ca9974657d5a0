/** What is wrong with the cluster as the API tells it, and with the way to the API. */
import type { Diagnosis } from '#model/doctor.ts'
import { addToIp, canonicalNetwork, contains, formatIp, parseCidr } from '#net/ip.ts'
import { diagnosis, word } from '#plan/doctor/diagnosis.ts'
import type { AgentSet, ClusterNode, Facts } from '#plan/doctor/facts.ts'
import type { Place } from '#plan/doctor/place.ts'
import { alternatives } from '#plan/interface.ts'
import { isManaged, outsideNetwork, podCidrOf } from '#plan/leases.ts'

const MAX_SKEW_MS = 30_000
/** Says on a NetworkPolicy that its author knows that nothing enforces it. */
export const ACKNOWLEDGED = 'twill.dev/unenforced'

/** Groups of nodes that share a value of `keyOf`, each of two or more, by value. */
function sharing(nodes: readonly ClusterNode[], keyOf: (node: ClusterNode) => string | undefined): [string, ClusterNode[]][] {
  return [...Map.groupBy(nodes, keyOf)].filter((group): group is [string, ClusterNode[]] => group[0] !== undefined && group[1].length > 1)
}

const names = (nodes: readonly ClusterNode[]): string => nodes.map(({ name }) => name).join(', ')

/** `kubectl` lines that make the agents take `dev`: the first --iface replaced, or one added; then waits for the roll-out. */
function takeInterface(set: AgentSet, dev: string): string[] {
  const at = set.args.findIndex((arg) => arg.startsWith('--iface='))
  const path = `/spec/template/spec/containers/0/args/${at < 0 ? '-' : at}`
  const patch = JSON.stringify([{ op: at < 0 ? 'add' : 'replace', path, value: `--iface=${dev}` }])
  return [`kubectl -n ${set.namespace} patch ds ${set.name} --type=json -p ${word(patch)}`, rolledOut(set)]
}

/** Waits until every agent is of the changed template. */
const rolledOut = ({ namespace, name, onDelete, pods }: AgentSet): string =>
  onDelete
    ? `kubectl -n ${namespace} delete pod ${pods.map((pod) => pod.name).join(' ')}`
    : `kubectl -n ${namespace} rollout status ds ${name} --timeout=180s`

/** Restarts every agent, one after the other. */
export const restarted = (set: AgentSet): string[] =>
  set.onDelete ? [rolledOut(set)] : [`kubectl -n ${set.namespace} rollout restart ds ${set.name}`, rolledOut(set)]

export function duplicatePublicIps({ cluster, host }: Facts, { uplink }: Place): Diagnosis[] {
  const managed = cluster?.nodes.filter(isManaged) ?? []
  return sharing(managed, (node) => node.annotations['public-ip'] || undefined).map(([ip, nodes]) => {
    const overwritten = nodes.filter((node) => node.annotations['public-ip-overwrite'] === ip || node.annotations['node-public-ip'] === ip)
    const other = alternatives(host, uplink?.name ?? '', 4)[0]
    const fix =
      overwritten.length > 0
        ? overwritten.flatMap((node) => unannotate(node, ip))
        : cluster?.agents && other
          ? takeInterface(cluster.agents, other.dev)
          : []
    return diagnosis('duplicate-public-ip', {
      subject: `node ${nodes[0]!.name}`,
      where: 'annotation public-ip',
      text: `${names(nodes)} all announce the public IP ${ip}`,
      remedy:
        overwritten.length > 0
          ? `An annotation says so on ${names(overwritten)}: take it away.`
          : `Name the interface that the nodes share${other ? `: on this node ${other.dev} has ${other.address}` : ''}. Virtual machines made by Vagrant or VirtualBox have the same NAT address on the default route's interface.`,
      fix,
    })
  })
}

function unannotate({ name, annotations }: ClusterNode, ip: string): string[] {
  const keys = ['public-ip-overwrite', 'node-public-ip'].filter((key) => annotations[key] === ip)
  return [`kubectl annotate node ${name} ${keys.map((key) => `flannel.alpha.coreos.com/${key}-`).join(' ')}`]
}

export function podCidrs({ cluster }: Facts, { network }: Place): Diagnosis[] {
  if (!cluster || network === undefined) return []
  const found: Diagnosis[] = []
  for (const node of cluster.nodes) {
    const cidr = podCidrOf(node, 4)
    const common = { subject: `node ${node.name}`, where: 'spec.podCIDR' }
    if ('id' in cidr) {
      const free = cidr.id === 'missing-podcidr' ? freeSubnet(cluster.nodes, network) : undefined
      const patch = free && JSON.stringify({ spec: { podCIDR: free, podCIDRs: [free] } })
      const fix = patch === undefined ? remake(node) : [`kubectl patch node ${node.name} -p ${word(patch)}`]
      found.push(diagnosis(cidr.id, { ...common, text: cidr.text, remedy: cidr.remedy, fix }))
      continue
    }
    const outside = outsideNetwork(node.name, cidr.subnet, network)
    if (outside)
      found.push(diagnosis('podcidr-outside-network', { ...common, text: outside.text, remedy: outside.remedy, fix: remake(node) }))
  }
  const shared = sharing(cluster.nodes, (node) => node.podCIDRs.map(canonicalNetwork).find((cidr) => cidr !== undefined))
  for (const [subnet, nodes] of shared) {
    const leaving = nodes.toSorted((a, b) => Number(b.ready) - Number(a.ready) || (a.createdAt < b.createdAt ? -1 : 1)).slice(1)
    found.push(
      diagnosis('duplicate-podcidr', {
        subject: `node ${leaving[0]!.name}`,
        where: 'spec.podCIDR',
        text: `${names(nodes)} all have the pod CIDR ${subnet}`,
        remedy: `A node keeps its pod CIDR for life: delete the Node objects of ${names(leaving)}, and restart the kubelet there to register anew (systemctl restart kubelet). Pods there are made anew.`,
        fix: leaving.flatMap(remake),
      }),
    )
  }
  return found
}

/** The Node object goes; a kubelet that still runs there registers anew. */
const remake = (node: ClusterNode): string[] => [`kubectl delete node ${node.name}`]

/** The first subnet of `network`, as long as the nodes' usual one, that no node has. */
function freeSubnet(nodes: readonly ClusterNode[], network: string): string | undefined {
  const taken = nodes.flatMap(({ podCIDRs }) => podCIDRs.flatMap((cidr) => parseCidr(cidr) ?? []))
  const whole = parseCidr(network)!
  const prefix = Math.max(taken[0]?.prefix ?? 24, whole.prefix)
  for (let i = 0; i < 2 ** (prefix - whole.prefix); i++) {
    const bytes = addToIp(whole.bytes, i * 2 ** (32 - prefix))
    const cidr = bytes && parseCidr(`${formatIp(bytes)}/${prefix}`)
    if (cidr && !taken.some((other) => contains(other, cidr) || contains(cidr, other))) return `${formatIp(cidr.bytes)}/${prefix}`
  }
  return undefined
}

/**
 * The node's InternalIP and the agent's interface should be on one network, the one that peers are on. Which of the two is wrong, the
 * peers' addresses tell.
 */
export function addresses({ host, status, cluster, files }: Facts, { node, uplink, internalIPs, peers }: Place): Diagnosis[] {
  const internal = internalIPs[0]
  if (!uplink || internal === undefined || internal === uplink.address) return []
  const publicIp = status?.lease?.publicIp
  const dev = host.addresses.find(({ cidr }) => cidr.startsWith(`${internal}/`))?.dev
  if (dev === uplink.name) return []
  const onLink = (name: string | undefined, ips: readonly string[]): boolean =>
    host.addresses.some(
      ({ dev, cidr }) => dev === name && ips.some((ip) => ip !== publicIp && contains(parseCidr(cidr)!, parseCidr(`${ip}/32`)!)),
    )
  const peerIps = [
    ...peers.map((peer) => peer.publicIp),
    ...(cluster?.nodes.filter(({ name }) => name !== node).flatMap((n) => n.internalIPs) ?? []),
  ]
  const shared = peers.some((peer) => peer.publicIp === uplink.address)
  if (dev !== undefined && (shared || (onLink(dev, peerIps) && !onLink(uplink.name, peerIps)))) {
    return [
      diagnosis('wrong-interface', {
        subject: `node ${node}`,
        where: `interface ${uplink.name}`,
        text: `The agent took ${uplink.name} (${uplink.address})${status?.interface ? ` by this rule: ${status.interface.why}` : ''}; the kubelet and the other nodes are on ${dev} (${internal})`,
        remedy: `Let the agents take ${dev}.`,
        fix: cluster?.agents ? takeInterface(cluster.agents, dev) : [],
      }),
    ]
  }
  return [
    diagnosis('wrong-node-ip', {
      subject: `node ${node}`,
      where: files.kubelet?.path ?? 'the kubelet',
      text: `The kubelet announces ${internal}${dev === undefined ? ', which no interface has' : ` (${dev})`}; the nodes reach each other by ${uplink.name}, where this one is ${uplink.address}`,
      remedy: `Give the kubelet --node-ip=${uplink.address}.`,
      fix: files.kubelet ? nodeIp(files.kubelet, uplink.address) : [],
    }),
  ]
}

/** Kubelets of several nodes that announce one address: each has to be told on its own node. */
export function sharedNodeIps({ cluster }: Facts, { node: here }: Place): Diagnosis[] {
  return sharing(cluster?.nodes ?? [], (node) => node.internalIPs[0]).map(([ip, nodes]) =>
    diagnosis('wrong-node-ip', {
      subject: `node ${(nodes.find(({ name }) => name !== here) ?? nodes[0]!).name}`,
      where: 'status.addresses',
      text: `The kubelets of ${names(nodes)} all announce ${ip}`,
      remedy: `Give each its own --node-ip. Run \`twill doctor\` on ${names(nodes)}: there it knows which.`,
    }),
  )
}

function nodeIp(kubelet: NonNullable<Facts['files']['kubelet']>, address: string): string[] {
  const edit =
    kubelet.nodeIp === undefined ? `s/^KUBELET_KUBEADM_ARGS="/&--node-ip=${address} /` : `s/--node-ip=[^ "]*/--node-ip=${address}/`
  return [`sed -i ${word(edit)} ${kubelet.path}`, 'systemctl restart kubelet']
}

export function otherCnis({ cluster }: Facts): Diagnosis[] {
  return (cluster?.others ?? []).map(({ namespace, name, what }) =>
    diagnosis('two-cnis', {
      subject: `daemonset ${namespace}/${name}`,
      where: `DaemonSet ${namespace}/${name}`,
      text: `${what} is installed beside Twill`,
      remedy: 'A cluster has one pod network: decide, and remove the other by its own means; at the least its DaemonSet.',
      fix: [`kubectl -n ${namespace} delete ds ${name}`],
    }),
  )
}

export function unenforcedPolicies({ cluster }: Facts): Diagnosis[] {
  const open = cluster?.policies.filter(({ acknowledged }) => !acknowledged) ?? []
  if (open.length === 0) return []
  const all = open.map(({ namespace, name }) => `${namespace}/${name}`).join(', ')
  return [
    diagnosis('networkpolicy-unenforced', {
      severity: 'warning',
      subject: 'networkpolicies',
      where: all,
      text: `NetworkPolicy ${all}: nothing in this cluster enforces it, every packet passes`,
      remedy:
        'Install something that enforces policies beside the pod network, or delete them. The command only notes that you know: it silences this finding and enforces nothing.',
      fix: open.map(({ namespace, name }) => `kubectl -n ${namespace} annotate networkpolicy ${name} ${ACKNOWLEDGED}=known`),
    }),
  ]
}

export function apiTrouble({ trouble, cluster }: Facts, { node }: Place): Diagnosis[] {
  const found: Diagnosis[] = []
  if (trouble) {
    const { kind, text, remedy, kubeconfig, clusterName, otherCa, expired } = trouble
    const subject = 'api'
    if (kind === 'certificate') {
      const trust = otherCa && clusterName
      found.push(
        diagnosis('api-certificate', {
          subject,
          where: kubeconfig,
          text: expired ? `${text}; the client certificate ended at ${expired}` : text,
          remedy: trust
            ? `${otherCa} is the cluster's CA on this node, the kubeconfig holds another: take that one.`
            : expired
              ? 'Renew it: kubeadm certs renew admin.conf, then copy the file again. See also this machine’s clock.'
              : remedy,
          fix: trust
            ? [
                `kubectl config set-cluster ${word(clusterName)} --kubeconfig=${word(kubeconfig)} --certificate-authority=${otherCa} --embed-certs=true`,
              ]
            : [],
        }),
      )
    } else {
      found.push(diagnosis(kind === 'refused' ? 'api-refused' : 'api-unreachable', { subject, where: kubeconfig, text, remedy }))
    }
  }
  const skew = cluster?.clockSkewMs ?? 0
  if (Math.abs(skew) > MAX_SKEW_MS) {
    found.push(
      diagnosis('clock-skew', {
        subject: `node ${node}`,
        where: 'the clock',
        text: `This machine's clock is ${Math.round(Math.abs(skew) / 1000)} s ${skew > 0 ? 'behind' : 'ahead of'} the API server's`,
        remedy: 'Let both follow one time server: timedatectl, chronyc sources.',
        fix: ['timedatectl set-ntp true'],
      }),
    )
  }
  return found
}
