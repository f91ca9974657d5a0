/** Facts of the cluster for the doctor, asked of the API with a kubeconfig. Reads only. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { text as readAll } from 'node:stream/consumers'
import { systemClock } from '#base/clock.ts'
import { TwillError } from '#base/errors.ts'
import { AccessSource } from '#cluster/access.ts'
import { decodeNode } from '#cluster/decode.ts'
import { ApiClient } from '#cluster/http.ts'
import { annotationPrefix } from '#config/prefix.ts'
import { ACKNOWLEDGED } from '#plan/doctor/cluster.ts'
import type { AgentSet, ApiTrouble, ClusterFacts, ClusterNode } from '#plan/doctor/facts.ts'

/** DaemonSets by which other pod networks are known. */
const OTHERS: Readonly<Record<string, string>> = {
  'calico-node': 'Calico',
  cilium: 'Cilium',
  'weave-net': 'Weave Net',
  'kube-router': 'kube-router',
  'antrea-agent': 'Antrea',
  'kube-ovn-cni': 'Kube-OVN',
  'aws-node': 'the AWS VPC CNI',
  'azure-cni': 'the Azure CNI',
  kindnet: 'kindnet',
  canal: 'Canal',
}
/** DaemonSets that enforce NetworkPolicy, also beside another pod network. */
const ENFORCERS = new Set([
  'calico-node',
  'canal',
  'cilium',
  'kube-router',
  'antrea-agent',
  'kube-ovn-cni',
  'weave-net',
  'kube-network-policies',
])

const NODE_CA = '/etc/kubernetes/pki/ca.crt'
const ANSWER_MS = 8000

interface Meta {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly annotations?: Readonly<Record<string, string>> }
}
interface DaemonSet extends Meta {
  readonly spec: {
    readonly updateStrategy?: { readonly type?: string }
    readonly selector: { readonly matchLabels?: Readonly<Record<string, string>> }
    readonly template: {
      readonly spec: {
        readonly containers: readonly { readonly image?: string; readonly args?: readonly string[]; readonly command?: readonly string[] }[]
        readonly volumes?: readonly { readonly configMap?: { readonly name?: string } }[]
      }
    }
  }
}
interface Pod extends Meta {
  readonly spec: { readonly nodeName?: string; readonly containers: readonly { readonly image?: string }[] }
}
interface RawNode extends Meta {
  readonly metadata: Meta['metadata'] & { readonly creationTimestamp?: string }
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
}

/** @param kubeconfig  A file, or a colon list as in $KUBECONFIG. */
export async function askCluster(kubeconfig: string): Promise<{ cluster: ClusterFacts } | { trouble: ApiTrouble }> {
  const source = new AccessSource({
    env: { ...process.env, KUBECONFIG: kubeconfig, KUBERNETES_SERVICE_HOST: undefined },
    clock: systemClock,
  })
  const client = new ApiClient(source)
  try {
    return { cluster: await readCluster(client) }
  } catch (error) {
    if (!(error instanceof TwillError)) throw error
    return { trouble: await troubleOf(error, kubeconfig.split(':')[0]!, source) }
  } finally {
    client.close()
  }
}

async function readCluster(client: ApiClient): Promise<ClusterFacts> {
  const list = async <T>(path: string): Promise<readonly T[]> =>
    ((await client.json({ method: 'GET', path, timeoutMs: ANSWER_MS })) as { items?: readonly T[] }).items ?? []
  const before = Date.now()
  const { body, date } = await client.open({ method: 'GET', path: '/version', timeoutMs: ANSWER_MS })
  await readAll(body)
  // The header counts whole seconds, so half of one is its best guess; our own moment is between asking and hearing.
  const clockSkewMs = date === undefined ? undefined : Date.parse(date) + 500 - (before + Date.now()) / 2
  const [nodes, sets, policies] = await Promise.all([
    list<RawNode>('/api/v1/nodes'),
    list<DaemonSet>('/apis/apps/v1/daemonsets'),
    list<Meta>('/apis/networking.k8s.io/v1/networkpolicies').catch(absent),
  ])
  const agents = sets.find(({ spec }) => spec.template.spec.containers[0]?.args?.includes('--kube-subnet-mgr'))
  const enforced = sets.some(({ metadata }) => ENFORCERS.has(metadata.name))
  return {
    nodes: nodes.flatMap(nodeOf),
    ...(agents && { agents: await agentSet(agents, client, list) }),
    others: sets.flatMap(({ metadata: { name, namespace = '' } }) => (OTHERS[name] ? [{ namespace, name, what: OTHERS[name] }] : [])),
    policies: enforced
      ? []
      : policies.map(({ metadata: { namespace = '', name, annotations } }) => ({
          namespace,
          name,
          acknowledged: annotations?.[ACKNOWLEDGED] !== undefined,
        })),
    ...(clockSkewMs !== undefined && { clockSkewMs }),
  }
}

/** An API server without this kind. */
function absent(error: unknown): readonly never[] {
  if (error instanceof TwillError && error.details.status === 404) return []
  throw error
}

function nodeOf(raw: RawNode): ClusterNode[] {
  try {
    const ready = raw.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
    const record = decodeNode(raw, annotationPrefix('flannel.alpha.coreos.com'))
    return [{ ...record, ready, createdAt: raw.metadata.creationTimestamp ?? '' }]
  } catch {
    return [] // the agents say what is wrong with it
  }
}

async function agentSet(set: DaemonSet, client: ApiClient, list: <T>(path: string) => Promise<readonly T[]>): Promise<AgentSet> {
  const { name, namespace = '' } = set.metadata
  const [container] = set.spec.template.spec.containers
  const labels = Object.entries(set.spec.selector.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`)
  const base = `/api/v1/namespaces/${encodeURIComponent(namespace)}`
  const pods = await list<Pod>(`${base}/pods?labelSelector=${encodeURIComponent(labels.join(','))}`)
  const map = set.spec.template.spec.volumes?.find((volume) => volume.configMap?.name)?.configMap?.name
  const path = `${base}/configmaps/${encodeURIComponent(map ?? '')}`
  const config = map === undefined ? undefined : ((await client.json({ method: 'GET', path })) as { data?: Record<string, string> })
  const netConf = config?.data?.['net-conf.json']
  return {
    namespace,
    name,
    image: container?.image ?? '',
    args: container?.args ?? [],
    onDelete: set.spec.updateStrategy?.type === 'OnDelete',
    pods: pods.map((pod) => ({ name: pod.metadata.name, node: pod.spec.nodeName ?? '', image: pod.spec.containers[0]?.image ?? '' })),
    ...(map !== undefined && netConf !== undefined && { config: { name: map, netConf } }),
  }
}

async function troubleOf(error: TwillError, kubeconfig: string, source: AccessSource): Promise<ApiTrouble> {
  const certificate = error.details.certificate === true || error.code === 'ERR_API_UNAUTHORIZED'
  const tls = source.last?.tls
  const clusterName = await currentCluster(kubeconfig)
  const nodeCa = readOrNothing(NODE_CA)
  const expired = endOf(tls?.cert)
  return {
    kind: certificate ? 'certificate' : error.code === 'ERR_API_FORBIDDEN' ? 'refused' : 'unreachable',
    text: error.message,
    remedy: error.remedy,
    kubeconfig,
    ...(clusterName !== undefined && { clusterName }),
    ...(nodeCa !== undefined && tls?.ca?.trim() !== nodeCa.trim() && { otherCa: NODE_CA }),
    ...(expired !== undefined && { expired }),
  }
}

/** When a certificate ended; undefined if it is good, or none. */
function endOf(pem: string | undefined): string | undefined {
  try {
    const end = pem === undefined ? undefined : new X509Certificate(pem).validToDate
    return end && end.getTime() < Date.now() ? end.toISOString() : undefined
  } catch {
    return undefined
  }
}

async function currentCluster(file: string): Promise<string | undefined> {
  try {
    const { parse } = await import('yaml')
    const config = parse(readFileSync(file, 'utf8')) as {
      'current-context'?: string
      contexts?: { name: string; context: { cluster: string } }[]
    }
    return config.contexts?.find(({ name }) => name === config['current-context'])?.context.cluster
  } catch {
    return undefined
  }
}

function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
