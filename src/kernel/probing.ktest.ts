/** The doctor's probes and its tracer on the real kernel, in a network namespace of this process. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { setChecksumOffload } from '#kernel/offload.ts'
import { echoAround, ethernet, ipv4, ping, refusedUdp } from '#kernel/probing.ts'
import { Tracer } from '#kernel/tracer.ts'

sys.unshare(CLONE_NEWNET)
const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' })
run('ip', 'link', 'set', 'lo', 'up')
const timeoutMs = 300

const pings = [
  { name: 'one that answers', to: '127.0.0.1', bytes: 1400, want: 'answer' },
  { name: 'more than the device carries', to: '127.0.0.1', bytes: 65_600, want: 'too large' },
  { name: 'no route', to: '192.0.2.1', bytes: 64, want: 'silence' },
] as const
for (const { name, to, bytes, want } of pings) {
  test(`ping: ${name}`, async () => assert.equal(await ping(to, { bytes, timeoutMs }), want))
}

test('UDP to a closed port is refused, with a checksum and without; a firewall makes silence of it', async () => {
  assert.equal(await refusedUdp('127.0.0.1', 9, { checksum: true, timeoutMs }), true)
  assert.equal(await refusedUdp('127.0.0.1', 9, { checksum: false, timeoutMs }), true)
  run('nft', 'table ip quiet { chain in { type filter hook input priority 0; udp dport 9 drop; }; }')
  assert.equal(await refusedUdp('127.0.0.1', 9, { checksum: true, timeoutMs }), false)
  run('nft', 'delete table ip quiet')
})

test('the tracer names the rule, its chain and the base chain that led there, or the policy; its table goes with it', async () => {
  run('nft', 'table inet t { chain c { type filter hook input priority 0; icmp type echo-request jump d; }; chain d { counter; drop; }; }')
  const tracer = await Tracer.open(['ip daddr 127.0.0.1 meta l4proto icmp'])
  assert.equal(await ping('127.0.0.1', { timeoutMs }), 'silence')
  const [drop, ...rest] = await tracer.drops()
  assert.deepEqual(rest, [])
  assert.match(run('nft', '-a', 'list', 'chain', 'inet', 't', 'd'), new RegExp(`drop # handle ${drop!.handle}\n`))
  assert.deepEqual({ ...drop, handle: 0 }, { family: 'inet', table: 't', chain: 'd', base: 'c', hook: 'input', handle: 0 })
  assert.match(run('nft', 'list', 'tables'), /twill-doctor/)
  await tracer.close()
  assert.doesNotMatch(run('nft', 'list', 'tables'), /twill-doctor/)
  run('nft', 'delete table inet t')

  run('nft', 'table ip p { chain out { type filter hook output priority 0; policy drop; }; }')
  const second = await Tracer.open(['ip daddr 127.0.0.2 meta l4proto icmp'])
  assert.equal(await ping('127.0.0.2', { timeoutMs }), 'silence')
  assert.deepEqual(await second.drops(), [{ family: 'ip', table: 'p', chain: 'out', base: 'out', hook: 'output' }])
  await second.close()
  run('nft', 'delete table ip p')
})

test('a frame past routing and firewall is answered by the kernel that it reaches', async () => {
  run('ip', 'link', 'add', 'here', 'type', 'veth', 'peer', 'name', 'there')
  for (const dev of ['here', 'there']) run('ip', 'link', 'set', dev, 'up')
  run('ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'there')
  run('ip', 'neigh', 'add', '198.51.100.1', 'lladdr', '02:00:00:00:00:01', 'dev', 'there')
  run('ip', 'route', 'add', '198.51.100.1/32', 'dev', 'there')
  const kernel = await openLinux()
  const { links } = await kernel.host()
  await kernel.close()
  const link = (name: string) => links.find((one) => one.name === name)!
  const echo = (to: string): Promise<boolean> =>
    echoAround({
      ...{ out: link('here').index, back: link('here').index, from: to, timeoutMs },
      make: (bytes) => ethernet({ from: '02:00:00:00:00:01', to: link('there').mac }, ipv4({ from: '198.51.100.1', to }, bytes)),
    })
  assert.equal(await echo('192.0.2.1'), true)
  assert.equal(await echo('192.0.2.9'), false)
  run('ip', 'link', 'del', 'here')
})

test('checksum offload is turned off and on; a device that is not there is named', async () => {
  run('ip', 'link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1')
  await setChecksumOffload('v0', false)
  await setChecksumOffload('v0', true)
  await assert.rejects(setChecksumOffload('nosuch', false), { code: 'ERR_OFFLOAD', message: /nosuch/ })
})
