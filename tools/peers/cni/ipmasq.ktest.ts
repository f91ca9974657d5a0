/** ipMasq of the bridge plugin by its packets: ours and the reference's, since their rules have nothing else in common. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { installShim } from '#cni/install.ts'
import { Probe } from '#kernel/probe.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'
import { pinned } from './peers.ts'
import { enter, Ours, type Side, Theirs } from './world.ts'

sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim']).status, 0)
const root = mkdtempSync(join(tmpdir(), 'twill-cni-masq-'))
const bin = join(root, 'bin')
installShim('dist/shim/twill-cni', bin)
after(() => {
  rmSync(root, { recursive: true })
  setImmediate(() => process.exit())
})

const PORT = 7000
const families = [
  { subnet: '10.1.0.0/24', uplink: '192.0.2.1', outside: '192.0.2.9', length: 24 },
  { subnet: '2001:db8:1::/64', uplink: '2001:db8:f::1', outside: '2001:db8:f::9', length: 64 },
] as const
const conf = {
  cniVersion: '1.0.0',
  name: 'masq',
  type: 'bridge',
  isDefaultGateway: true,
  ipMasq: true,
  ipMasqBackend: 'nftables',
  ipam: { type: 'host-local', dataDir: '@DIR@/networks', ranges: families.map(({ subnet }) => [{ subnet }]) },
}

function inside(netns: string, ...argv: string[]): string {
  const { status, stdout, stderr } = spawnSync('nsenter', [`--net=${netns}`, ...argv], { encoding: 'utf8' })
  assert.equal(status, 0, `${argv.join(' ')}: ${stderr}`)
  return stdout
}

const call = (side: Side, command: string, id: string): ReturnType<Side['call']> =>
  side.call({ plugin: 'bridge', command, id, ifname: 'eth0', conf: JSON.stringify(conf) })

/** Who is seen where: from each pod to the world outside and to the other pod. */
async function seen(side: Side): Promise<string[]> {
  const outside = tempNetns()
  const probes: Probe[] = []
  try {
    inside(
      side.node.path,
      'ip',
      'link',
      'add',
      'up0',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      outside.path.slice('/run/netns/'.length),
    )
    for (const { uplink, outside: far, length } of families) {
      const nodad = uplink.includes(':') ? ['nodad'] : []
      inside(side.node.path, 'ip', 'addr', 'add', `${uplink}/${length}`, 'dev', 'up0', ...nodad)
      inside(outside.path, 'ip', 'addr', 'add', `${far}/${length}`, 'dev', 'eth0', ...nodad)
    }
    inside(side.node.path, 'ip', 'link', 'set', 'up0', 'up')
    inside(outside.path, 'ip', 'link', 'set', 'eth0', 'up')
    const ips: string[][] = []
    for (const id of ['a', 'b']) {
      const { exit, text } = await call(side, 'ADD', id)
      assert.equal(exit, 0, text)
      ips.push((JSON.parse(text) as { ips: { address: string }[] }).ips.map(({ address }) => address.replace(/\/.*/, '')))
    }
    const [a, b, far] = [side.pod('a'), side.pod('b'), outside.path].map((path) => new Probe(path))
    probes.push(a!, b!, far!)
    await b!.listen('b', PORT)
    await far!.listen('far', PORT)
    const answers: string[] = []
    for (const to of [...families.map(({ outside: ip }) => ip), ...ips[1]!]) answers.push(await a!.ask({ protocol: 'tcp', to, port: PORT }))
    for (const id of ['a', 'b']) assert.equal((await call(side, 'DEL', id)).exit, 0)
    return answers
  } finally {
    for (const probe of probes) probe.close()
    outside.remove()
  }
}

const wanted = ['far 192.0.2.1', 'far 2001:db8:f::1', 'b 10.1.0.2', 'b 2001:db8:1::2']

test('ours: out of the subnet with the node’s address, within it with its own; DEL leaves no pod behind', async () => {
  const side = new Ours(join(root, 'ours'), bin)
  try {
    await side.open(enter)
    assert.deepEqual(await seen(side), wanted)
    assert.doesNotMatch(inside(side.node.path, 'nft', 'list', 'table', 'inet', 'twill'), /elements/)
  } finally {
    await side.close()
  }
})

const peer = pinned()
test('the reference: the same', { skip: peer ? false : 'no Go to build the reference plugins with' }, async () => {
  const side = new Theirs(join(root, 'theirs'), peer!.dir)
  try {
    assert.deepEqual(await seen(side), wanted)
  } finally {
    await side.close()
  }
})
