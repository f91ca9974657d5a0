/** Plugins of other makers, run by the real shim for the real agent: Debian's, and scripts that tell what they were asked. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns, type TempNetns, tempNetns } from '#kernel/temp-netns.ts'

const REFERENCE = '/usr/lib/cni'
const skip = existsSync(`${REFERENCE}/ptp`) ? false : `no reference plugins in ${REFERENCE}`

sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim']).status, 0)
const root = mkdtempSync(join(tmpdir(), 'twill-others-k-'))
const [bin, scripts, asked] = [join(root, 'bin'), join(root, 'scripts'), join(root, 'asked')]
installShim('dist/shim/twill-cni', bin)
mkdirSync(scripts)
writeFileSync(
  join(root, 'subnet.env'),
  'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
)
const made: TempNetns[] = []
let agent: ChildProcess | undefined
after(async () => {
  await stop()
  for (const netns of made) netns.remove()
  rmSync(root, { recursive: true })
})

async function start(): Promise<void> {
  const child = spawn(process.execPath, ['tools/cni-agent.ts', root, 'cbr0'], { stdio: ['pipe', 'pipe', 'inherit'] })
  agent = child
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.once('exit', (code) => reject(new Error(`the agent ended with ${code}`)))
  })
}
async function stop(): Promise<void> {
  const child = agent
  if (!child) return
  agent = undefined
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.stdin!.end()
  await gone
}
await start()

function pod(): string {
  const one = tempNetns()
  made.push(one)
  return one.path
}

/** A plugin that writes down what it is asked and in which namespace, then does `body`. */
const script = (name: string, body: string): void =>
  writeFileSync(
    join(scripts, name),
    `#!/bin/sh\nconf=$(cat)\necho "$CNI_COMMAND $CNI_IFNAME $CNI_TWILL_DEPTH $(readlink /proc/self/ns/net)" >>${asked}\n${body}\n`,
    { mode: 0o755 },
  )
/** What scripts were asked since the last time. */
function told(): string[] {
  const lines = existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : []
  rmSync(asked, { force: true })
  return lines
}
const home = readlinkSync('/proc/self/ns/net')

interface Answer {
  readonly status: number | null
  readonly text: string
}
const envOf = (command: string, id: string, netns: string): Record<string, string> => ({
  ...{ CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0', PATH: process.env.PATH! },
  ...{ CNI_PATH: `${bin}:${scripts}:${REFERENCE}`, TWILL_CNI_SOCKET: join(root, 'run/cni.sock') },
})
function run(plugin: string, command: string, id: string, netns: string, conf: object, dir = bin): Answer {
  const { status, stdout } = spawnSync(join(dir, plugin), {
    env: envOf(command, id, netns),
    input: JSON.stringify(conf),
    encoding: 'utf8',
    timeout: 20_000,
  })
  return { status, text: stdout }
}
const good = ({ status, text }: Answer): string => {
  assert.equal(status, 0, text)
  return text
}
const addresses = (netns: string): string[] =>
  (
    JSON.parse(
      spawnSync('nsenter', [`--net=${netns}`, 'ip', '-j', '-4', 'addr', 'show', 'dev', 'eth0'], { encoding: 'utf8' }).stdout || '[]',
    ) as {
      addr_info: { local: string; prefixlen: number }[]
    }[]
  ).flatMap((link) => link.addr_info.map((one) => `${one.local}/${one.prefixlen}`))
const held = (network: string): string[] =>
  existsSync(join(root, 'networks', network)) ? readdirSync(join(root, 'networks', network)).filter((name) => /^10\./.test(name)) : []

const flannel = (more: object): object => ({ cniVersion: '1.0.0', name: 'cbr0', type: 'flannel', ...more })
const withStatic = (address: string): object => ({
  ...{ cniVersion: '1.0.0', name: 'fixed', type: 'bridge', bridge: 'twfixed0', isGateway: true },
  ipam: {
    type: 'static',
    addresses: [{ address, gateway: '10.9.0.1' }],
    routes: [{ dst: '0.0.0.0/0' }],
    dns: { nameservers: ['10.9.0.1'] },
  },
})

test('flannel with the delegate ptp, whose host-local is ours again: ADD, CHECK, DEL', { skip }, () => {
  const netns = pod()
  const conf = flannel({ delegate: { type: 'ptp' }, ipam: { dataDir: join(root, 'networks') } })
  const added = JSON.parse(good(run('flannel', 'ADD', 'ptp', netns, conf))) as { ips: { address: string }[] }
  const prevResult = { ...added, routes: [] } // ptp looks for its own routes without the gateway that it gave them
  assert.deepEqual(
    addresses(netns),
    prevResult.ips.map(({ address }) => address),
  )
  assert.deepEqual(
    held('cbr0'),
    addresses(netns).map((address) => address.split('/')[0]),
  )
  assert.ok(existsSync(join(root, 'flannel/ptp')))
  good(run('flannel', 'CHECK', 'ptp', netns, { ...conf, prevResult }))
  spawnSync('nsenter', [`--net=${netns}`, 'ip', 'addr', 'flush', 'dev', 'eth0'])
  assert.equal(run('flannel', 'CHECK', 'ptp', netns, { ...conf, prevResult }).status, 1)
  assert.equal(good(run('flannel', 'DEL', 'ptp', netns, conf)), '')
  assert.deepEqual([addresses(netns), held('cbr0'), existsSync(join(root, 'flannel/ptp'))], [[], [], false])
  good(run('flannel', 'DEL', 'ptp', netns, conf))
})

test('bridge with the ipam static: the reference’s answer; CHECK, DEL', { skip }, () => {
  const [netns, other] = [pod(), pod()]
  /** Without what is of each alone, and the dns of `ipam`, which Debian's bridge drops and later ones hand on. */
  const shape = (text: string): object =>
    JSON.parse(text.replace(/"veth[^"]*"/g, '"VETH"').replaceAll(/"(mac|sandbox)": "[^"]*"/g, '"$1": ""'), (key, value: unknown) =>
      key === 'dns' ? undefined : value,
    ) as object
  const added = good(run('bridge', 'ADD', 'fixed', netns, withStatic('10.9.0.5/24')))
  const theirs = good(run('bridge', 'ADD', 'theirs', other, withStatic('10.9.0.5/24'), REFERENCE))
  assert.deepEqual(shape(added), shape(theirs))
  assert.match(added, /"nameservers": \[\s+"10.9.0.1"/)
  assert.deepEqual(addresses(netns), ['10.9.0.5/24'])
  good(run('bridge', 'CHECK', 'fixed', netns, { ...withStatic('10.9.0.5/24'), prevResult: JSON.parse(added) as object }))
  good(run('bridge', 'DEL', 'fixed', netns, withStatic('10.9.0.5/24')))
  assert.deepEqual(addresses(netns), [])
})

test('what another plugin says of its failure is said word for word; nothing is left', { skip }, () => {
  const netns = pod()
  const bad = { ...withStatic('10.9.0.5/24'), ipam: { type: 'static', addresses: [{ address: '10.9.0.500/24' }] } }
  const [ours, theirs] = [run('bridge', 'ADD', 'bad', netns, bad), run('bridge', 'ADD', 'bad', netns, bad, REFERENCE)]
  assert.equal(ours.status, 1)
  assert.equal((JSON.parse(ours.text) as { msg: string }).msg, (JSON.parse(theirs.text) as { msg: string }).msg)
  script('fails', 'echo \'{"code":42,"msg":"no <more>","details":"at all"}\'; exit 1')
  const failed = run('flannel', 'ADD', 'bad', netns, flannel({ delegate: { type: 'fails' } }))
  assert.deepEqual([failed.status, JSON.parse(failed.text)], [1, { code: 42, msg: 'no <more>', details: 'at all' }])
  assert.deepEqual(told(), [`ADD eth0 1 ${home}`, `DEL eth0 1 ${home}`])
  assert.ok(!existsSync(join(root, 'flannel/bad')))
})

const failures: [string, object, RegExp][] = [
  ['not there', { type: 'absent' }, /^failed to find plugin "absent" in path \[\S+\/bin \S+\/scripts \/usr\/lib\/cni\]$/],
  ['a path', { type: '../scripts/fails' }, /^failed to find plugin "..\/scripts\/fails" in path /],
  ['a circle', { type: 'circle' }, /plugins call each other more than 4 deep; the configuration goes in a circle/],
  ['silent', { type: 'silent' }, /^netplugin failed with no error message: exit status 3$/],
  ['killed', { type: 'killed' }, /^netplugin failed with no error message: signal: 9$/],
  ['no JSON', { type: 'chatty' }, /^netplugin failed but error parsing its diagnostic message "oops\\n": /],
  ['no result', { type: 'void' }, /^could not parse the result of a plugin: /],
]
script('circle', `echo '${JSON.stringify(flannel({ delegate: { type: 'circle' } }))}' | ${bin}/flannel`)
script('silent', 'exit 3')
script('killed', 'kill -9 $$')
script('chatty', 'echo oops; exit 1')
script('void', 'exit 0')
for (const [name, delegate, want] of failures) {
  test(`a delegate that fails: ${name}`, () => {
    const { status, text } = run('flannel', 'ADD', 'fail', pod(), flannel({ delegate }))
    assert.equal(status, 1, text)
    assert.match((JSON.parse(text) as { msg: string }).msg, want)
  })
}

/** ADD is answered with `address` and a default route. */
function answering(address: string, gw?: string): string {
  const result = { cniVersion: '1.0.0', ips: [{ address }], routes: [{ dst: '0.0.0.0/0', gw }] }
  return `[ $CNI_COMMAND = ADD ] && echo '${JSON.stringify(result)}'; exit 0`
}
const scripted = (more = {}): object => ({
  ...{ cniVersion: '1.0.0', name: 's', type: 'bridge', bridge: 'tws0', isGateway: true },
  ipam: { type: 'mine' },
  ...more,
})

test('addresses that were given are given back, from the node’s namespace, when the pod cannot be wired', () => {
  script('mine', answering('10.8.0.7/24', '192.0.2.1'))
  told()
  assert.match(run('bridge', 'ADD', 'unroutable', pod(), scripted()).text, /failed to add route/)
  assert.deepEqual(told(), [`ADD eth0 1 ${home}`, `DEL eth0 1 ${home}`])
  const other = pod()
  const bad = scripted({ ipam: { type: 'mine' }, name: 'n', bridge: 'lo' })
  assert.equal(run('bridge', 'ADD', 'lo', other, bad).status, 1)
  assert.deepEqual(told(), [`ADD eth0 1 ${home}`, `DEL eth0 1 ${home}`])
  script('mine', answering('10.8.0.700/24'))
  assert.match(run('bridge', 'ADD', 'bad', other, scripted()).text, /invalid CIDR address: 10.8.0.700\/24/)
})

test('a gateway that is not named is the first of the subnet; a DEL while no agent runs is done by the next one', async () => {
  const netns = pod()
  script('mine', answering('10.8.0.7/24'))
  assert.match(good(run('bridge', 'ADD', 'later', netns, scripted())), /"gateway": "10\.8\.0\.1"/)
  await stop()
  told()
  good(run('bridge', 'DEL', 'later', netns, scripted()))
  assert.deepEqual(told(), [])
  await start()
  assert.deepEqual(told(), [`DEL eth0 1 ${home}`])
  assert.deepEqual([addresses(netns), readdirSync(join(root, 'run/delete-queue'))], [[], []])
})

test('networks that are not ours go to the plugin whose place ours took; ours, and what was made here, do not', () => {
  const [saved, netns] = [join(bin, 'flannel.before-twill'), pod()]
  const conf = { cniVersion: '1.0.0', name: 'theirs', type: 'flannel', ipam: { dataDir: join(root, 'networks') } }
  good(run('flannel', 'ADD', 'early', netns, conf))
  writeFileSync(saved, `#!/bin/sh\necho "$CNI_COMMAND $(tr -d '\\n')" >>${asked}; echo done; [ $CNI_COMMAND != CHECK ]\n`, { mode: 0o755 })
  told()
  const late = pod()
  assert.equal(good(run('flannel', 'ADD', 'late', late, conf)), 'done\n')
  assert.equal(run('flannel', 'CHECK', 'late', late, conf).status, 1)
  assert.equal(good(run('flannel', 'DEL', 'late', late, conf)), 'done\n')
  assert.deepEqual(
    told(),
    ['ADD', 'CHECK', 'DEL'].map((command) => `${command} ${JSON.stringify(conf)}`),
  )
  assert.deepEqual(addresses(late), [])
  for (const [id, own] of [
    ['early', conf],
    ['own', { ...conf, name: 'cbr0' }],
  ] as const) {
    if (id === 'own') good(run('flannel', 'ADD', id, late, own))
    good(run('flannel', 'DEL', id, id === 'own' ? late : netns, own))
  }
  assert.deepEqual([told(), addresses(netns), addresses(late), held('theirs'), held('cbr0')], [[], [], [], [], []])
  rmSync(saved)
})

test('STATUS and GC are passed on, to a delegate and to an ipam', () => {
  script('mine', '[ $CNI_COMMAND = GC ] || exit 0; echo "$conf" | grep -q valid-attachments || exit 7')
  told()
  const gc = { 'cni.dev/valid-attachments': [] }
  for (const conf of [flannel({ delegate: { type: 'mine' } }), flannel({ ipam: { type: 'mine' } }), scripted()]) {
    const { type } = conf as { type: string }
    good(run(type, 'STATUS', '', '', { ...conf, cniVersion: '1.1.0' }))
    good(run(type, 'GC', '', '', { ...conf, ...gc, cniVersion: '1.1.0' }))
    assert.deepEqual(told(), [`STATUS eth0 1 ${home}`, `GC eth0 1 ${home}`])
  }
})

test('a runtime that gives up: the plugin ends with the shim, and a DEL follows', async () => {
  script('mine', '[ $CNI_COMMAND = DEL ] && exit 0; exec sleep 60')
  const child = spawn(join(bin, 'bridge'), { env: envOf('ADD', 'gone', pod()), stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.end(JSON.stringify(scripted()))
  await until('asked', () => existsSync(asked))
  const children = (): string => readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
  const sleeping = children()
  child.kill('SIGKILL')
  await until('given back', () => readFileSync(asked, 'utf8').includes('DEL'))
  await until('ended', () => !existsSync(`/proc/${sleeping}`))
  assert.deepEqual(told(), [`ADD eth0 1 ${home}`, `DEL eth0 1 ${home}`])
})

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within 10 s: ${what}`)
    await systemClock.sleep(5)
  }
}
