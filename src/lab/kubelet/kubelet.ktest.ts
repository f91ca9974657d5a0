/**
 * The kubelet stand-in against someone else's plugins: the reference bridge, host-local and portmap of /usr/lib/cni. The file starts itself
 * again in namespaces of its own (net, mount, pid, uts, ipc) and a cgroup, with the lab's API server beside the kubelet.
 */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { Resolver } from 'node:dns/promises'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bareNode } from '#lab/kubelet/testing.ts'
import type { Pod } from '#lab/kubelet/types.ts'
import { readMounts } from '#lab/nodes/mounts.ts'
import { ensureProgram } from '#lab/nodes/pause.ts'
import { until } from '#lab/nodes/until.ts'

const inside = process.env.TWILL_KUBELET_KTEST === '1'
const tree = readMounts().find((m) => m.type === 'cgroup2')?.target

if (!inside) {
  const skip = process.getuid?.() !== 0 ? 'needs root' : existsSync('/usr/lib/cni/bridge') ? false : 'no reference plugins in /usr/lib/cni'
  test('a kubelet, the reference plugins, real pods (see the tests inside)', { skip, timeout: 150_000 }, async () => {
    await ensureProgram('podrun')
    const cgroup = `${tree}/twill-ktest-${process.pid}`
    mkdirSync(`${cgroup}/system`, { recursive: true })
    try {
      const shell = 'echo 0 > "$1"; "$2" "$3"; exit $?'
      const argv = ['-mnuip', '--fork', '--mount-proc', '--propagation', 'shared', 'sh', '-c', shell, 'sh', `${cgroup}/system/cgroup.procs`]
      const env = { ...process.env, TWILL_KUBELET_KTEST: '1', NODE_TEST_CONTEXT: undefined }
      const done = spawnSync('unshare', [...argv, process.execPath, import.meta.filename], { env, encoding: 'utf8' })
      assert.equal(done.status, 0, done.stdout + done.stderr)
      assert.match(done.stdout, /pass [1-9]/)
    } finally {
      writeFileSync(`${cgroup}/cgroup.kill`, '1')
      await until(() => readFileSync(`${cgroup}/cgroup.events`, 'utf8').includes('populated 0'), { everyMs: 10, deadlineMs: 5000 })
      assert.ok(
        !existsSync(`${cgroup}/kubepods`) || readdirSync(`${cgroup}/kubepods`, { withFileTypes: true }).every((e) => !e.isDirectory()),
      )
      if (existsSync(`${cgroup}/kubepods`)) rmdirSync(`${cgroup}/kubepods`)
      rmdirSync(`${cgroup}/system`)
      rmdirSync(cgroup)
    }
  })
} else await insideTests()

async function insideTests(): Promise<void> {
  const {
    sh,
    api,
    startKubelet,
    endKubelet,
    eventually,
    pods,
    container,
    create,
    get,
    ready,
    remove,
    events,
    node,
    nodeReady,
    exec,
    stop,
  } = await bareNode()

  await test('a node registers: NotReady without CNI, the address of the default route', async () => {
    const condition = await eventually('registration', nodeReady)
    assert.deepEqual([condition.status, condition.reason], ['False', 'KubeletNotReady'])
    assert.equal(
      condition.message,
      'container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized',
    )
    const { status, metadata } = await node()
    assert.deepEqual(status.addresses, [
      { type: 'InternalIP', address: '10.0.2.15' },
      { type: 'Hostname', address: 'k8s-w1' },
    ])
    assert.equal(status.nodeInfo.kubeletVersion, 'v1.33.2+twill-lab')
    assert.equal(metadata.labels['kubernetes.io/hostname'], 'k8s-w1')
    await eventually('a lease', () => api.get('/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s-w1'))
  })

  await test('without CNI a host-network pod starts, another waits and is told why', async () => {
    await create('host', { hostNetwork: true })
    await create('first')
    const host = await ready('host')
    assert.equal(host.status?.podIP, '10.0.2.15')
    await eventually('NetworkNotReady', async () => (await events('first')).find((e) => e.reason === 'NetworkNotReady'))
    assert.equal((await get('first')).status?.phase, 'Pending')
  })

  await test('the conflist makes the node Ready and the pod Running', async () => {
    const plugins = [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ]
    mkdirSync('/etc/cni/net.d', { recursive: true })
    writeFileSync('/etc/cni/net.d/10-test.conflist.new', JSON.stringify({ cniVersion: '0.4.0', name: 'testnet', plugins }))
    sh('mv', '/etc/cni/net.d/10-test.conflist.new', '/etc/cni/net.d/10-test.conflist')
    await eventually('Ready', async () => (await nodeReady())?.status === 'True')
    const pod = await ready('first')
    assert.equal(pod.status?.podIP, '10.244.1.2')
    assert.equal(pod.status?.phase, 'Running')
    assert.equal(pod.status?.qosClass, 'BestEffort')
    sh('ping', '-c', '1', '-W', '2', '10.244.1.2')
    const [cache] = readdirSync('/var/lib/cni/results').filter((name) => name.startsWith('testnet-'))
    const entry = JSON.parse(readFileSync(`/var/lib/cni/results/${cache}`, 'utf8')) as Record<string, unknown>
    assert.deepEqual([entry.kind, entry.ifName, entry.networkName], ['cniCacheV1', 'eth0', 'testnet'])
    const reasons = (await events('first')).map((e) => e.reason)
    for (const reason of ['Pulled', 'Created', 'Started']) assert.ok(reasons.includes(reason), reasons.join())
  })

  await test('a pod is up within 400 ms of its creation', async (t) => {
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const start = performance.now()
      await create(`quick-${i}`)
      await ready(`quick-${i}`)
      times.push(performance.now() - start)
    }
    t.diagnostic(`create to Ready: ${times.map((ms) => ms.toFixed(0)).join(', ')} ms`)
    assert.ok(Math.min(...times) < 400, times.join())
    for (let i = 0; i < 5; i++) await api.remove(`${pods}/quick-${i}`, { apiVersion: 'v1', kind: 'DeleteOptions' })
  })

  await test('exec: output, exit status, stdin, missing commands, a terminal with a size', async () => {
    const plain = await exec('first', ['sh', '-c', 'hostname; echo oops >&2; exit 7'])
    assert.deepEqual(
      [plain.out, plain.err, plain.end.reason, plain.end.details?.causes[0]?.message],
      ['first\n', 'oops\n', 'NonZeroExitCode', '7'],
    )
    assert.equal((await exec('first', ['cat'], { stdin: 'through\n' })).out, 'through\n')
    assert.match((await exec('first', ['nonesuch'])).end.message ?? '', /executable file not found in \$PATH/)
    const terminal = await exec('first', ['sh'], { tty: true, stdin: 'sleep 0.2; tty; stty size; exit 5\n', size: [123, 45] })
    assert.match(terminal.out, /\/dev\/pts\/\d+\r\n45 123\r\n/)
    assert.equal(terminal.end.details?.causes[0]?.message, '5')
    const view = await exec('first', [
      'sh',
      '-c',
      'cat /etc/resolv.conf; ps ax | wc -l; ls /sys/class/net; grep CapEff /proc/self/status; ls /run',
    ])
    assert.match(
      view.out,
      /^search default\.svc\.cluster\.local svc\.cluster\.local cluster\.local\b.*\nnameserver 10\.96\.0\.10\noptions ndots:5\n/,
    )
    assert.match(view.out, /\neth0\nlo\n/)
    assert.match(view.out, /CapEff:\t00000000a80425fb/)
  })

  await test('logs: as they were written, the tail, with time stamps, followed', async () => {
    await create('talker', {
      containers: [container({ command: ['sh', '-c', 'echo one; echo two; sleep 0.5; echo three; printf four'] })],
      restartPolicy: 'Never',
    })
    await eventually('start', async () => (await get('talker')).status?.phase !== 'Pending')
    const text = async (query: string): Promise<string> => {
      const argv = [
        '-sS',
        '--cacert',
        '/run/control/pki/ca.crt',
        '--cert',
        '/run/control/pki/admin.crt',
        '--key',
        '/run/control/pki/admin.key',
      ]
      const child = spawn('curl', [...argv, `https://127.0.0.1:6443${pods}/talker/log?${query}`], { stdio: ['ignore', 'pipe', 'inherit'] })
      let out = ''
      for await (const chunk of child.stdout) out += String(chunk)
      return out
    }
    assert.equal(await text('follow=true'), 'one\ntwo\nthree\nfour\n')
    await eventually('its end', async () => (await get('talker')).status?.phase === 'Succeeded')
    assert.equal(await text('tailLines=2'), 'three\nfour\n')
    assert.match(await text('timestamps=true&tailLines=1'), /^\d{4}-\d\d-\d\dT[\d:.]{18}Z four\n$/)
    await remove('talker')
  })

  await test('volumes and variables: ConfigMap, token, hostPath, emptyDir, downward API', async () => {
    await api.create('/api/v1/namespaces/default/configmaps', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings' },
      data: { color: 'blue' },
    })
    const wait = 'until [ -e /from-node/go ]; do sleep 0.05; done'
    const say =
      'echo "$COLOR $POD_IP $GREETING"; cat /settings/color; echo; wc -c < /var/run/secrets/kubernetes.io/serviceaccount/token; mount -t tmpfs t /shared/up; echo done; sleep 100'
    await create('volumes', {
      initContainers: [
        container({
          name: 'init',
          command: ['sh', '-c', 'echo seed > /scratch/seed'],
          volumeMounts: [{ name: 'scratch', mountPath: '/scratch' }],
        }),
      ],
      containers: [
        container({
          command: ['sh', '-c', `${wait}; cat /scratch/seed; ${say}`],
          env: [
            { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'color' } } },
            { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
            { name: 'GREETING', value: 'hello $(COLOR) $(KUBERNETES_SERVICE_HOST)' },
          ],
          volumeMounts: [
            { name: 'scratch', mountPath: '/scratch' },
            { name: 'settings', mountPath: '/settings' },
            { name: 'shared', mountPath: '/shared', mountPropagation: 'Bidirectional' },
            { name: 'from', mountPath: '/from-node', mountPropagation: 'HostToContainer' },
          ],
          securityContext: { privileged: true },
        }),
      ],
      volumes: [
        { name: 'scratch', emptyDir: {} },
        { name: 'settings', configMap: { name: 'settings' } },
        { name: 'shared', hostPath: { path: '/run/shared/', type: 'DirectoryOrCreate' } },
        { name: 'from', hostPath: { path: '/run/from', type: 'DirectoryOrCreate' } },
      ],
    })
    const { status } = await ready('volumes')
    mkdirSync('/run/shared/up', { recursive: true })
    sh('mount', '-t', 'tmpfs', 'tmpfs', '/run/from') // reaches the running container
    writeFileSync('/run/from/go', '')
    const file = await eventually('output', async () => {
      const text = readFileSync(
        readdirSync('/var/log/containers')
          .map((n) => join('/var/log/containers', n))
          .find((n) => n.includes('/volumes_default_main-'))!,
        'utf8',
      )
      return text.includes('done') ? text : undefined
    })
    const lines = file
      .trim()
      .split('\n')
      .map((line) => line.split(' ').slice(3).join(' '))
    assert.equal(lines[0], 'seed')
    assert.equal(lines[1], `blue ${status?.podIP} hello blue 10.96.0.1`)
    assert.equal(lines[2], 'blue')
    assert.ok(Number(lines[3]) > 100, 'a token')
    assert.ok(
      readMounts().some((m) => m.target === '/run/shared/up'),
      'a Bidirectional mount reaches the node',
    )
    sh('umount', '/run/shared/up')
    sh('umount', '/run/from')
    await remove('volumes')
  })

  await test('what fails shows: unknown image, a crash loop, a plugin that refuses', async () => {
    await create('unknown', { containers: [container({ image: 'nginx:1.27' })] })
    await create('crash', { containers: [container({ command: ['sh', '-c', 'exit 3'] })] })
    await eventually('ErrImagePull', async () =>
      /ErrImagePull|ImagePullBackOff/.test((await get('unknown')).status?.containerStatuses?.[0]?.state.waiting?.reason ?? ''),
    )
    assert.match((await get('unknown')).status?.containerStatuses?.[0]?.state.waiting?.message ?? '', /traefik\/whoami/)
    const crash = await eventually('CrashLoopBackOff', async () => {
      const status = (await get('crash')).status?.containerStatuses?.[0]
      return status?.state.waiting?.reason === 'CrashLoopBackOff' ? status : undefined
    })
    assert.deepEqual([crash.restartCount, crash.lastState.terminated?.exitCode], [1, 3])
    sh('mv', '/opt/cni/bin/bridge', '/opt/cni/bin/bridge.away')
    await create('refused')
    const failed = await eventually('FailedCreatePodSandBox', async () =>
      (await events('refused')).find((e) => e.reason === 'FailedCreatePodSandBox'),
    )
    assert.match(
      failed.message,
      /failed to setup network for sandbox "[0-9a-f]{64}": .*failed to find plugin "bridge" in path \[\/opt\/cni\/bin\]/,
    )
    sh('mv', '/opt/cni/bin/bridge.away', '/opt/cni/bin/bridge')
    await ready('refused')
    for (const name of ['unknown', 'crash', 'refused']) await remove(name)
  })

  await test('a killed kubelet finds its pods again; a new --node-ip is followed', async () => {
    const before = await get('first')
    await endKubelet('SIGKILL')
    mkdirSync('/var/lib/kubelet', { recursive: true })
    writeFileSync(
      '/var/lib/kubelet/kubeadm-flags.env',
      'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///x --node-ip=192.168.10.101"\n',
    )
    startKubelet()
    await eventually('InternalIP', async () => (await node()).status.addresses[0]?.address === '192.168.10.101')
    const host = await eventually('podIP', async () => {
      const pod = await get('host')
      return pod.status?.podIP === '192.168.10.101' && pod
    })
    assert.equal(host.status?.hostIP, '192.168.10.101')
    assert.equal(host.status?.containerStatuses?.[0]?.restartCount, 0)
    const after = await eventually('hostIP', async () => {
      const pod = await get('first')
      return pod.status?.hostIP === '192.168.10.101' && pod
    })
    assert.equal(after.status?.containerStatuses?.[0]?.containerID, before.status?.containerStatuses?.[0]?.containerID)
    assert.equal((await exec('first', ['echo', 'still'])).out, 'still\n')
  })

  await test('a static pod is mirrored, comes back when its mirror is deleted, and goes with its file', async () => {
    const manifest = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'kube-scheduler', namespace: 'kube-system' },
      spec: {
        hostNetwork: true,
        containers: [{ name: 'kube-scheduler', image: 'registry.k8s.io/kube-scheduler:v1.33.2', command: ['kube-scheduler'] }],
      },
    }
    writeFileSync('/etc/kubernetes/manifests/kube-scheduler.yaml', JSON.stringify(manifest))
    const path = '/api/v1/namespaces/kube-system/pods/kube-scheduler-k8s-w1'
    const running = (): Promise<Pod> =>
      eventually('the mirror Running', async () => {
        const pod = await api.get<Pod>(path)
        return pod.status?.phase === 'Running' && pod
      })
    const first = await running()
    await api.remove(path, { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 })
    await eventually('a new mirror', async () => (await api.get<Pod>(path)).metadata.uid !== first.metadata.uid)
    const second = await running()
    assert.equal(second.status?.containerStatuses?.[0]?.containerID, first.status?.containerStatuses?.[0]?.containerID)
    sh('rm', '/etc/kubernetes/manifests/kube-scheduler.yaml')
    await eventually('its end', () =>
      api.get(path).then(
        () => false,
        () => true,
      ),
    )
  })

  await test('whoami answers over the network with who asked', async () => {
    await create('whoami', {
      containers: [container({ image: 'traefik/whoami', command: [], readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 } })],
    })
    const { status } = await ready('whoami')
    const said = await exec('first', ['curl', '-s', '-m', '3', `http://${status?.podIP}/`])
    const asker = (await get('first')).status?.podIP
    assert.match(
      said.out,
      new RegExp(
        `^Hostname: whoami\nIP: 127\\.0\\.0\\.1\nIP: ::1\nIP: ${status?.podIP}\n(IP: fe80.*\n)?RemoteAddr: ${asker}:\\d+\nGET / HTTP/1\\.1\r\nHost: ${status?.podIP}\r\nUser-Agent: curl/.*\r\nAccept: \\*/\\*\r\n\r\n$`,
      ),
    )
    await remove('whoami')
  })

  await test('coredns answers for the cluster with its ServiceAccount, and is Ready when it knows it', async () => {
    await api.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      ...{ apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'ClusterRoleBinding', metadata: { name: 'dns' } },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: [{ kind: 'ServiceAccount', name: 'default', namespace: 'default' }],
    })
    // No services here: the API server is reached at the node's address instead of 10.96.0.1.
    const env = [
      { name: 'KUBERNETES_SERVICE_HOST', value: '10.0.2.15' },
      { name: 'KUBERNETES_SERVICE_PORT', value: '6443' },
    ]
    const readinessProbe = { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 }
    await create('dns', {
      dnsPolicy: 'Default',
      containers: [container({ image: 'coredns', command: [], args: ['-conf', '/etc/coredns/Corefile'], env, readinessProbe })],
    })
    const { status } = await ready('dns')
    const resolver = new Resolver({ timeout: 2000, tries: 2 })
    resolver.setServers([status!.podIP!])
    assert.deepEqual(await resolver.resolve4('kubernetes.default.svc.cluster.local'), ['10.96.0.1'])
    assert.equal((await resolver.resolveSrv('_https._tcp.kubernetes.default.svc.cluster.local'))[0]?.port, 443)
    await assert.rejects(resolver.resolve4('none.default.svc.cluster.local'), { code: 'ENOTFOUND' })
    await remove('dns')
  })

  await test('deletion leaves nothing: no veth, address, namespace, directory, log or process', async () => {
    for (const name of ['first', 'host']) await remove(name)
    await eventually('the rest gone', async () => (await api.get<{ items: Pod[] }>(pods)).items.length === 0)
    assert.deepEqual(readdirSync('/run/netns'), [])
    assert.doesNotMatch(sh('ip', '-o', 'link'), /veth/)
    assert.deepEqual(
      readdirSync('/var/lib/cni/networks/testnet').filter((name) => /^\d/.test(name)),
      [],
    )
    for (const dir of ['/var/lib/cni/results', '/var/lib/kubelet/pods', '/var/log/pods', '/var/log/containers'])
      assert.deepEqual(readdirSync(dir), [], dir)
    assert.doesNotMatch(sh('ps', '-eo', 'comm'), /podrun|pause/)
  })

  // Not in an `after` hook: at the top level that runs as soon as no test waits, which is after the first.
  await stop()
}
