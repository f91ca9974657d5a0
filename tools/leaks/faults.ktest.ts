/** Disks that are full or cannot be written, and a lock that another holds: an ADD is whole or leaves nothing, a DEL comes to its end. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

const CLONE_NEWNS = 0x20000
const MS_RDONLY = 1
const MS_REMOUNT = 32
const MS_PRIVATE = 1 << 18
const MS_REC = 16384

// Mounts of this test are seen by no one else and end with it.
sys.unshare(CLONE_NEWNET | CLONE_NEWNS)
sys.mount('none', '/', '', MS_PRIVATE | MS_REC, '')

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { Rounds } from './rounds.ts'
import { type Pod, stateOf, Tools, World } from './world.ts'

const PAGE = 4096
const tools = new Tools()
const dir = join(tools.dir, 'disk')
mkdirSync(dir)
sys.mount('none', dir, 'tmpfs', 0, 'size=256k,nr_inodes=96')
const world = new World(tools, dir)
const rounds = new Rounds(world)
after(async () => {
  await world.close()
  sys.umount2(dir, 2) // MNT_DETACH: what a killed agent held open is let go of a moment later
  tools.close()
})

/** Leaves so many pages and files. */
function fill(left: { pages?: number; files?: number }): void {
  const ballast = join(dir, 'ballast')
  mkdirSync(ballast)
  if (left.pages !== undefined) {
    const fd = openSync(join(ballast, 'all'), 'w')
    const pages = statfsSync(dir).bfree
    for (let i = 0; i < pages; i++) writeSync(fd, Buffer.alloc(PAGE))
    closeSync(fd)
    truncateSync(join(ballast, 'all'), (pages - left.pages) * PAGE)
  } else {
    const files = statfsSync(dir).ffree - left.files!
    for (let i = 0; i < files; i++) writeFileSync(join(ballast, `${i}`), '')
  }
}
const empty = (): void => rmSync(join(dir, 'ballast'), { recursive: true })

test('a disk with room for n files or pages only: ADD is whole or refused, DEL works', async (t) => {
  await rounds.open()
  await world.start()
  let whole = 0
  const rooms = Array.from({ length: 6 }, (_, n) => [{ pages: n }, { files: n }]).flat()
  for (const room of rooms) {
    const pod = rounds.pod()
    fill(room)
    const alive = await world.add(pod)
    if (alive) whole++
    assert.ok(await world.del(pod), `DEL with ${JSON.stringify(room)} free`)
    await rounds.expect(stateOf([rounds.neighbor]))
    empty()
    assert.deepEqual(rounds.wrong, [], JSON.stringify(room))
  }
  t.diagnostic(`${whole} of ${rooms.length} ADDs were whole`)
  assert.ok(whole > 0 && whole < rooms.length)
  await rounds.settle([])
  assert.deepEqual(rounds.wrong, [])
})

test('no agent and a full disk: DEL says so, leaves nothing in the queue, and works when there is room', async () => {
  const pod = await rounds.running()
  await world.kill()
  fill({ files: 0 })
  assert.equal(await world.del(pod), false)
  assert.deepEqual(world.files('run/delete-queue'), [])
  empty()
  assert.ok(await world.del(pod))
  await world.start()
  await rounds.settle([])
  assert.deepEqual(rounds.wrong, [])
})

test('a disk that cannot be written: ADD and DEL fail, and leave nothing when it can be again', async () => {
  const [old, young] = [await rounds.running(), rounds.pod()]
  sys.mount('none', dir, '', MS_REMOUNT | MS_RDONLY, '')
  assert.equal(await world.add(young), false)
  assert.equal(await world.del(old), false)
  sys.mount('none', dir, '', MS_REMOUNT, '')
  assert.ok(await world.del(young))
  assert.ok(await world.del(old))
  await rounds.settle([])
  assert.deepEqual(rounds.wrong, [])
})

test('another holds host-local’s lock: ADD waits for it; one whose runtime gave up leaves nothing', async () => {
  const holder = spawn('flock', [join(dir, 'networks/cbr0/lock'), 'sh', '-c', 'echo held; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => holder.stdout.once('data', resolve))
  const [patient, hasty] = [rounds.pod(), rounds.pod()]
  let done = false
  const waiting = world.add(patient).finally(() => {
    done = true
  })
  assert.equal(await world.add(hasty, { plugin: 'flannel', at: 1 }), false) // killed when it has asked
  await systemClock.sleep(50)
  assert.equal(done, false)
  holder.stdin.end('\n')
  assert.ok(await waiting)
  await rounds.settle([patient])
  assert.deepEqual(rounds.wrong, [])
})

test('files torn by a power cut: the pods ended with it, and nothing of them is left', async () => {
  const pods: Pod[] = [await rounds.running(), await rounds.running(), await rounds.running()]
  const files = ['run/attachments', 'run/hostports', 'flannel', 'networks/cbr0'].flatMap((at) =>
    readdirSync(join(dir, at)).flatMap((name) =>
      pods.some(({ id }) => name === id || name.startsWith(`${id}-`)) ? join(dir, at, name) : [],
    ),
  )
  assert.equal(files.length, 9)
  for (const pod of pods) assert.ok(await world.del(pod)) // what the kernel had, which no power cut leaves
  await world.kill()
  for (const [i, path] of files.entries()) writeFileSync(path, i % 2 === 0 ? '' : '{"attachment":{"contai')
  writeFileSync(join(dir, 'networks/cbr0/last_reserved_ip.0'), '')
  writeFileSync(join(dir, 'networks/cbr0/10.244.1.200'), '')
  writeFileSync(join(dir, 'run/delete-queue/torn'), 'TWILL')
  await world.start()
  await rounds.settle([])
  assert.deepEqual(rounds.wrong, [])
})
