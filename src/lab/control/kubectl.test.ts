/** The real kubectl against the real server, on 127.0.0.1. What a person types in the lab, and the words that come back. */
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { WebSocketServer } from 'ws'
import { type ControlPlane, runControlPlane } from '#lab/control/main.ts'
import { makePki, writeKubeconfig } from '#lab/control/pki.ts'
import type { KubeObject } from '#lab/control/store.ts'
import type { Tree } from '#lab/control/tree.ts'

function kubectlVersion(): string | undefined {
  try {
    return JSON.parse(execFileSync('kubectl', ['version', '--client', '-ojson'], { encoding: 'utf8' })).clientVersion.gitVersion
  } catch {
    return undefined
  }
}
const version = kubectlVersion()
const skip = version === undefined ? 'no kubectl on PATH' : false

const dir = mkdtempSync(join(tmpdir(), `twill-kubectl-${process.pid}-`))
const nodes = [{ name: 'k8s-ctr', ip: '127.0.0.1' }]
const options = {
  stateDir: dir,
  nodes,
  controlPlaneNode: 'k8s-ctr',
  port: 0,
  serviceCidr: '10.96.0.0/16',
  podCidr: '10.244.0.0/16',
  clusterDns: '10.96.0.10',
}
let plane: ControlPlane
let config = ''

interface Ran {
  code: number
  out: string
  err: string
}
/** Runs kubectl; a string in `input` is its stdin. */
function run(args: readonly string[], input = ''): Promise<Ran> {
  return new Promise((resolve) => {
    const env = { ...process.env, HOME: dir, KUBECONFIG: config, EDITOR: 'true' }
    const child = execFile('kubectl', [...args], { env, timeout: 30_000 }, (error, out, err) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err }),
    )
    child.stdin?.end(input)
  })
}
/** What it prints, without the spaces that columns are filled with. It must succeed. */
async function kubectl(line: string, input?: string | object): Promise<string> {
  const { code, out, err } = await run(line.split(' '), typeof input === 'object' ? JSON.stringify(input) : input)
  assert.equal(code, 0, `kubectl ${line}: ${err}`)
  return (out + err)
    .split('\n')
    .map((row) => row.trim().replaceAll(/ {2,}/g, '|'))
    .join('\n')
    .trim()
}
async function refused(line: string, input?: object): Promise<string> {
  const { code, err } = await run(line.split(' '), input && JSON.stringify(input))
  assert.notEqual(code, 0, `kubectl ${line} should fail`)
  return err.trim()
}

const webpod = (extra: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'webpod' },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'webpod' } },
    template: { metadata: { labels: { app: 'webpod' } }, spec: { containers: [{ name: 'webpod', image: 'traefik/whoami' }] } },
    ...extra,
  },
})

/** Enough of a kubelet: it answers logs, and exec by WebSocket. */
function fakeKubelet(): Server {
  const file = (name: string) => readFileSync(join(dir, 'pki', name))
  const tls = { cert: file('kubelet-serving-k8s-ctr.crt'), key: file('kubelet-serving-k8s-ctr.key'), ca: file('ca.crt'), requestCert: true }
  const server = createServer(tls, (request, response) => {
    if (request.url?.startsWith('/containerLogs/default/curl-pod/curl-pod')) response.end(`log of ${request.url}\n`)
    else response.writeHead(404).end('404 page not found\n')
  })
  const sockets = new WebSocketServer({
    server,
    handleProtocols: (asked) => (asked.has('v5.channel.k8s.io') ? 'v5.channel.k8s.io' : false),
  })
  sockets.on('connection', (socket, request) => {
    socket.send(Buffer.concat([Buffer.from([1]), Buffer.from(`ran ${request.url}\n`)]))
    socket.send(Buffer.concat([Buffer.from([3]), Buffer.from(JSON.stringify({ metadata: {}, status: 'Success' }))]))
    socket.close(1000)
  })
  return server
}

async function start(): Promise<void> {
  plane = await runControlPlane(options)
  config = writeKubeconfig(join(dir, 'pki'), { file: 'host.conf', server: `https://127.0.0.1:${plane.port}`, user: 'admin' })
}

suite(`kubectl ${version ?? ''}`, { skip }, () => {
  before(async () => {
    await makePki(join(dir, 'pki'), { nodes, controlPlaneIp: '127.0.0.1' })
    await start()
  })
  after(async () => {
    await plane.stop()
    rmSync(dir, { recursive: true })
  })

  test('create, of every kind that kubectl can make itself (protobuf from 1.33 on)', async () => {
    assert.equal(await kubectl('create ns kube-flannel'), 'namespace/kube-flannel created')
    assert.equal(await kubectl('label ns kube-flannel pod-security.kubernetes.io/enforce=privileged'), 'namespace/kube-flannel labeled')
    assert.equal(await kubectl('create configmap c --from-literal=a=b'), 'configmap/c created')
    assert.equal(await kubectl('create secret generic s --from-literal=p=q'), 'secret/s created')
    assert.equal(await kubectl('get secret s -ojsonpath={.data.p}'), 'cQ==')
    assert.equal(await kubectl('create deploy d --image=x --replicas=0 --port=80'), 'deployment.apps/d created')
    assert.equal(
      await kubectl('get deploy d -ojsonpath={.spec.replicas}:{.spec.template.spec.containers[0].ports}'),
      '0:[{"containerPort":80,"protocol":"TCP"}]',
    )
    assert.match(await kubectl('get cm -A'), /^kube-flannel\|kube-root-ca.crt\|1\|/m)
    assert.match(await kubectl('get sa -n kube-flannel'), /^default\|0\|/m)
  })

  test('apply, get -owide, describe, scale, label, annotate, edit, rollout, delete', async () => {
    assert.equal(await kubectl('apply -f -', webpod()), 'deployment.apps/webpod created')
    assert.equal(await kubectl('apply -f -', webpod()), 'deployment.apps/webpod unchanged')
    assert.equal(await kubectl('apply -f -', webpod({ replicas: 1 })), 'deployment.apps/webpod configured')
    assert.equal(await kubectl('expose deploy webpod --port=80'), 'service/webpod exposed')
    const wide = await kubectl('get deploy,svc,ep webpod -owide')
    assert.match(wide, /^NAME\|READY\|UP-TO-DATE\|AVAILABLE\|AGE\|CONTAINERS\|IMAGES\|SELECTOR$/m)
    assert.match(wide, /^deployment.apps\/webpod\|0\/1\|1\|0\|\w+\|webpod\|traefik\/whoami\|app=webpod$/m)
    assert.match(wide, /^service\/webpod\|ClusterIP\|10\.96\.\d+\.\d+\|<none>\|80\/TCP\|\w+\|app=webpod$/m)
    assert.equal(await kubectl('scale deploy webpod --replicas=3'), 'deployment.apps/webpod scaled')
    assert.equal(await kubectl('get deploy webpod -ojsonpath={.spec.replicas}'), '3')
    assert.equal(await kubectl('annotate deploy webpod note=x'), 'deployment.apps/webpod annotated')
    assert.equal(await kubectl('set image deploy/webpod webpod=traefik/whoami:v1.10'), 'deployment.apps/webpod image updated')
    assert.equal(await kubectl('rollout restart deploy webpod'), 'deployment.apps/webpod restarted')
    assert.match(await kubectl('rollout history deploy webpod'), /REVISION/)
    assert.match(await kubectl('edit deploy webpod'), /no changes made/)
    assert.match(await kubectl('describe deploy webpod'), /^Image:\|traefik\/whoami:v1.10$/m)
    assert.match(await kubectl('describe svc webpod'), /^IP:\|10\.96\./m)
    assert.match(await kubectl('delete deploy,svc webpod'), /^deployment.apps "webpod" deleted/)
    assert.match(await refused('get deploy webpod'), /^Error from server \(NotFound\): deployments.apps "webpod" not found$/)
  })

  test('patches of the three types, and a server-side apply that is refused by name', async () => {
    await kubectl('create configmap p --from-literal=a=1 --from-literal=b=2')
    await kubectl('patch cm p --type=merge -p {"data":{"a":null,"c":"3"}}')
    await kubectl('patch cm p --type=json -p [{"op":"replace","path":"/data/b","value":"4"}]')
    await kubectl('patch cm p --type=strategic -p {"metadata":{"labels":{"x":"y"}}}')
    assert.equal(await kubectl('get cm p -ojsonpath={.data}{.metadata.labels}'), '{"b":"4","c":"3"}{"x":"y"}')
    assert.match(await refused('apply --server-side -f -', webpod()), /no server-side apply; leave --server-side out/)
  })

  test('mistakes are named as kube-apiserver names them', async () => {
    const cases: [object, RegExp][] = [
      [
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec: { containers: [{ name: 'a' }] } },
        /The Pod "x" is invalid: spec.containers\[0\].image: Required value/,
      ],
      [
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec: { foo: 1, containers: [{ name: 'a', image: 'b' }] } },
        /Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo"/,
      ],
      [
        { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, spec: { containers: 'a' } },
        /cannot unmarshal string into Go struct field Pod.spec.containers of type \[\]v1.Container/,
      ],
      [
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'X_y' } },
        /metadata.name: Invalid value: "X_y": a lowercase RFC 1123 subdomain/,
      ],
      [webpod({ selector: { matchLabels: { app: 'z' } } }), /`selector` does not match template `labels`/],
      [
        { apiVersion: 'v1', kind: 'Service', metadata: { name: 'x' }, spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] } },
        /provided IP is already allocated/,
      ],
      [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x', namespace: 'nope' } }, /namespaces "nope" not found/],
      [{ apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { name: 'x' } }, /no matches for kind "StatefulSet" in version "apps\/v1"/],
    ]
    for (const [object, want] of cases) assert.match(await refused('create -f -', object), want)
    const { err } = await run(['create', '--validate=warn', '-f', '-'], JSON.stringify({ ...webpod(), spec: { ...webpod().spec, foo: 1 } }))
    assert.match(err, /Warning: unknown field "spec.foo"/)
    await kubectl('delete deploy webpod')
    assert.match(await refused('delete ns kube-system'), /namespaces "kube-system" is forbidden: this namespace may not be deleted/)
    assert.match(await refused('get --raw /apis/apps/v1/statefulsets'), /the embedded lab control plane does not serve statefulsets/)
  })

  test('services: node ports are given, kept and refused; affinity and policies are checked', async () => {
    const service = (spec: object, name = 'web') => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }], ...spec },
    })
    const field = (path: string): Promise<string> => kubectl(`get svc web -ojsonpath={.spec.${path}}`)
    await kubectl('create -f -', service({ type: 'NodePort', sessionAffinity: 'ClientIP' }))
    const port = await field('ports[0].nodePort')
    assert.ok(Number(port) >= 30000 && Number(port) <= 32767, port)
    assert.match(await kubectl('get svc web'), new RegExp(`\\nweb\\|NodePort\\|10\\.96\\.\\S+\\|<none>\\|80:${port}/TCP\\|`))
    assert.equal(await field('sessionAffinityConfig.clientIP.timeoutSeconds'), '10800')
    assert.equal(await field('externalTrafficPolicy'), 'Cluster')
    await kubectl('patch svc web -p {"spec":{"sessionAffinity":"None"}}')
    assert.equal(await field('sessionAffinityConfig'), '')
    await kubectl('apply -f -', service({ type: 'NodePort' }))
    assert.equal(await field('ports[0].nodePort'), port)
    const two = [
      { name: 'a', port: 53, protocol: 'UDP', nodePort: 30053 },
      { name: 'b', port: 53, nodePort: 30053 },
    ]
    await kubectl('create -f -', service({ type: 'NodePort', ports: two }, 'dns'))
    const cases: [object, RegExp][] = [
      [
        { type: 'NodePort', ports: [{ port: 80, nodePort: Number(port) }] },
        /spec.ports\[0\].nodePort: Invalid value: \d+: provided port is already allocated/,
      ],
      [{ type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] }, /The range of valid ports is 30000-32767/],
      [{ ports: [{ port: 80, nodePort: 30001 }] }, /spec.ports\[0\].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'/],
      [{ sessionAffinity: 'Cookie' }, /spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"/],
      [
        { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 86401 } } },
        /spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400/,
      ],
      [
        { externalTrafficPolicy: 'Local' },
        /spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services/,
      ],
      [{ internalTrafficPolicy: 'Near' }, /spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"/],
    ]
    for (const [spec, want] of cases) assert.match(await refused('create -f -', service(spec, 'other')), want)
    await kubectl('patch svc web -p {"spec":{"type":"ClusterIP"}}')
    assert.equal(await field('ports[0].nodePort'), '')
    assert.equal(await field('externalTrafficPolicy'), '')
    await kubectl('delete svc web dns')
  })

  test('dry run keeps nothing', async () => {
    assert.equal(await kubectl('create configmap dry --dry-run=server'), 'configmap/dry created (server dry run)')
    assert.match(await refused('get cm dry'), /NotFound/)
  })

  test('a pod: defaults, node columns, logs, exec, wait, graceful deletion', async (t) => {
    const kubelet = fakeKubelet().listen(0, '127.0.0.1')
    await once(kubelet, 'listening')
    const closeKubelet = () => {
      kubelet.closeAllConnections()
      kubelet.close()
    }
    t.after(closeKubelet)
    const { port } = kubelet.address() as { port: number }
    const status = {
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
      nodeInfo: {
        kubeletVersion: 'v1.33.2+twill-lab',
        osImage: 'Debian',
        kernelVersion: '6.1',
        containerRuntimeVersion: 'twill-lab://0.1.0',
      },
    }
    const labels = { 'node-role.kubernetes.io/control-plane': '' }
    await kubectl('create -f -', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'k8s-ctr', labels }, status })
    const [head, row] = (await kubectl('get node -owide')).split('\n')
    assert.equal(head, 'NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP|EXTERNAL-IP|OS-IMAGE|KERNEL-VERSION|CONTAINER-RUNTIME')
    assert.match(row!, /^k8s-ctr\|Ready\|control-plane\|\w+\|v1.33.2\+twill-lab\|127.0.0.1\|<none>\|Debian\|6.1\|twill-lab:\/\/0.1.0$/)

    const overrides = '{"apiVersion":"v1","spec":{"nodeName":"k8s-ctr"}}'
    assert.equal(
      await kubectl(`run curl-pod --image=nicolaka/netshoot --overrides=${overrides} --command -- sleep infinity`),
      'pod/curl-pod created',
    )
    const spec = JSON.parse(await kubectl('get pod curl-pod -ojsonpath={.spec}')) as Tree
    assert.deepEqual(
      [
        spec.restartPolicy,
        spec.dnsPolicy,
        spec.terminationGracePeriodSeconds,
        spec.serviceAccountName,
        (spec.tolerations as Tree[]).length,
      ],
      ['Always', 'ClusterFirst', 30, 'default', 2],
    )
    plane.store.edit<KubeObject & { status: Tree }>(
      'pods',
      'default',
      'curl-pod',
      (pod) => {
        pod.status = {
          phase: 'Running',
          podIP: '10.244.0.2',
          podIPs: [{ ip: '10.244.0.2' }],
          conditions: [{ type: 'Ready', status: 'True' }],
          containerStatuses: [{ name: 'curl-pod', ready: true, restartCount: 0, state: { running: {} } }],
        }
      },
      'status',
    )
    assert.match(await kubectl('get pod curl-pod -owide'), /^curl-pod\|1\/1\|Running\|0\|\w+\|10.244.0.2\|k8s-ctr\|<none>\|<none>$/m)
    assert.match(await kubectl('wait pod/curl-pod --for=condition=Ready --timeout=10s'), /condition met/)
    assert.equal(await kubectl('logs curl-pod --tail=5'), 'log of /containerLogs/default/curl-pod/curl-pod?tailLines=5')
    assert.match(
      await kubectl('exec curl-pod -- echo hi'),
      /^ran \/exec\/default\/curl-pod\/curl-pod\?command=echo&command=hi&output=1&error=1$/m,
    )
    assert.match(await kubectl('describe pod curl-pod'), /^Node:\|k8s-ctr/m)

    closeKubelet()
    const dial = `dial tcp 127.0.0.1:${port}: connect: connection refused`
    assert.match(
      await refused('logs curl-pod'),
      new RegExp(`Get "https://127.0.0.1:${port}/containerLogs/default/curl-pod/curl-pod": ${dial}`),
    )
    assert.match(await refused('exec curl-pod -- true'), new RegExp(`error dialing backend: ${dial}`))

    await kubectl('delete pod curl-pod --wait=false')
    assert.match(await kubectl('get pod curl-pod'), /^curl-pod\|1\/1\|Terminating\|/m)
    await kubectl('delete pod curl-pod --grace-period=0 --force')
    assert.match(await refused('get pod curl-pod'), /NotFound/)
  })

  test('get -w prints changes as they come', async (t) => {
    const child = spawn('kubectl', ['get', 'cm', '-w', '-n', 'kube-public', '--no-headers'], {
      env: { ...process.env, HOME: dir, KUBECONFIG: config },
    })
    t.after(() => child.kill())
    let seen = ''
    const saw = async (wanted: RegExp) => {
      const deadline = Date.now() + 15_000
      while (!wanted.test(seen)) {
        if (Date.now() > deadline) assert.fail(`no ${wanted} in: ${seen}`)
        await once(child.stdout, 'data', { signal: AbortSignal.timeout(15_000) }).catch(() => {})
      }
    }
    child.stdout.on('data', (part) => {
      seen += part
    })
    await saw(/^kube-root-ca.crt/m)
    await kubectl('create configmap seen -n kube-public')
    await saw(/^seen +0 /m)
    await kubectl('patch cm seen -n kube-public --type=merge -p {"data":{"k":"v"}}')
    await saw(/^seen +1 /m)
    child.kill()
    await once(child, 'close')
  })

  test('RBAC: a ServiceAccount may what its role says, and the refusal says what it may not', async () => {
    await kubectl('create sa agent')
    await kubectl('create clusterrole agent --verb=get,list,watch --resource=nodes')
    await kubectl('create clusterrolebinding agent --clusterrole=agent --serviceaccount=default:agent')
    const token = await kubectl('create token agent')
    const admin = config
    const parsed = JSON.parse(readFileSync(admin, 'utf8'))
    config = join(dir, 'agent.conf')
    try {
      writeFileSync(config, JSON.stringify({ ...parsed, users: [{ name: 'kubernetes-admin', user: { token } }] }))
      assert.match(await kubectl('get nodes'), /k8s-ctr/)
      assert.equal(
        await refused('get pods'),
        'Error from server (Forbidden): pods is forbidden: User "system:serviceaccount:default:agent" cannot list resource "pods" in API group "" in the namespace "default"',
      )
      assert.match(
        await refused('delete node k8s-ctr'),
        /nodes "k8s-ctr" is forbidden: User .* cannot delete resource "nodes" in API group "" at the cluster scope/,
      )
      assert.match(await kubectl('auth whoami'), /system:serviceaccount:default:agent/)
      writeFileSync(
        config,
        JSON.stringify({ ...parsed, users: [{ name: 'kubernetes-admin', user: { token: `${token.slice(0, -4)}AAAA` } }] }),
      )
      assert.match(await refused('get nodes'), /You must be logged in to the server/)
    } finally {
      config = admin
    }
    assert.match(await kubectl('auth can-i list nodes --as=system:serviceaccount:default:agent'), /^yes$/m)
    assert.match(await refused('get secrets --as=system:serviceaccount:default:agent'), /cannot list resource "secrets"/)
  })

  test('a namespace goes with all that is in it', async () => {
    await kubectl('create ns doomed')
    await kubectl('create configmap inside -n doomed')
    assert.equal(await kubectl('delete ns doomed --timeout=20s'), 'namespace "doomed" deleted')
    assert.match(await refused('get cm inside -n doomed'), /NotFound/)
  })

  test('lists come in pages; a streamed list ends in a bookmark that says so', async () => {
    const whole = await kubectl('get cm -A -oname')
    assert.equal(await kubectl('get cm -A -oname --chunk-size=1'), whole)
    const page = JSON.parse(await kubectl('get --raw /api/v1/configmaps?limit=1'))
    assert.equal(page.items.length, 1)
    assert.equal(page.metadata.remainingItemCount, whole.split('\n').length - 1)

    const query = 'watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1'
    const events = (await kubectl(`get --raw /api/v1/namespaces?${query}`)).split('\n').map((line) => JSON.parse(line))
    const last = events.pop()
    assert.ok(events.length >= 4 && events.every((event) => event.type === 'ADDED'))
    assert.equal(last.type, 'BOOKMARK')
    assert.equal(last.object.metadata.annotations['k8s.io/initial-events-end'], 'true')
    assert.match(await refused('get --raw /api/v1/namespaces?watch=1&sendInitialEvents=true'), /resourceVersionMatch/)
  })

  test('explain, api-resources, version', async () => {
    assert.match(await kubectl('explain pod.spec.containers.ports'), /^FIELD: ports <\[\]ContainerPort>/m)
    assert.match(await kubectl('api-resources'), /^deployments\|deploy\|apps\/v1\|true\|Deployment$/m)
    assert.match(await kubectl('version'), /Server Version: v1.33.2\+twill-lab/)
  })

  test('a restarted control plane has its objects, and an old watch is told to list again', async () => {
    const before = plane.store.resourceVersion
    await plane.stop()
    await start()
    assert.match(await kubectl('get cm'), /^p\|2\|/m)
    const events = await kubectl(`get --raw /api/v1/nodes?watch=1&resourceVersion=${before}`)
    assert.match(events, /^\{"type":"ERROR","object":.*"reason":"Expired".*"code":410/)
  })
})
