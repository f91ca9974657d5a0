import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { parseIpam } from '#cni/ipam.ts'
import { AddressStore, type TakeLock } from '#cni/store.ts'

const noLock: TakeLock = () => Promise.resolve(() => {})
const conf = (ipam: object, args = '') => parseIpam({}, { type: 'host-local', ...ipam }, args, '')
const eth0 = (containerId: string) => ({ containerId, ifname: 'eth0' })

function freshDir(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'twill-store-'))
  t.after(() => rmSync(root, { recursive: true }))
  return join(root, 'cbr0')
}

test('files byte for byte, and DEL leaves what the reference plugin leaves', async (t) => {
  const dir = freshDir(t)
  const store = new AddressStore(dir, noLock)
  const small = conf({ subnet: '10.1.0.0/24' })
  assert.deepEqual(await store.allocate(small, eth0('abc')), [{ address: '10.1.0.2/24', gateway: '10.1.0.1' }])
  assert.equal(readFileSync(join(dir, '10.1.0.2'), 'utf8'), 'abc\r\neth0')
  assert.equal(statSync(join(dir, '10.1.0.2')).mode & 0o777, 0o600)
  assert.equal(readFileSync(join(dir, 'last_reserved_ip.0'), 'utf8'), '10.1.0.2')
  assert.equal(statSync(dir).mode & 0o777, 0o755)
  assert.deepEqual(await store.release(eth0('abc')), ['10.1.0.2'])
  assert.deepEqual(await store.release(eth0('abc')), [])
  assert.deepEqual(readdirSync(dir), ['last_reserved_ip.0'])
  assert.deepEqual(await store.allocate(small, eth0('abc')), [{ address: '10.1.0.3/24', gateway: '10.1.0.1' }])
})

test('what is held is on disk after write, and no one chooses before the end', async (t) => {
  const dir = freshDir(t)
  let locked = 0
  const store = new AddressStore(dir, () => {
    locked++
    return Promise.resolve(() => locked--)
  })
  const addresses = (): string[] => readdirSync(dir).filter((name) => name.startsWith('10.'))
  const small = conf({ subnet: '10.1.0.0/24' })
  const held = await store.hold(small, eth0('a'))
  let other: string | undefined
  const next = store.allocate(small, eth0('b')).then(([got]) => {
    other = got!.address
  })
  assert.deepEqual([held.reservations[0]!.address, addresses(), locked], ['10.1.0.2/24', [], 1])
  held.write()
  await new Promise(setImmediate)
  assert.deepEqual([addresses(), other], [['10.1.0.2'], undefined])
  held.end()
  await next
  assert.deepEqual([addresses(), other, locked], [['10.1.0.2', '10.1.0.3'], '10.1.0.3/24', 0])
  const dropped = await store.hold(conf({ subnet: '10.1.0.0/24' }, 'IP=10.1.0.9'), eth0('c'))
  dropped.end()
  assert.deepEqual(await store.lookup(eth0('c')), [])
  writeFileSync(join(dir, '10.1.0.9'), '')
  const late = await store.hold(conf({ subnet: '10.1.0.0/24' }), eth0('d'))
  writeFileSync(join(dir, late.reservations[0]!.address.split('/')[0]!), 'someone without the lock')
  assert.throws(() => late.write(), { code: 'EEXIST' })
  late.end()
})

test('duplicates, exhaustion, requested addresses: the reference texts', async (t) => {
  const store = new AddressStore(freshDir(t), noLock)
  const tiny = { subnet: '10.1.0.0/24', rangeEnd: '10.1.0.3' }
  const refused = (ipam: object, id: string, message: string, args = '') =>
    assert.rejects(store.allocate(conf(ipam, args), eth0(id)), { code: 999, message })
  await store.allocate(conf(tiny), eth0('a'))
  await refused(tiny, 'a', 'failed to allocate for range 0: 10.1.0.2 has been allocated to a, duplicate allocation is not allowed')
  await store.allocate(conf(tiny), eth0('b'))
  await refused(tiny, 'c', 'failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.3')
  const wide = { subnet: '10.1.0.0/24' }
  await refused(wide, 'c', "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway", 'IP=10.1.0.1')
  await refused(
    wide,
    'c',
    'failed to allocate for range 0: requested IP address 10.1.0.2 is not available in range set 10.1.0.1-10.1.0.254',
    'IP=10.1.0.2',
  )
  await refused(wide, 'c', 'failed to allocate all requested IPs: 10.9.0.2', 'IP=10.9.0.2')
  assert.deepEqual(await store.lookup(eth0('c')), [], 'nothing is kept of a failed ADD')
  assert.deepEqual(await store.allocate(conf(wide, 'IP=10.1.0.77'), eth0('c')), [{ address: '10.1.0.77/24', gateway: '10.1.0.1' }])
})

test('a later set that fails gives the earlier addresses back', async (t) => {
  const dir = freshDir(t)
  const store = new AddressStore(dir, noLock)
  const dual = conf({ ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: '2001:db8::/126', rangeEnd: '2001:db8::2' }]] })
  assert.deepEqual(
    (await store.allocate(dual, eth0('a'))).map((one) => one.address),
    ['10.1.0.2/24', '2001:db8::2/126'],
  )
  await assert.rejects(store.allocate(dual, eth0('b')), /range 1: no IP addresses/)
  assert.ok(!existsSync(join(dir, '10.1.0.3')))
  assert.deepEqual(await store.release(eth0('a')), ['10.1.0.2', '2001:db8::2'])
})

test('what others wrote counts: the reference plugin, very old entries, torn files', async (t) => {
  const dir = freshDir(t)
  const store = new AddressStore(dir, noLock)
  const small = conf({ subnet: '10.1.0.0/24' })
  await store.allocate(small, eth0('a'))
  writeFileSync(join(dir, '10.1.0.3'), 'other\r\neth0')
  writeFileSync(join(dir, '10.1.0.4'), 'old')
  writeFileSync(join(dir, '10.1.0.5'), '')
  assert.deepEqual(await store.allocate(small, eth0('b')), [{ address: '10.1.0.5/24', gateway: '10.1.0.1' }])
  assert.deepEqual(await store.release(eth0('old')), ['10.1.0.4'])
  rmSync(join(dir, '10.1.0.3'))
  assert.deepEqual(await store.release(eth0('other')), [])
  writeFileSync(join(dir, 'last_reserved_ip.0'), 'rubbish')
  assert.deepEqual(await store.allocate(small, eth0('c')), [{ address: '10.1.0.3/24', gateway: '10.1.0.1' }])
})

test('the reference host-local and ours take turns on one directory', { skip: !existsSync('/usr/lib/cni/host-local') }, async (t) => {
  const dir = freshDir(t)
  const store = new AddressStore(dir, noLock)
  const ipam = { type: 'host-local', dataDir: join(dir, '..'), subnet: '10.1.0.0/29' }
  const reference = (command: string, id: string): string => {
    const env = { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: '/x', CNI_IFNAME: 'eth0', CNI_PATH: '/usr/lib/cni' }
    const input = JSON.stringify({ cniVersion: '1.0.0', name: 'cbr0', type: 'bridge', ipam })
    return spawnSync('/usr/lib/cni/host-local', { env, input, encoding: 'utf8' }).stdout
  }
  const ours = async (id: string) => (await store.allocate(conf(ipam), eth0(id)))[0]!.address
  assert.equal(await ours('a'), '10.1.0.2/29')
  assert.match(reference('ADD', 'b'), /"10\.1\.0\.3\/29"/)
  assert.equal(await ours('c'), '10.1.0.4/29')
  reference('DEL', 'a')
  assert.deepEqual(await store.release(eth0('b')), ['10.1.0.3'])
  assert.match(reference('ADD', 'd'), /"10\.1\.0\.5\/29"/)
  assert.match(reference('ADD', 'c'), /10\.1\.0\.4 has been allocated to c, duplicate/)
  assert.deepEqual([await ours('e'), await ours('f')], ['10.1.0.6/29', '10.1.0.2/29'])
})

test('no address is ever held twice, whatever the order of ADD and DEL', async (t) => {
  const dir = freshDir(t)
  const step = fc.record({ add: fc.boolean(), id: fc.integer({ min: 0, max: 7 }), restart: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      rmSync(dir, { recursive: true, force: true })
      mkdirSync(dir)
      let store = new AddressStore(dir, noLock)
      const held = new Map<string, string>()
      for (const { add, id, restart } of steps) {
        if (restart) store = new AddressStore(dir, noLock)
        const owner = eth0(`c${id}`)
        if (add && !held.has(owner.containerId) && held.size < 5) {
          const [got] = await store.allocate(conf({ subnet: '10.1.0.0/29' }), owner)
          assert.ok(![...held.values()].includes(got!.address), `${got!.address} is held`)
          held.set(owner.containerId, got!.address)
        } else if (!add) {
          const freed = await store.release(owner)
          assert.deepEqual(
            freed.map((ip) => `${ip}/29`),
            held.has(owner.containerId) ? [held.get(owner.containerId)] : [],
          )
          held.delete(owner.containerId)
        }
      }
      assert.equal(readdirSync(dir, { withFileTypes: true }).filter((one) => one.name.startsWith('10.')).length, held.size)
    }),
    { numRuns: 60 },
  )
})
