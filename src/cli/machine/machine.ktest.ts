/** install and uninstall on a machine of their own: a network namespace, and a mount namespace whose /etc, /opt, /run and /var/lib are overlays. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, beforeEach, type TestContext, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { answer, eventLine, nodeList, nodeObject, startServer } from '#cluster/testserver.ts'
import { Probe } from '#kernel/probe.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import type { StatusDocument } from '#model/status.ts'

const REFERENCE = '/usr/lib/cni'
const home = join(import.meta.dirname, '../../..')
const node = process.execPath
sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim'], { cwd: home }).status, 0)

const pod = tempNetns()
const run = (...argv: string[]): string => execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8' })
run('ip', 'link', 'set', 'lo', 'up')
const router = tempNetns()
run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', router.path.slice('/run/netns/'.length))
run('nsenter', `--net=${router.path}`, 'ip', 'link', 'set', 'eth0', 'up')
run('ip', 'address', 'add', '192.168.10.101/24', 'dev', 'eth1')
run('ip', 'link', 'set', 'eth1', 'addrgenmode', 'none', 'up')
while (!run('ip', 'link', 'show', 'eth1').includes('state UP'));
run('ip', 'route', 'add', 'default', 'via', '192.168.10.1')

const kubernetes = {
  metadata: { namespace: 'default', name: 'kubernetes', resourceVersion: '7' },
  spec: { clusterIP: '10.96.0.1', ports: [{ port: 443 }] },
}
const api = await startServer((request, response) => {
  const one = nodeObject('k8s-w1', 7)
  if (request.method !== 'GET') return answer(response, 200, one)
  if (request.query.get('watch') !== null)
    return void response.writeHead(200).write(eventLine('BOOKMARK', { metadata: { resourceVersion: '7' } }))
  const list = { '/nodes': [one], '/services': [kubernetes], '/endpointslices': [] }[request.path.slice(request.path.lastIndexOf('/'))]
  answer(response, 200, list ? nodeList(7, list) : one)
})
after(async () => {
  pod.remove()
  router.remove()
  await api.close()
  setImmediate(() => process.exit())
})

/** A machine: files are its own, the network is this process's. */
class Machine {
  readonly #holder: ChildProcess
  agent: ChildProcess | undefined

  constructor(t: TestContext) {
    this.#holder = spawn('unshare', ['-m', '--propagation', 'private', 'sleep', 'infinity'])
    t.after(async () => {
      await this.stopAgent()
      this.#holder.kill('SIGKILL')
    })
    const own = readlink('/proc/self/ns/mnt')
    while (readlink(`/proc/${this.#holder.pid}/ns/mnt`) === own);
    this.sh(`mount -t tmpfs tmpfs /mnt
for dir in etc opt var/lib; do
  mkdir -p /mnt/$dir/upper /mnt/$dir/work
  mount -t overlay -o lowerdir=/$dir,upperdir=/mnt/$dir/upper,workdir=/mnt/$dir/work overlay /$dir
done
mkdir -p /mnt/run/netns && touch /mnt${pod.path} && mount --bind ${pod.path} /mnt${pod.path} && mount --rbind /mnt/run /run
rm -rf /etc/cni /opt/cni /var/lib/cni /etc/kube-flannel /var/lib/twill`)
  }

  #in(argv: readonly string[]): [string, string[]] {
    return ['nsenter', ['-t', String(this.#holder.pid), '-m', ...argv]]
  }

  /** A script of this file's own. */
  sh(script: string): string {
    const [command, args] = this.#in(['sh', '-c', script])
    return execFileSync(command, args, { encoding: 'utf8', cwd: home, maxBuffer: 1 << 26 })
  }

  twill(...words: string[]): { status: number | null; text: string } {
    const [command, args] = this.#in([node, join(home, 'src/cli/main.ts'), ...words])
    const env = { ...process.env, PATH: `/mnt/bin:${process.env.PATH}` }
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: home, env })
    return { status, text: stdout + stderr }
  }

  /** Kills it after so long. */
  twillFor(timeout: number, ...words: string[]): void {
    const [command, args] = this.#in([node, join(home, 'src/cli/main.ts'), ...words])
    spawnSync(command, args, { cwd: home, timeout, killSignal: 'SIGKILL' })
  }

  /** Starts the agent with the words that `twill install` printed, or those of the unit. */
  async startAgent(printed: string): Promise<void> {
    const words = /bin\/twill agent (.*)$/m.exec(printed)![1]!.split(' ')
    const [command, args] = this.#in([node, join(home, 'src/daemon/entry.ts'), ...words])
    const log: string[] = []
    this.agent = spawn(command, args, { cwd: home, env: { ...process.env, NODE_NAME: 'k8s-w1' }, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.agent.stdout, this.agent.stderr]) stream!.on('data', (part: Buffer) => log.push(part.toString()))
    const deadline = Date.now() + 20_000
    for (;;) {
      const { status, text } = this.twill('status', '-o', 'json')
      if (status !== 2 && (JSON.parse(text) as StatusDocument).agent.phase === 'serving') return
      assert.ok(Date.now() < deadline && this.agent.exitCode === null, `the agent does not serve: ${text}\n${log.join('')}`)
      await systemClock.sleep(100)
    }
  }

  async stopAgent(): Promise<void> {
    const { agent } = this
    if (!agent || agent.exitCode !== null || agent.signalCode !== null) return
    const gone = new Promise((resolve) => agent.once('exit', resolve))
    agent.kill('SIGTERM')
    await gone
  }

  cni(plugin: string, command: string, conf: object): { status: number | null; text: string } {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: 'a'.repeat(64),
      CNI_NETNS: pod.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      PATH: process.env.PATH!,
    }
    const [program, args] = this.#in([`/opt/cni/bin/${plugin}`])
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env, input: JSON.stringify(conf) })
    return { status, text: stdout + stderr }
  }

  /** All that uninstall must leave as it was. */
  snapshot(): string[] {
    const views = {
      link: 'ip -d -j link',
      address: 'ip -d -j address',
      route: 'ip -d -j route show table all; ip -6 -d -j route show table all',
      rule: 'ip -d -j rule; ip -6 -d -j rule',
      neighbor: 'ip -d -j neigh show nud permanent',
      fdb: 'bridge -j fdb',
      nft: 'nft list ruleset',
      iptables: 'iptables-save | grep -v ^#; ip6tables-save | grep -v ^#; true',
      sysctl: 'sysctl -a 2>/dev/null | grep ^net | grep -v -e nf_conntrack_count -e stable_secret | sort',
      files: `find ${PLACES} -path /run/netns -prune -o -type f -exec sha256sum {} + 2>/dev/null | sort -k2; true`,
      names: `find ${PLACES} -path /run/netns -prune -o -printf "%p %m %y %l\\n" 2>/dev/null | sort; true`,
    }
    const lines = (script: string): string[] =>
      this.sh(script)
        .replaceAll('},{', '},\n{')
        .replaceAll(/"\w+_timer":[\d.]+,/g, '')
        .split('\n')
    return Object.entries(views).flatMap(([name, script]) => lines(script).map((line) => `${name}: ${line}`))
  }
}
/** Where files of ours may come to lie. */
const PLACES = '/etc/cni /etc/kube-flannel /etc/systemd /opt/cni /run /var/lib/cni /var/lib/twill /sys/fs/bpf'

function same(now: readonly string[], before: readonly string[], message: string): void {
  const missing = before.filter((line) => !now.includes(line))
  const added = now.filter((line) => !before.includes(line))
  assert.deepEqual({ missing, added }, { missing: [], added: [] }, message)
}
const readlink = (path: string): string => run('readlink', path)

beforeEach(() => {
  run('nft', 'flush', 'ruleset')
  for (const name of ['flannel.1', 'cni0']) spawnSync('ip', ['link', 'del', name])
})

const stock = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }
const agentFlags = ['--', `--kubeconfig-file=${api.kubeconfig}`, '--iface=eth1', '--services']
const cases = [
  { name: 'a bare machine', prepare: 'true', systemd: false },
  {
    name: "systemd, another maker's plugins, a conflist and a net-conf.json",
    prepare: `sysctl -qw net.bridge.bridge-nf-call-iptables=0
mkdir -p /run/systemd/system /mnt/bin && printf '#!/bin/sh\necho "$@" >> /mnt/systemctl.log\n' > /mnt/bin/systemctl && chmod +x /mnt/bin/systemctl
mkdir -p /opt/cni/bin /etc/cni/net.d /etc/kube-flannel /var/lib/cni/networks
cp ${REFERENCE}/* /opt/cni/bin/; echo '{"a": 1}' > /etc/cni/net.d/10-flannel.conflist; chmod 600 /etc/cni/net.d/10-flannel.conflist
echo '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}' > /etc/kube-flannel/net-conf.json`,
    systemd: true,
  },
  {
    name: 'a node on which Flannel ran, with a peer that is gone since',
    prepare: `ip link add flannel.1 address 02:00:00:00:00:01 type vxlan id 1 local 192.168.10.101 dev eth1 dstport 8472 nolearning
ip link set flannel.1 addrgenmode none; ip link set flannel.1 mtu 1450 up; ip address add 10.244.1.0/32 dev flannel.1
ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink
ip neigh add 10.244.9.0 lladdr 02:00:00:00:00:09 dev flannel.1 nud permanent
bridge fdb add 02:00:00:00:00:09 dev flannel.1 dst 192.168.10.109 self permanent
ip link add cni0 address 0a:58:0a:f4:01:01 type bridge; ip link set cni0 addrgenmode none; ip link set cni0 mtu 1450 up
ip address add 10.244.1.1/24 brd 10.244.1.255 dev cni0
ip link add had0 master cni0 type veth peer had1; ip link set had0 up; ip link set had1 up
until ip link show cni0 | grep -q 'state UP'; do :; done; ip link del had0
until ip link show cni0 | grep -q 'state DOWN'; do :; done; sysctl -qw net.ipv4.ip_forward=1
mkdir -p /run/flannel; printf 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1400\nFLANNEL_IPMASQ=false\n' > /run/flannel/subnet.env`,
    systemd: false,
  },
]
for (const { name, prepare, systemd } of cases) {
  test(`uninstall leaves it as it was: ${name}`, { skip: existsSync(REFERENCE) ? false : 'no reference plugins' }, async (t) => {
    const machine = new Machine(t)
    machine.sh(prepare)
    const before = machine.snapshot()
    assert.equal(machine.twill('uninstall').status, 2)
    const dry = machine.twill('install', '--dry-run', '--node-name=k8s-w1', ...agentFlags)
    assert.equal(dry.status, 0, dry.text)
    same(machine.snapshot(), before, 'a dry run changes nothing')

    const bad = machine.twill('install', '--node-name=k8s-w1', '--', '--iface-regexp=eth1')
    assert.match(bad.text, /iface-regexp/)
    assert.equal(bad.status, 2)
    same(machine.snapshot(), before, 'a bad flag of the agent changes nothing')
    const installed = machine.twill('install', '--node-name=k8s-w1', ...agentFlags)
    assert.equal(installed.status, 0, installed.text)
    await machine.startAgent(installed.text + machine.sh('cat /etc/systemd/system/twill.service 2>/dev/null; true'))
    const again = machine.twill('install', '--node-name=k8s-w1', ...agentFlags)
    assert.equal(again.status, 0, again.text)
    assert.doesNotMatch(again.text, /installed|replaced|written/)
    const added = machine.cni('flannel', 'ADD', stock)
    assert.equal(added.status, 0, added.text)
    assert.match(run('ip', 'link', 'show', 'cni0'), /cni0/)
    assert.match(run('sysctl', 'net.bridge.bridge-nf-call-iptables'), /= 1/)

    assert.match(machine.twill('install', '--bin-dir=/opt/other', ...agentFlags).text, /binDir \/opt\/cni\/bin, and now \/opt\/other/)

    const refused = machine.twill('uninstall')
    assert.equal(refused.status, 2)
    assert.match(refused.text, /1 addresses are held by pods: 10\.244\.1\.2/)
    assert.equal(machine.cni('flannel', 'DEL', stock).status, 0)
    assert.match(machine.twill('uninstall').text, /The agent still runs/)
    await machine.stopAgent()
    const plan = machine.twill('uninstall', '--dry-run')
    assert.match(plan.text, /would del table inet twill/)
    // Cut off wherever it may be, it goes on from there.
    if (!systemd) for (const ms of [500, 700, 900]) machine.twillFor(ms, 'uninstall')
    const done = machine.twill('uninstall')
    assert.ok(done.status === 0 || /was not installed/.test(done.text), done.text)
    same(machine.snapshot(), before, 'uninstall')
    const started = ['daemon-reload', 'enable twill.service', 'restart --no-block twill.service']
    const onceMore = ['daemon-reload', 'enable twill.service', 'start --no-block twill.service']
    const ended = ['disable --now twill.service', 'daemon-reload', '']
    const log = machine.sh('cat /mnt/systemctl.log 2>/dev/null; true').split('\n')
    if (systemd) assert.deepEqual(log, [...started, ...onceMore, 'disable --now twill.service', ...ended])
  })
}

test('--force: pods keep their network, and the reference portmap gets their hostPorts', {
  skip: existsSync(REFERENCE) ? false : 'no reference plugins',
}, async (t) => {
  const machine = new Machine(t)
  machine.sh(`mkdir -p /opt/cni/bin && cp ${REFERENCE}/* /opt/cni/bin/`)
  const installed = machine.twill('install', '--node-name=k8s-w1', ...agentFlags)
  await machine.startAgent(installed.text)
  const [inPod, onNode] = [new Probe(pod.path), new Probe()]
  t.after(() => {
    inPod.close()
    onNode.close()
  })
  await inPod.listen('pod', 80)
  const reach = (): Promise<string> => onNode.ask({ protocol: 'tcp', to: '127.0.0.1', port: 8084 })
  const added = machine.cni('flannel', 'ADD', stock)
  assert.equal(added.status, 0, added.text)
  const portmap = {
    cniVersion: '0.3.1',
    name: 'cbr0',
    type: 'portmap',
    runtimeConfig: { portMappings: [{ hostPort: 8084, containerPort: 80, protocol: 'tcp' }] },
    prevResult: JSON.parse(added.text) as object,
  }
  assert.equal(machine.cni('portmap', 'ADD', portmap).status, 0)
  assert.equal(await reach(), 'pod 10.244.1.1')
  await machine.stopAgent()
  const done = machine.twill('uninstall', '--force')
  assert.equal(done.status, 0, done.text)
  assert.match(done.text, /hostPorts 8084\/tcp of .* are given to \/opt\/cni\/bin\/portmap/)
  assert.doesNotMatch(run('nft', 'list', 'ruleset'), /table inet twill/)
  assert.equal(await reach(), 'pod 10.244.1.1')

  // The plugins that are back delete what they never added.
  assert.equal(machine.cni('portmap', 'DEL', portmap).status, 0)
  assert.notEqual(await reach(), 'pod 10.244.1.1')
  assert.doesNotMatch(run('iptables', '-t', 'nat', '-S'), /CNI-DN-/)
  const bridge = JSON.parse(machine.sh(`cat /var/lib/cni/flannel/${'a'.repeat(64)}`)) as object
  assert.equal(machine.cni('bridge', 'DEL', bridge).status, 0)
  assert.doesNotMatch(machine.sh('ls /var/lib/cni/networks/cbr0'), /10\.244/)
  assert.doesNotMatch(run('ip', 'link'), /veth.*cni0/)
})
