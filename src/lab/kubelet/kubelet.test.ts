import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { goJson, parseNetwork, pluginInput, podIpsOf } from '#lab/kubelet/cni.ts'
import { parseKubeadmFlags } from '#lab/kubelet/config.ts'
import { ConfigMissing, environmentOf, expand, fieldOf, serviceVariables } from '#lab/kubelet/env.ts'
import { endStatus, execOptions } from '#lab/kubelet/exec.ts'
import { logOptions, showLine, tail } from '#lab/kubelet/logs.ts'
import { conditionsOf, osImage } from '#lab/kubelet/node-object.ts'
import { capabilitiesForPorts, dnsOf, hostsFile, parseResolvConf, resolvConf } from '#lab/kubelet/pod-files.ts'
import { type ContainerView, type PodView, podStatus, qosClass } from '#lab/kubelet/pod-status.ts'
import type { Instance } from '#lab/kubelet/records.ts'
import { capabilitiesOf } from '#lab/kubelet/security.ts'
import { mirrorOf, staticPod } from '#lab/kubelet/static-pods.ts'
import type { Container, Pod, PodSpec } from '#lab/kubelet/types.ts'
import { writeAtomically } from '#lab/kubelet/volumes.ts'

const container: Container = { name: 'main', image: 'traefik/whoami' }
const pod = (spec: Partial<PodSpec> = {}): Pod => ({
  metadata: { name: 'p', namespace: 'default', uid: 'u' },
  spec: { containers: [container], ...spec },
})

const flagLines: [text: string, want: [string, string][]][] = [
  [
    'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/x.sock --node-ip=192.168.10.101"\n',
    [
      ['container-runtime-endpoint', 'unix:///run/x.sock'],
      ['node-ip', '192.168.10.101'],
    ],
  ],
  [
    "KUBELET_KUBEADM_ARGS='--node-ip 192.168.10.101 --x'",
    [
      ['node-ip', '192.168.10.101'],
      ['x', 'true'],
    ],
  ],
  ['# nothing\n', []],
  // What a sed of a tutorial leaves: the flag put before the others.
  [
    'KUBELET_KUBEADM_ARGS="--node-ip=192.168.10.102 --pod-infra-container-image=registry.k8s.io/pause:3.10"',
    [
      ['node-ip', '192.168.10.102'],
      ['pod-infra-container-image', 'registry.k8s.io/pause:3.10'],
    ],
  ],
]
for (const [text, want] of flagLines) test(`kubeadm flags: ${text.trim()}`, () => assert.deepEqual([...parseKubeadmFlags(text)], want))
test('kubeadm flags: a word that is none is named', () =>
  assert.throws(() => parseKubeadmFlags('KUBELET_KUBEADM_ARGS="node-ip=1"'), /"node-ip=1" is no flag/))

test('cni: a list, a lone plugin, and what is refused', () => {
  assert.deepEqual(parseNetwork('10-a.conflist', '{"name":"n","plugins":[{"type":"t"}]}').cniVersion, '0.1.0')
  assert.equal(parseNetwork('a.conf', '{"name":"n","cniVersion":"0.3.1","type":"t"}').plugins[0]?.type, 't')
  assert.equal(
    parseNetwork('a.conflist', '{"name":"n","cniVersion":"0.3.1","cniVersions":["0.4.0","1.0.0","9.9.9"],"plugins":[{"type":"t"}]}')
      .cniVersion,
    '1.0.0',
  )
  for (const [file, text] of [
    ['a.conflist', '{}'],
    ['a.conflist', '{"name":"n","plugins":[]}'],
    ['a.conf', '{"name":"n"}'],
    ['a.conf', 'no json'],
  ]) {
    assert.throws(() => parseNetwork(file!, text!))
  }
})

test('cni: stdin of a plugin as libcni writes it: sorted, escaped, capabilities it asked for and no others', () => {
  const network = parseNetwork(
    'a.conflist',
    '{"name":"n","cniVersion":"0.4.0","plugins":[{"type":"portmap","capabilities":{"portMappings":true,"dns":false}}]}',
  )
  const input = pluginInput(network, network.plugins[0]!, { cniVersion: '0.4.0', ips: [] }, { portMappings: [{ HostPort: 80 }], dns: {} })
  assert.equal(
    input,
    '{"capabilities":{"dns":false,"portMappings":true},"cniVersion":"0.4.0","name":"n","prevResult":{"cniVersion":"0.4.0","ips":[]},"runtimeConfig":{"portMappings":[{"HostPort":80}]},"type":"portmap"}',
  )
  assert.equal(goJson({ b: '<&>', a: [{ d: 1, c: 2 }] }), '{"a":[{"c":2,"d":1}],"b":"\\u003c\\u0026\\u003e"}')
})

test('cni: addresses of eth0, IPv4 first, whatever else the result names', () => {
  const interfaces = [{ name: 'cni0' }, { name: 'veth1' }, { name: 'eth0', sandbox: '/x' }]
  assert.deepEqual(
    podIpsOf({
      interfaces,
      ips: [
        { address: 'fd00::2/64', interface: 2 },
        { address: '10.244.1.2/24', interface: 2 },
        { address: '10.244.1.1/24', interface: 0 },
      ],
    }),
    ['10.244.1.2', 'fd00::2'],
  )
  assert.deepEqual(podIpsOf({ interfaces: [{ name: 'cni0' }], ips: [{ address: '10.0.0.1/8', interface: 0 }] }), [])
})

test('env: references, services, expansion; later ones win', async () => {
  const services = [
    { metadata: { name: 'kubernetes', namespace: 'default' }, spec: { clusterIP: '10.96.0.1', ports: [{ name: 'https', port: 443 }] } },
    { metadata: { name: 'my-db', namespace: 'default' }, spec: { clusterIP: '10.96.0.2', ports: [{ port: 53, protocol: 'UDP' }] } },
    { metadata: { name: 'other', namespace: 'away' }, spec: { clusterIP: '10.96.0.3', ports: [{ port: 1 }] } },
  ]
  const o = {
    services,
    podIps: ['10.244.1.2'],
    hostIp: '192.168.10.101',
    data: async (_: string, name: string) => (name === 'c' ? { A: '1', B: '2' } : undefined),
  }
  const env = await environmentOf(
    pod(),
    {
      ...container,
      envFrom: [{ prefix: 'P_', configMapRef: { name: 'c' } }, { secretRef: { name: 'none', optional: true } }],
      env: [
        { name: 'KUBERNETES_SERVICE_HOST', value: '192.168.10.100' },
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'X', value: '$(IP)/$(P_A)/$$(IP)/$(NONE)' },
      ],
    },
    o,
  )
  assert.equal(env.get('KUBERNETES_SERVICE_HOST'), '192.168.10.100')
  assert.equal(env.get('KUBERNETES_SERVICE_PORT_HTTPS'), '443')
  assert.equal(env.get('MY_DB_PORT_53_UDP_ADDR'), '10.96.0.2')
  assert.equal(env.has('OTHER_SERVICE_HOST'), false)
  assert.equal(env.get('X'), '10.244.1.2/1/$(IP)/$(NONE)')
  assert.deepEqual(
    [...serviceVariables(pod({ enableServiceLinks: false }), services).keys()].filter((k) => k.startsWith('MY')),
    [],
  )
  await assert.rejects(environmentOf(pod(), { ...container, envFrom: [{ configMapRef: { name: 'none' } }] }, o), ConfigMissing)
  assert.throws(() => fieldOf(pod(), 'spec.nothing', o), /unsupported fieldPath/)
  assert.equal(expand('$(A)$(B)', new Map([['A', 'x']])), 'x$(B)')
})

test('exec: options of the kubelet endpoint, ends as kubectl reads them', () => {
  assert.deepEqual(execOptions(new URLSearchParams('command=sh&command=-c&input=1&output=1&error=1&tty=1')), {
    command: ['sh', '-c'],
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
  })
  assert.deepEqual(endStatus(0, ''), { metadata: {}, status: 'Success' })
  assert.match(
    JSON.stringify(endStatus(7, '')),
    /"reason":"NonZeroExitCode","details":\{"causes":\[\{"reason":"ExitCode","message":"7"\}\]\}/,
  )
  assert.match(JSON.stringify(endStatus(127, 'exec: "x": executable file not found in $PATH')), /InternalError/)
})

test('logs: whole lines, pieces, time stamps, since, tail', () => {
  const line = '2026-11-23T03:07:36.317439956Z stdout F hello'
  const now = Date.parse('2026-11-23T03:08:00Z')
  assert.equal(showLine(line, { timestamps: false, sinceMs: undefined }), 'hello\n')
  assert.equal(showLine(line.replace(' F ', ' P '), { timestamps: false, sinceMs: undefined }), 'hello')
  assert.equal(showLine(line, { timestamps: true, sinceMs: undefined }), '2026-11-23T03:07:36.317439956Z hello\n')
  assert.equal(showLine(line, { timestamps: false, sinceMs: logOptions(new URLSearchParams('sinceSeconds=5'), now).sinceMs }), undefined)
  assert.equal(showLine('torn', { timestamps: false, sinceMs: undefined }), undefined)
  assert.deepEqual([tail(['a', 'b'], 1), tail(['a', 'b'], 0), tail(['a', 'b'], undefined)], [['b'], [], ['a', 'b']])
})

test('node: OS image; a condition keeps its transition time while its status stays', () => {
  assert.equal(osImage('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'), 'Debian GNU/Linux 12 (bookworm)')
  const first = conditionsOf('no network', [], 't1')
  const ready = (list: typeof first) => list.find((c) => c.type === 'Ready')!
  assert.deepEqual([ready(first).status, ready(first).reason, ready(first).message], ['False', 'KubeletNotReady', 'no network'])
  assert.equal(ready(conditionsOf('no network', first, 't2')).lastTransitionTime, 't1')
  assert.equal(ready(conditionsOf(undefined, first, 't3')).lastTransitionTime, 't3')
})

test('pod files: hosts, resolv.conf, ports', () => {
  const dns = dnsOf(pod({ dnsConfig: { options: [{ name: 'ndots', value: '2' }], nameservers: ['1.1.1.1'] } }), {
    clusterDns: '10.96.0.10',
    clusterDomain: 'cluster.local',
  })
  assert.match(
    resolvConf(dns),
    /^search default\.svc\.cluster\.local svc\.cluster\.local cluster\.local.*\nnameserver 10\.96\.0\.10\nnameserver 1\.1\.1\.1\noptions ndots:2\n$/,
  )
  assert.deepEqual(parseResolvConf('nameserver 10.0.2.3\nsearch a b\noptions x y:1\n'), {
    nameservers: ['10.0.2.3'],
    searches: ['a', 'b'],
    options: ['x', 'y:1'],
  })
  assert.match(
    hostsFile(pod({ hostAliases: [{ ip: '1.2.3.4', hostnames: ['x'] }] }), ['10.244.1.2'], 'p'),
    /\n10\.244\.1\.2\tp\n\n# Entries added by HostAliases\.\n1\.2\.3\.4\tx\n$/,
  )
  const ports = [{ containerPort: 80, hostPort: 8080 }, { containerPort: 81 }]
  assert.deepEqual(capabilitiesForPorts(pod({ containers: [{ ...container, ports }] })), {
    portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }],
  })
})

test('security: default capabilities, add, drop, privileged', () => {
  assert.equal(capabilitiesOf(container), 'a80425fb')
  assert.equal(
    capabilitiesOf({ ...container, securityContext: { capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'CAP_NET_RAW'] } } }),
    '3000',
  )
  assert.equal(capabilitiesOf({ ...container, securityContext: { privileged: true } }), '1ffffffffff')
  assert.throws(() => capabilitiesOf({ ...container, securityContext: { capabilities: { add: ['FLY'] } } }), /no capability FLY/)
})

test('static pods: named after the node, mirrored without their own uid', () => {
  const own = staticPod('{"kind":"Pod","metadata":{"name":"etcd"},"spec":{"containers":[]}}', 'n1')
  assert.deepEqual([own.metadata.name, own.spec.nodeName, own.metadata.uid?.length], ['etcd-n1', 'n1', 32])
  const mirror = mirrorOf(own)
  assert.deepEqual([mirror.metadata.uid, mirror.metadata.annotations?.['kubernetes.io/config.mirror']], [undefined, own.metadata.uid])
  assert.throws(() => staticPod('kind: Service', 'n1'), /no Pod/)
})

test('volumes: files appear all at once, an update replaces them, what is gone is gone', () => {
  const dir = mkdtempSync(join(tmpdir(), 'twill-volume-'))
  try {
    const write = (files: Record<string, string>): void =>
      writeAtomically(dir, new Map(Object.entries(files).map(([k, v]) => [k, { bytes: Buffer.from(v) }])), 0o640)
    write({ a: '1', 'd/b': '2' })
    const first = readlinkSync(join(dir, '..data'))
    assert.deepEqual([readFileSync(join(dir, 'a'), 'utf8'), readFileSync(join(dir, 'd/b'), 'utf8')], ['1', '2'])
    write({ a: '1', 'd/b': '2' })
    assert.equal(readlinkSync(join(dir, '..data')), first, 'nothing new, nothing written')
    write({ a: '3' })
    assert.equal(readFileSync(join(dir, 'a'), 'utf8'), '3')
    assert.deepEqual(
      readdirSync(dir).filter((name) => !name.startsWith('..')),
      ['a'],
    )
    assert.equal(readdirSync(dir).length, 3)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

const running: Instance = { id: 'i', attempt: 0, image: 'x', sandbox: 's', dir: '', startedAt: '2026-11-23T03:00:00.000Z' }
const ended = (exitCode: number): Instance => ({
  ...running,
  end: { exitCode, signal: 0, finishedAt: '2026-11-23T03:00:05.000Z', reason: exitCode === 0 ? 'Completed' : 'Error' },
})
const seen = (instances: Instance[], more: Partial<ContainerView> = {}): ContainerView => ({
  container,
  instances,
  probedReady: true,
  probedStarted: true,
  known: true,
  ...more,
})
const view = (p: Pod, main: ContainerView[], init: ContainerView[] = []): PodView => ({
  ...{
    pod: p,
    hostIp: '192.168.10.101',
    podIps: ['10.244.1.2'],
    sandboxReady: true,
    startTime: '2026-11-23T03:00:00.000Z',
    init,
    main,
    now: '2026-11-23T03:00:09.000Z',
  },
})
const phases: [name: string, spec: Partial<PodSpec>, main: ContainerView[], init: ContainerView[], phase: string, ready: string][] = [
  ['not started', {}, [seen([])], [], 'Pending', 'False'],
  ['running', {}, [seen([running])], [], 'Running', 'True'],
  ['running, probe not passed', {}, [seen([running], { probedReady: false })], [], 'Running', 'False'],
  ['init running', {}, [seen([])], [seen([running])], 'Pending', 'False'],
  ['init failed for good', { restartPolicy: 'Never' }, [seen([])], [seen([ended(1)])], 'Failed', 'False'],
  ['crash loop', {}, [seen([ended(1)], { waiting: { reason: 'CrashLoopBackOff', message: '' } })], [], 'Running', 'False'],
  ['done', { restartPolicy: 'Never' }, [seen([ended(0)])], [], 'Succeeded', 'False'],
  ['failed', { restartPolicy: 'Never' }, [seen([ended(1)])], [], 'Failed', 'False'],
  ['failed, to be run again', { restartPolicy: 'OnFailure' }, [seen([ended(1)])], [], 'Running', 'False'],
]
for (const [name, spec, main, init, phase, ready] of phases) {
  test(`pod status: ${name}`, () => {
    const status = podStatus(view(pod(spec), main, init), undefined)
    assert.deepEqual([status.phase, status.conditions?.find((c) => c.type === 'Ready')?.status], [phase, ready])
  })
}

test('pod status: a back-off shows how the last run ended; a restart counts', () => {
  const [status] = podStatus(
    view(pod(), [seen([ended(1), { ...ended(2), attempt: 1 }], { waiting: { reason: 'CrashLoopBackOff', message: 'm' } })]),
    undefined,
  ).containerStatuses!
  assert.deepEqual(
    [status!.state.waiting?.reason, status!.lastState.terminated?.exitCode, status!.restartCount],
    ['CrashLoopBackOff', 2, 1],
  )
  const [again] = podStatus(view(pod(), [seen([ended(1), { ...running, attempt: 1 }])]), undefined).containerStatuses!
  assert.deepEqual([again!.state.running !== undefined, again!.lastState.terminated?.exitCode, again!.ready], [true, 1, true])
})

test('pod status: quality of service', () => {
  const of = (resources: Container['resources']): string =>
    qosClass(pod({ containers: [resources ? { ...container, resources } : container] }))
  assert.deepEqual(
    [of(undefined), of({ requests: { cpu: '1' } }), of({ limits: { cpu: '1', memory: '1Gi' } })],
    ['BestEffort', 'Burstable', 'Guaranteed'],
  )
})
