/**
 * The same input to ours and to the reference plugins, each on a node of its own: same answers, same state, same files.
 * Two files play a half each (compare.ktest.ts and compare-2.ktest.ts), so that both cores do.
 * @module
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { installShim } from '#cni/install.ts'
import { sweepTempNetns } from '#kernel/temp-netns.ts'
import { type Case, generate } from './cases.ts'
import { debian, type Peer, pinned } from './peers.ts'
import { Play, problems } from './play.ts'
import { enter, Ours, Theirs } from './world.ts'

const COUNT = Number(process.env.CNI_CASES ?? 320)
const SEED = Number(process.env.CNI_SEED ?? 20261123)

sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim']).status, 0)
const root = mkdtempSync(join(tmpdir(), 'twill-cni-compare-'))
const bin = join(root, 'bin')
installShim('dist/shim/twill-cni', bin)
after(() => rmSync(root, { recursive: true }))

const peers = [debian(), pinned()].filter((peer) => peer !== undefined)
const versionOf = ({ conf }: Case): string =>
  (typeof conf === 'object' && typeof conf.cniVersion === 'string' && conf.cniVersion) || '0.1.0'

/** Whether `peer` can do what `one` asks for. Debian's plugins are older than port isolation, and let a pod's IPv6 address go with its link. */
function speaks(peer: Peer, one: Case): boolean {
  if (peer.name !== 'debian') return true
  const conf = JSON.stringify(one.conf)
  const downed = one.steps.some((step) => step.do === 'tamper' && step.argv.includes('down')) && conf.includes('2001:')
  return (
    versionOf(one) !== '1.1.0' && !conf.includes('"portIsolation":true') && !conf.includes('"disableContainerInterface":true') && !downed
  )
}

/** Every case meets one peer, in turn; with CNI_PEERS=all, all of them. */
async function comparison(one: Case, n: number): Promise<string[]> {
  const ours = new Ours(join(root, `${n}-ours`), bin)
  const theirs = peers
    .filter((peer) => speaks(peer, one))
    .filter((_, i, able) => process.env.CNI_PEERS === 'all' || i === (n >> 1) % able.length)
    .map((peer) => ({ peer, side: new Theirs(join(root, `${n}-${peer.name}`), peer.dir) }))
  const sides = [ours, ...theirs.map(({ side }) => side)]
  for (const { dir } of sides) {
    mkdirSync(join(dir, 'networks'), { recursive: true })
    writeFileSync(join(dir, 'resolv.conf'), '# comment\nnameserver 10.96.0.10\nsearch a.b c\ndomain d\noptions ndots:5 edns0\n')
  }
  try {
    await ours.open(enter)
    const mine = new Play(one, ours)
    const others = theirs.map(({ peer, side }) => ({ peer, play: new Play(one, side) }))
    const cut = one.steps.findIndex((step) => step.do === 'DEL')
    const found: string[] = []
    for (const [name, steps] of [
      ['before DEL', one.steps.slice(0, cut)],
      ['at the end', one.steps.slice(cut)],
    ] as const) {
      await Promise.all([mine, ...others.map(({ play }) => play)].map((play) => play.run(steps)))
      for (const { peer, play } of others) found.push(...(await problems(mine, play, name, peer)))
      if (found.length > 0) break
    }
    return found
  } finally {
    for (const side of sides) await side.close()
  }
}

const skip = peers.length === 0 ? 'no reference plugins here' : false

/** Declares the test of one half of the cases. */
export function compareHalf(half: 0 | 1): void {
  const name = `every second of ${COUNT} cases of seed ${SEED} against ${peers.map((peer) => peer.name).join(' and ')}`
  test(name, { skip, timeout: 170_000 }, async (t) => {
    const wrong: string[] = []
    for (const [n, one] of generate(COUNT, SEED).entries()) {
      if (n % 2 !== half) continue
      t.signal.throwIfAborted() // or a test that timed out would go on
      const found = await comparison(one, n)
      if (found.length > 0) wrong.push(`case ${n}: ${JSON.stringify(one)}\n    ${found.join('\n    ')}`)
    }
    assert.equal(wrong.length, 0, `${wrong.length} differ\n${wrong.join('\n')}`)
  })
}
