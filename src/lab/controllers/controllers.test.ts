import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Clock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import { admission } from '#lab/control/admit.ts'
import { bootstrap } from '#lab/control/bootstrap.ts'
import { furnishNamespaces } from '#lab/control/namespaces.ts'
import { type KubeObject, MemoryStore, type NewObject } from '#lab/control/store.ts'
import { startControllers } from '#lab/controllers/main.ts'
import { type DaemonSet, type Deployment, isActive, type Node, type Pod, type ReplicaSet } from '#lab/controllers/objects.ts'

/** Time that stands still until it is moved: sleepers wake in order. */
class TestClock implements Clock {
  #nowMs = 0
  #sleepers: { atMs: number; wake: () => void }[] = []
  now = (): number => this.#nowMs
  date = (): Date => new Date(Date.UTC(2026, 10, 23, 9) + this.#nowMs)
  random = (): number => 0.5
  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((wake) => {
      if (signal?.aborted) return wake()
      this.#sleepers.push({ atMs: this.#nowMs + ms, wake })
      signal?.addEventListener('abort', () => wake(), { once: true })
    })
  move(ms: number): void {
    this.#nowMs += ms
    const due = this.#sleepers.filter((sleeper) => sleeper.atMs <= this.#nowMs).toSorted((a, b) => a.atMs - b.atMs)
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.atMs > this.#nowMs)
    for (const { wake } of due) wake()
  }
}

const nodes = ['k8s-ctr', 'k8s-w1', 'k8s-w2']

/** A cluster without kubelets: the test says what they would. */
class Rig {
  readonly clock = new TestClock()
  readonly store: MemoryStore
  readonly #stop: () => void
  readonly idle: () => Promise<void>

  constructor(t: TestContext) {
    const store: MemoryStore = new MemoryStore({
      admit: admission({ serviceCidr: '10.96.0.0/16', store: () => store }),
      now: () => this.clock.date().getTime(),
    })
    this.store = store
    bootstrap(store, { apiServerIp: '192.168.10.100', port: 6443, serviceIp: '10.96.0.1' })
    const leave = furnishNamespaces(store, 'CA')
    const loop = startControllers(store, { podCidr: '10.244.0.0/16', nodes: nodes.map((name) => ({ name })) }, silentLog, this.clock)
    this.idle = loop.idle
    this.#stop = () => {
      loop.stop()
      leave()
    }
    t.after(() => this.#stop())
  }

  async move(ms: number): Promise<void> {
    this.clock.move(ms)
    await this.idle()
  }

  async addNodes(o: { ready: boolean; names?: string[] }): Promise<void> {
    for (const name of o.names ?? nodes) {
      this.store.create<Node>('nodes', {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name, labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' } },
        spec: name === 'k8s-ctr' ? { taints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] } : {},
        status: {
          allocatable: { cpu: '2', memory: '4Gi', pods: '110' },
          conditions: [{ type: 'Ready', status: o.ready ? 'True' : 'False' }],
        },
      })
      this.beat(name)
    }
    await this.idle()
  }

  beat(name: string): void {
    const metadata = { name, namespace: 'kube-node-lease' }
    const spec = { holderIdentity: name, renewTime: this.clock.date().toISOString().replace('Z', '000Z') }
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec }
    const resource = 'leases.coordination.k8s.io'
    if (!this.store.edit(resource, metadata.namespace, name, (draft) => Object.assign(draft, { spec }))) this.store.create(resource, lease)
  }

  async setReady(name: string, status: 'True' | 'False'): Promise<void> {
    const change = (draft: Node): void => {
      draft.status!.conditions = [{ type: 'Ready', status }]
    }
    this.store.edit<Node>('nodes', undefined, name, change, 'status')
    await this.idle()
  }

  pods(namespace = 'default', selector = ''): Pod[] {
    return this.store.list<Pod>('pods', { namespace, labelSelector: selector })
  }

  /** Plays the kubelets: pods with a node run and are ready, terminating ones go. */
  async run(o: { ready?: boolean } = {}): Promise<void> {
    for (let i = 0; i < 20; i++) {
      await this.idle()
      const version = this.store.resourceVersion
      for (const pod of this.store.list<Pod>('pods')) {
        const { namespace, name } = pod.metadata
        if (!pod.spec.nodeName) continue
        if (pod.metadata.deletionTimestamp) {
          this.store.delete('pods', namespace, name, { gracePeriodSeconds: 0 })
          continue
        }
        const number = 2 + [...this.store.list<Pod>('pods')].findIndex((one) => one.metadata.uid === pod.metadata.uid)
        const change = (draft: Pod): void => {
          const conditions = (draft.status?.conditions ?? []).filter((condition) => condition.type !== 'Ready')
          draft.status = {
            phase: 'Running',
            podIP: pod.status?.podIP ?? `10.244.${nodes.indexOf(pod.spec.nodeName!)}.${number}`,
            conditions: [
              ...conditions,
              { type: 'Ready', status: o.ready === false ? 'False' : 'True', lastTransitionTime: '2026-11-23T09:00:00Z' },
            ],
          }
        }
        this.store.edit<Pod>('pods', namespace, name, change, 'status')
      }
      if (this.store.resourceVersion === version) return
    }
    assert.fail('the cluster does not come to rest')
  }

  events(reason: string): string[] {
    return this.store
      .list('events')
      .filter((event) => event.reason === reason)
      .map((event) => String(event.message))
  }
}

const deployment = (name: string, replicas: number, spec: object = {}): NewObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace: 'default' },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'web', image: 'traefik/whoami', ports: [{ name: 'http', containerPort: 80 }] }], ...spec },
    },
  },
})

const apart = (app: string): object => ({
  affinity: {
    podAntiAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: { matchLabels: { app } }, topologyKey: 'kubernetes.io/hostname' }],
    },
  },
})

test('nodes get their /24 in the expected order, whoever registers first; a stranger gets the next', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true, names: ['k8s-w2', 'k8s-ctr', 'other', 'k8s-w1'] })
  const cidr = (name: string): unknown => rig.store.get<Node>('nodes', undefined, name)?.spec.podCIDRs
  assert.deepEqual(['k8s-ctr', 'k8s-w1', 'k8s-w2', 'other'].map(cidr), [
    ['10.244.0.0/24'],
    ['10.244.1.0/24'],
    ['10.244.2.0/24'],
    ['10.244.3.0/24'],
  ])
})

test('without a network: nodes are tainted, pods wait, and the event says why in kube-scheduler’s words; then they run', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: false })
  const taints = (name: string): unknown =>
    rig.store.get<Node>('nodes', undefined, name)?.spec.taints?.map((taint) => `${taint.key}:${taint.effect}`)
  assert.deepEqual(taints('k8s-w1'), ['node.kubernetes.io/not-ready:NoSchedule', 'node.kubernetes.io/not-ready:NoExecute'])
  rig.store.create(
    'deployments.apps',
    deployment('web', 1, { tolerations: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule', operator: 'Exists' }] }),
  )
  await rig.idle()
  const message =
    '0/3 nodes are available: 3 node(s) had untolerated taint {node.kubernetes.io/not-ready: }. ' +
    'preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.'
  assert.deepEqual(rig.events('FailedScheduling'), [message])
  rig.store.edit<Node>('nodes', undefined, 'k8s-w1', (draft) => Object.assign(draft.metadata.labels!, { touched: 'yes' }))
  await rig.idle()
  assert.equal(rig.store.list('events').find((event) => event.reason === 'FailedScheduling')?.count, 1)
  assert.equal(rig.pods()[0]?.status?.conditions?.find((condition) => condition.type === 'PodScheduled')?.message, message)
  await rig.setReady('k8s-w1', 'True')
  assert.deepEqual(taints('k8s-w1'), undefined)
  assert.equal(rig.pods()[0]?.spec.nodeName, 'k8s-w1')
  assert.match(rig.events('Scheduled')[0]!, /^Successfully assigned default\/web-\w+-\w+ to k8s-w1$/)
  const scheduled = rig.pods()[0]?.status?.conditions?.find((condition) => condition.type === 'PodScheduled')
  assert.deepEqual([scheduled?.status, scheduled?.message], ['True', undefined])
})

test('a deployment: names, owner chain, status of a rollout from first to last', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 2, apart('web')))
  await rig.run({ ready: false })
  const status = (): Deployment['status'] => rig.store.get<Deployment>('deployments.apps', 'default', 'web')?.status
  assert.deepEqual(
    [status()?.replicas, status()?.updatedReplicas, status()?.readyReplicas, status()?.unavailableReplicas],
    [2, 2, undefined, 2],
  )
  const [rs] = rig.store.list<ReplicaSet>('replicasets.apps')
  assert.match(rs!.metadata.name, /^web-[bcdfghjklmnpqrstvwxz2456789]+$/)
  assert.deepEqual(
    rig
      .pods()
      .map((pod) => pod.spec.nodeName)
      .toSorted(),
    ['k8s-w1', 'k8s-w2'],
  )
  assert.match(rig.pods()[0]!.metadata.name, new RegExp(`^${rs!.metadata.name}-\\w{5}$`))
  await rig.run()
  const done = status()
  assert.deepEqual([done?.observedGeneration, done?.availableReplicas, done?.unavailableReplicas], [1, 2, undefined])
  assert.deepEqual(
    done?.conditions?.map(({ type, status: s, reason }) => `${type} ${s} ${reason}`),
    ['Available True MinimumReplicasAvailable', 'Progressing True NewReplicaSetAvailable'],
  )
  assert.deepEqual(rig.events('ScalingReplicaSet'), [`Scaled up replica set ${rs!.metadata.name} from 0 to 2`])
})

test('a new template rolls within surge and unavailability, keeps the old set at 0, and rolls back to it as a new revision', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 4))
  await rig.run()
  const setImage = (image: string): void => {
    rig.store.edit<Deployment>('deployments.apps', 'default', 'web', (draft) => {
      draft.spec.template.spec.containers[0] = { ...draft.spec.template.spec.containers[0]!, ...{ image } }
    })
  }
  const sets = (): string[] =>
    rig.store
      .list<ReplicaSet>('replicasets.apps')
      .map((rs) => `${rs.metadata.annotations?.['deployment.kubernetes.io/revision']}:${rs.spec.replicas}`)
      .toSorted()
  let least = 4
  let most = 0
  const serves = (pod: Pod): boolean =>
    isActive(pod) && pod.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') === true
  rig.store.watch('pods', () => {
    least = Math.min(least, rig.pods().filter(serves).length)
  })
  rig.store.watch('replicasets.apps', () => {
    most = Math.max(
      most,
      rig.store.list<ReplicaSet>('replicasets.apps').reduce((sum, rs) => sum + rs.spec.replicas!, 0),
    )
  })
  setImage('traefik/whoami:v1.11')
  await rig.run()
  assert.deepEqual(sets(), ['1:0', '2:4'])
  assert.deepEqual([least, most], [3, 5])
  assert.equal(rig.pods().length, 4)
  setImage('traefik/whoami')
  await rig.run()
  assert.deepEqual(sets(), ['2:0', '3:4'])
})

test('scaling down takes the pods that matter least; a deleted pod comes back under another name', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 3))
  await rig.run()
  const [first, second, third] = rig.pods()
  rig.store.edit<Pod>(
    'pods',
    'default',
    second!.metadata.name,
    (draft) => Object.assign(draft.status!, { conditions: [{ type: 'Ready', status: 'False' }] }),
    'status',
  )
  rig.store.edit<Deployment>('deployments.apps', 'default', 'web', (draft) => Object.assign(draft.spec, { replicas: 2 }))
  await rig.idle()
  assert.deepEqual(
    rig
      .pods()
      .filter(isActive)
      .map((pod) => pod.metadata.name),
    [first!.metadata.name, third!.metadata.name],
  )
  rig.store.delete('pods', 'default', first!.metadata.name)
  await rig.run()
  const names = rig.pods().map((pod) => pod.metadata.name)
  assert.equal(names.length, 2)
  assert.ok(names.includes(third!.metadata.name) && !names.includes(first!.metadata.name))
})

const placement = [
  {
    name: 'required anti-affinity that cannot hold leaves the third pod waiting',
    replicas: 3,
    spec: apart('web'),
    want: ['', 'k8s-w1', 'k8s-w2'],
  },
  { name: 'replicas are spread though nobody asked', replicas: 2, spec: {}, want: ['k8s-w1', 'k8s-w2'] },
  { name: 'nodeSelector', replicas: 2, spec: { nodeSelector: { 'kubernetes.io/hostname': 'k8s-w2' } }, want: ['k8s-w2', 'k8s-w2'] },
  {
    name: 'nodeName goes past the scheduler, taint or not',
    replicas: 1,
    spec: { nodeName: 'k8s-ctr' },
    want: ['k8s-ctr'],
  },
  {
    name: 'preferred anti-affinity, with the control plane tolerated',
    replicas: 3,
    spec: {
      tolerations: [{ operator: 'Exists' }],
      affinity: {
        podAntiAffinity: {
          preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 100, podAffinityTerm: { labelSelector: { matchLabels: { app: 'web' } }, topologyKey: 'kubernetes.io/hostname' } },
          ],
        },
      },
    },
    want: ['k8s-ctr', 'k8s-w1', 'k8s-w2'],
  },
  {
    name: 'a host port is given once a node',
    replicas: 3,
    spec: { containers: [{ name: 'c', image: 'traefik/whoami', ports: [{ containerPort: 80, hostPort: 8080 }] }] },
    want: ['', 'k8s-w1', 'k8s-w2'],
  },
  {
    name: 'hard spread counts the hosts that a taint keeps empty',
    replicas: 3,
    spec: {
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: 'kubernetes.io/hostname',
          whenUnsatisfiable: 'DoNotSchedule',
          labelSelector: { matchLabels: { app: 'web' } },
        },
      ],
    },
    want: ['', 'k8s-w1', 'k8s-w2'],
  },
  {
    name: 'more CPU than there is',
    replicas: 1,
    spec: { containers: [{ name: 'c', image: 'traefik/whoami', resources: { requests: { cpu: '2500m' } } }] },
    want: [''],
  },
]
for (const { name, replicas, spec, want } of placement) {
  test(`scheduling: ${name}`, async (t) => {
    const rig = new Rig(t)
    await rig.addNodes({ ready: true })
    // One node is fuller than the other, so that load alone would put all on one.
    rig.store.create('deployments.apps', deployment('other', 4, { nodeName: 'k8s-w2' }))
    await rig.run()
    rig.store.create('deployments.apps', deployment('web', replicas, spec))
    await rig.run()
    assert.deepEqual(
      rig
        .pods('default', 'app=web')
        .map((pod) => pod.spec.nodeName ?? '')
        .toSorted(),
      want,
    )
  })
}

test('the reasons of a mixed refusal, counted and sorted', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 3, apart('web')))
  await rig.run()
  assert.deepEqual(rig.events('FailedScheduling'), [
    "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 node(s) didn't match pod anti-affinity rules. " +
      'preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.',
  ])
})

const daemonSet = (image: string): NewObject => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'agent', namespace: 'kube-system' },
  spec: {
    selector: { matchLabels: { app: 'agent' } },
    template: {
      metadata: { labels: { app: 'agent' } },
      spec: { hostNetwork: true, tolerations: [{ operator: 'Exists', effect: 'NoSchedule' }], containers: [{ name: 'c', ...{ image } }] },
    },
  },
})

test('a daemon set runs on every node, ready or not, and rolls one node after the other', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: false })
  rig.store.create('daemonsets.apps', daemonSet('traefik/whoami'))
  await rig.run()
  const status = (): DaemonSet['status'] => rig.store.get<DaemonSet>('daemonsets.apps', 'kube-system', 'agent')?.status
  assert.deepEqual(
    rig
      .pods('kube-system')
      .map((pod) => pod.spec.nodeName)
      .toSorted(),
    nodes,
  )
  assert.deepEqual(status(), {
    currentNumberScheduled: 3,
    numberMisscheduled: 0,
    desiredNumberScheduled: 3,
    numberReady: 3,
    observedGeneration: 1,
    updatedNumberScheduled: 3,
    numberAvailable: 3,
  })
  let most = 0
  rig.store.watch<Pod>('pods', () => {
    most = Math.max(most, rig.pods('kube-system').filter((pod) => pod.metadata.deletionTimestamp).length)
  })
  rig.store.edit<DaemonSet>('daemonsets.apps', 'kube-system', 'agent', (draft) =>
    Object.assign(draft.spec.template.spec.containers[0]!, { image: 'traefik/whoami:v1.11' }),
  )
  await rig.run()
  assert.equal(most, 1)
  assert.deepEqual([status()?.updatedNumberScheduled, status()?.observedGeneration], [3, 2])
  assert.deepEqual(
    rig.store
      .list('controllerrevisions.apps')
      .map((one) => one.revision)
      .toSorted(),
    [1, 2],
  )
  rig.store.delete('nodes', undefined, 'k8s-w2')
  await rig.run()
  assert.deepEqual(
    rig
      .pods('kube-system')
      .map((pod) => pod.spec.nodeName)
      .toSorted(),
    ['k8s-ctr', 'k8s-w1'],
  )
  assert.equal(status()?.desiredNumberScheduled, 2)
})

test('endpoints follow readiness, deletion and the name of a port', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('services', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] },
  })
  await rig.idle()
  const slice = (): KubeObject & { endpoints: { addresses: string[]; conditions: object; nodeName: string }[]; ports: object[] } =>
    rig.store.list('endpointslices.discovery.k8s.io', { labelSelector: 'kubernetes.io/service-name=web' })[0] as never
  const subsets = (): unknown => rig.store.get('endpoints', 'default', 'web')?.subsets
  assert.deepEqual([slice().endpoints, subsets()], [[], undefined])
  rig.store.create('deployments.apps', deployment('web', 1))
  await rig.run({ ready: false })
  const [pod] = rig.pods()
  const targetRef = { kind: 'Pod', namespace: 'default', name: pod!.metadata.name, uid: pod!.metadata.uid }
  const address = { ip: '10.244.1.2', nodeName: 'k8s-w1', targetRef }
  const ports = [{ port: 80, protocol: 'TCP' }]
  assert.deepEqual(subsets(), [{ notReadyAddresses: [address], ports }])
  assert.deepEqual(slice().endpoints[0]?.conditions, { ready: false, serving: false, terminating: false })
  await rig.run()
  assert.deepEqual(subsets(), [{ addresses: [address], ports }])
  assert.deepEqual(slice().endpoints, [
    { addresses: ['10.244.1.2'], conditions: { ready: true, serving: true, terminating: false }, nodeName: 'k8s-w1', targetRef },
  ])
  assert.deepEqual(slice().ports, [{ name: '', port: 80, protocol: 'TCP' }])
  rig.store.edit<Deployment>('deployments.apps', 'default', 'web', (draft) => Object.assign(draft.spec, { replicas: 0 }))
  await rig.idle()
  assert.deepEqual(slice().endpoints[0]?.conditions, { ready: false, serving: true, terminating: true })
  assert.equal(subsets(), undefined)
  await rig.run()
  assert.deepEqual(slice().endpoints, [])
  rig.store.delete('services', 'default', 'web')
  await rig.idle()
  assert.deepEqual([slice(), rig.store.get('endpoints', 'default', 'web')], [undefined, undefined])
})

test('a silent kubelet: Unknown after 50 s, tainted, its pods not ready, evicted 300 s later; a heartbeat in time prevents it', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 1))
  await rig.run()
  assert.equal(rig.pods()[0]?.spec.nodeName, 'k8s-w1')
  await rig.move(40_000)
  rig.beat('k8s-ctr')
  rig.beat('k8s-w2')
  await rig.idle()
  await rig.move(11_000)
  const ready = (name: string): unknown => {
    const condition = rig.store.get<Node>('nodes', undefined, name)?.status?.conditions?.find((one) => one.type === 'Ready')
    return `${condition?.status} ${condition?.reason ?? ''}`
  }
  assert.deepEqual(nodes.map(ready), ['True ', 'Unknown NodeStatusUnknown', 'True '])
  assert.equal(rig.store.get<Node>('nodes', undefined, 'k8s-w1')?.spec.taints?.[0]?.key, 'node.kubernetes.io/unreachable')
  assert.equal(rig.pods()[0]?.status?.conditions?.find((one) => one.type === 'Ready')?.status, 'False')
  assert.equal(rig.pods()[0]?.metadata.deletionTimestamp, undefined)
  for (const name of ['k8s-ctr', 'k8s-w2']) rig.beat(name)
  await rig.move(301_000)
  assert.ok(rig.pods().find((pod) => pod.spec.nodeName === 'k8s-w1')?.metadata.deletionTimestamp)
})

test('a namespace that is deleted takes its content along, waits for kubelets, and goes', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' }, spec: { finalizers: ['kubernetes'] } })
  await rig.idle()
  assert.ok(rig.store.get('serviceaccounts', 'shop', 'default'))
  rig.store.create('deployments.apps', { ...deployment('web', 2), metadata: { name: 'web', namespace: 'shop' } })
  await rig.run()
  rig.store.delete('namespaces', undefined, 'shop')
  await rig.idle()
  assert.equal(rig.pods('shop').length, 2)
  assert.ok(rig.pods('shop').every((pod) => pod.metadata.deletionTimestamp))
  assert.ok(rig.store.get('namespaces', undefined, 'shop'))
  await rig.run()
  assert.equal(rig.store.get('namespaces', undefined, 'shop'), undefined)
  assert.deepEqual(rig.store.list('configmaps', { namespace: 'shop' }), [])
})

const policies = [
  { policy: 'Background', left: { deployments: 0, sets: 0, pods: 0 } },
  { policy: 'Foreground', left: { deployments: 0, sets: 0, pods: 0 } },
  { policy: 'Orphan', left: { deployments: 0, sets: 1, pods: 2 } },
] as const
for (const { policy, left } of policies) {
  test(`deleting a deployment, ${policy}`, async (t) => {
    const rig = new Rig(t)
    await rig.addNodes({ ready: true })
    rig.store.create('deployments.apps', deployment('web', 2))
    await rig.run()
    rig.store.delete('deployments.apps', 'default', 'web', { propagationPolicy: policy })
    await rig.idle()
    if (policy === 'Foreground') assert.ok(rig.store.get('deployments.apps', 'default', 'web'), 'waits for its pods')
    await rig.run()
    const count = (resource: string): number => rig.store.list(resource).length
    assert.deepEqual({ deployments: count('deployments.apps'), sets: count('replicasets.apps'), pods: rig.pods().length }, left)
  })
}

test('a cluster at rest stays at rest: heartbeats change nothing', async (t) => {
  const rig = new Rig(t)
  await rig.addNodes({ ready: true })
  rig.store.create('deployments.apps', deployment('web', 2))
  rig.store.create('daemonsets.apps', daemonSet('traefik/whoami'))
  await rig.run()
  const before = rig.store.resourceVersion
  await rig.move(20_000)
  for (const name of nodes) rig.beat(name)
  await rig.idle()
  assert.equal(rig.store.resourceVersion, before + nodes.length)
})
