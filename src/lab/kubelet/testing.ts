/**
 * A bare node for the kubelet's tests: address, CNI plugins, an API server on 127.0.0.1 and the kubelet stand-in, in the namespaces that
 * the caller is in (net, mount, pid, uts, ipc). It mounts over /etc, /run and /var: never call it in the machine's own.
 * @module
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { WebSocket } from 'ws'
import { Api, ApiError, accessFromKubeconfig } from '#lab/api.ts'
import { type ControlPlane, runControlPlane } from '#lab/control/main.ts'
import { makePki } from '#lab/control/pki.ts'
import type { Container, Pod, PodSpec } from '#lab/kubelet/types.ts'
import { readMounts } from '#lab/nodes/mounts.ts'
import { until } from '#lab/nodes/until.ts'
import { repo } from '#lab/repo.ts'

/** What a command in a pod said, and how it ended. */
export interface Ran {
  out: string
  err: string
  end: { status: string; message?: string; reason?: string; details?: { causes: { message: string }[] } }
}

/** Makes the node k8s-w1 and starts its kubelet.
 * @returns  What the tests do with them; `eventually` fails with the kubelet's own words, `stop` ends kubelet and API server. */
export async function bareNode() {
  const sh = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
  const own = ['/run', '/var/lib/kubelet', '/var/lib/cni', '/opt', '/etc/cni', '/etc/kubernetes', '/var/log/pods', '/var/log/containers']
  // What has no mount point on this machine is not made there: the parent gets a tmpfs instead, over what little the test needs of it.
  sh('mount', '-t', 'tmpfs', 'tmpfs', '/var/log')
  sh('mount', '-t', 'overlay', 'overlay', '-o', overlay('/etc', '/mnt/etc'), '/etc')
  sh('mount', '-t', 'overlay', 'overlay', '-o', overlay('/var/lib', '/mnt/varlib'), '/var/lib')
  for (const dir of own) {
    mkdirSync(dir, { recursive: true })
    sh('mount', '-t', 'tmpfs', 'tmpfs', dir)
  }
  function overlay(lower: string, dir: string): string {
    if (!readMounts().some((m) => m.target === '/mnt')) sh('mount', '-t', 'tmpfs', 'tmpfs', '/mnt')
    mkdirSync(`${dir}/upper`, { recursive: true })
    mkdirSync(`${dir}/work`, { recursive: true })
    return `lowerdir=${lower},upperdir=${dir}/upper,workdir=${dir}/work`
  }
  writeFileSync('/proc/sys/kernel/hostname', 'k8s-w1')
  sh('ip', 'link', 'set', 'lo', 'up')
  sh('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'out')
  for (const address of ['10.0.2.15/24', '192.168.10.101/24']) sh('ip', 'addr', 'add', address, 'dev', 'eth0')
  for (const link of ['eth0', 'out']) sh('ip', 'link', 'set', link, 'up')
  sh('ip', 'route', 'add', 'default', 'via', '10.0.2.2')
  mkdirSync('/opt/cni/bin', { recursive: true })
  for (const name of ['bridge', 'host-local', 'portmap', 'loopback']) copyFileSync(`/usr/lib/cni/${name}`, `/opt/cni/bin/${name}`)

  const nodes = [{ name: 'k8s-w1', ip: '127.0.0.1' }]
  await makePki('/run/control/pki', { nodes, controlPlaneIp: '127.0.0.1' })
  const plane: ControlPlane = await runControlPlane({
    ...{ stateDir: '/run/control', nodes, controlPlaneNode: 'k8s-w1', port: 6443 },
    ...{ serviceCidr: '10.96.0.0/16', podCidr: '10.244.0.0/16', clusterDns: '10.96.0.10' },
  })
  copyFileSync('/run/control/pki/kubelet-k8s-w1.conf', '/etc/kubernetes/kubelet.conf')
  mkdirSync('/etc/kubernetes/pki', { recursive: true })
  for (const file of ['kubelet-serving-k8s-w1.crt', 'kubelet-serving-k8s-w1.key'])
    copyFileSync(`/run/control/pki/${file}`, `/etc/kubernetes/pki/${file}`)
  const access = accessFromKubeconfig(readFileSync('/run/control/pki/admin.conf', 'utf8'))
  const api = new Api(access)

  let log = ''
  let kubelet: ChildProcess
  const startKubelet = (): void => {
    kubelet = spawn(
      process.execPath,
      ['--input-type=module', '-e', "import { runKubelet } from '#lab/kubelet/main.ts'; await runKubelet([])"],
      {
        ...{ cwd: repo, stdio: ['ignore', 'pipe', 'pipe'] },
      },
    )
    for (const stream of [kubelet.stdout!, kubelet.stderr!]) {
      stream.on('data', (bytes: Buffer) => {
        log += bytes.toString()
      })
    }
  }
  const endKubelet = async (signal: NodeJS.Signals): Promise<void> => {
    const ended = new Promise((resolve) => kubelet.once('exit', resolve))
    kubelet.kill(signal)
    await ended
  }
  startKubelet()

  const eventually = async <T>(what: string, probe: () => Promise<T | undefined | false>): Promise<T> => {
    let found: T | undefined | false
    const good = await until(
      async () => {
        found = await probe().catch((error: unknown) => {
          if (error instanceof ApiError) return undefined
          throw error
        })
        return Boolean(found)
      },
      { everyMs: 20, deadlineMs: 15_000 },
    )
    assert.ok(good, `${what} did not happen; the kubelet said:\n${log.slice(-6000)}`)
    return found as T
  }
  const pods = '/api/v1/namespaces/default/pods'
  const container = (more: Partial<Container> = {}): Container => ({
    name: 'main',
    image: 'nicolaka/netshoot:v0.13',
    command: ['sh', '-c', 'trap "exit 0" TERM; echo up; while :; do sleep 0.1; done'],
    ...more,
  })
  const create = (name: string, spec: Partial<PodSpec> = {}): Promise<Pod> =>
    api.create<Pod>(pods, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        nodeName: 'k8s-w1',
        tolerations: [{ operator: 'Exists' }],
        terminationGracePeriodSeconds: 2,
        containers: [container()],
        ...spec,
      },
    })
  const get = (name: string): Promise<Pod> => api.get<Pod>(`${pods}/${name}`)
  const ready = (name: string): Promise<Pod> =>
    eventually(`pod ${name} Ready`, async () => {
      const pod = await get(name)
      return pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ? pod : undefined
    })
  const remove = async (name: string): Promise<void> => {
    await api.remove(`${pods}/${name}`, { apiVersion: 'v1', kind: 'DeleteOptions' })
    await eventually(`pod ${name} gone`, () =>
      get(name).then(
        () => false,
        () => true,
      ),
    )
  }
  const events = async (name: string): Promise<{ reason: string; message: string }[]> =>
    (
      await api.get<{ items: { reason: string; message: string; involvedObject: { name: string } }[] }>('/api/v1/namespaces/default/events')
    ).items.filter((e) => e.involvedObject.name === name)
  const node = (): Promise<{
    metadata: { labels: Record<string, string> }
    status: {
      conditions: { type: string; status: string; message: string; reason: string }[]
      addresses: { type: string; address: string }[]
      nodeInfo: Record<string, string>
    }
  }> => api.get('/api/v1/nodes/k8s-w1')
  const nodeReady = async () => (await node()).status.conditions.find((c) => c.type === 'Ready')

  const exec = (pod: string, command: string[], o: { tty?: boolean; stdin?: string; size?: [number, number] } = {}): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const query = new URLSearchParams([
        ...command.map((word) => ['command', word]),
        ['stdout', 'true'],
        ['stdin', String(o.stdin !== undefined)],
      ])
      query.set(o.tty ? 'tty' : 'stderr', 'true')
      const ws = new WebSocket(`wss://127.0.0.1:6443${pods}/${pod}/exec?${query}`, ['v5.channel.k8s.io'], {
        ca: access.ca,
        cert: access.cert,
        key: access.key,
      })
      const ran: Ran = { out: '', err: '', end: { status: '' } }
      ws.on('open', () => {
        if (o.size) ws.send(Buffer.concat([Buffer.of(4), Buffer.from(JSON.stringify({ Width: o.size[0], Height: o.size[1] }))]))
        if (o.stdin !== undefined) {
          ws.send(Buffer.concat([Buffer.of(0), Buffer.from(o.stdin)]))
          if (!o.tty) ws.send(Buffer.of(255, 0))
        }
      })
      ws.on('message', (data: Buffer) => {
        const text = data.subarray(1).toString()
        if (data[0] === 1) ran.out += text
        else if (data[0] === 2) ran.err += text
        else if (data[0] === 3) ran.end = JSON.parse(text)
      })
      ws.on('close', () => resolve(ran))
      ws.on('error', reject)
    })

  const stop = async (): Promise<void> => {
    await endKubelet('SIGTERM')
    await plane.stop()
  }
  return { sh, api, startKubelet, endKubelet, eventually, pods, container, create, get, ready, remove, events, node, nodeReady, exec, stop }
}
