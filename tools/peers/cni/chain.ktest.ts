/** Plugins of the reference chained after ours, as binaries, do what they do after the reference's own. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns } from '#kernel/temp-netns.ts'
import { debian, pinned } from './peers.ts'
import { differences } from './play.ts'
import { type Answer, enter, type Json, Ours, run, type Side, Theirs } from './world.ts'

sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim']).status, 0)
const root = mkdtempSync(join(tmpdir(), 'twill-cni-chain-'))
const bin = join(root, 'bin')
installShim('dist/shim/twill-cni', bin)
after(() => {
  rmSync(root, { recursive: true })
  setImmediate(() => process.exit())
})

const bridge = {
  cniVersion: '1.0.0',
  name: 'chain',
  type: 'bridge',
  isDefaultGateway: true,
  ipam: { type: 'host-local', dataDir: '@DIR@/networks', ranges: [[{ subnet: '10.1.0.0/24' }]] },
}
/** Where this kernel cannot do what a plugin asks of it, it fails after ours as it does after the reference's. */
const chained: readonly (Json & { type: string })[] = [
  { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.arp_filter': '1' }, mac: 'c2:11:22:33:44:55', mtu: 1300, promisc: true },
  { type: 'bandwidth', ingressRate: 800_000, ingressBurst: 80_000, egressRate: 800_000, egressBurst: 80_000 },
  { type: 'firewall' },
  { type: 'portmap', capabilities: { portMappings: true }, runtimeConfig: { portMappings: [] } },
]

/** ADD of both, CHECK and DEL of the chained one, DEL of the bridge; and how the pod looked in between. */
async function chain(side: Side, dir: string, plugin: Json & { type: string }): Promise<unknown> {
  const answers: unknown[] = []
  const call = async (type: string, command: string, conf: object): Promise<Answer> => {
    const one = { plugin: type, command, id: 'a', ifname: 'eth0', conf: JSON.stringify(conf) }
    const answer = await (type === 'bridge' ? side.call(one) : side.callIn(dir, one))
    const { dns: _, ...said } = (answer.text === '' ? {} : JSON.parse(side.mask(answer.text))) as Json
    answers.push({ type, command, exit: answer.exit, said })
    return answer
  }
  const added = await call('bridge', 'ADD', bridge)
  assert.equal(added.exit, 0, added.text)
  const conf = { cniVersion: '1.0.0', name: 'chain', ...plugin, prevResult: JSON.parse(added.text) as Json }
  const more = await call(plugin.type, 'ADD', conf)
  const { node, pods } = await side.view()
  // A reference a queue: ours have one.
  const qdiscs = side.mask((await run(side.node.path, ['tc', 'qdisc', 'show'])).text).replace(/refcnt \d+/g, 'refcnt N')
  if (more.exit === 0) await call(plugin.type, 'CHECK', { ...conf, prevResult: JSON.parse(more.text) as Json })
  await call(plugin.type, 'DEL', conf)
  await call('bridge', 'DEL', bridge)
  return { answers, node, pods, qdiscs }
}

for (const peer of [debian(), pinned()].filter((one) => one !== undefined)) {
  for (const plugin of chained) {
    test(`${plugin.type} of ${peer.name} after ours`, async () => {
      const name = `${peer.name}-${plugin.type}`
      const [ours, theirs] = [new Ours(join(root, `${name}-ours`), bin), new Theirs(join(root, `${name}-theirs`), peer.dir)]
      try {
        await ours.open(enter)
        const mine = await chain(ours, peer.dir, plugin)
        const other = await chain(theirs, peer.dir, plugin)
        assert.deepEqual(
          differences(mine, other, name).filter((line) => !/keep_addr_on_down/.test(line)),
          [],
        )
      } finally {
        for (const side of [ours, theirs]) await side.close()
      }
    })
  }
}
