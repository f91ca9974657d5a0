import assert from 'node:assert/strict'
import { test } from 'node:test'
import { kernelContract } from '#kernel/contract.ts'
import { FakeKernel } from '#kernel/fake.ts'
import { type Change, type Item, show } from '#model/kernel.ts'

kernelContract('fake', async () => ({
  kernel: new FakeKernel(),
  pod: '/run/netns/pod',
  directory: '/nowhere',
  end: async () => {},
}))

const route: Item = { kind: 'route', dst: '10.244.2.0/24', via: '192.168.10.102', dev: 'eth1', protocol: 84 }
const scope = { links: [], bridges: [], routeProtocol: 84, routeLinks: [], nftTables: [], sysctls: [], files: [] }

test('failures are given to the next ops, in order', async () => {
  const kernel = new FakeKernel().failNext('ENOBUFS', 'EBUSY')
  const outcomes = await kernel.apply([
    { verb: 'put', item: route },
    { verb: 'put', item: route },
    { verb: 'put', item: route },
  ])
  assert.deepEqual(
    outcomes.map(({ error }) => error && /ENOBUFS|EBUSY/.exec(error.message)?.[0]),
    ['ENOBUFS', 'EBUSY', undefined],
  )
  assert.deepEqual(kernel.observe(), [route])
})

test('a meddler is named, an overrun is told', async () => {
  const kernel = new FakeKernel({ items: [route] })
  const stop = new AbortController()
  const changes = kernel.watch(scope, stop.signal)
  kernel.meddle([{ verb: 'del', item: route }], { process: 'ip', pid: 7 })
  kernel.overrun()
  stop.abort()
  kernel.meddle([{ verb: 'put', item: route }])
  const seen: Change[] = []
  const again = kernel.watch(scope, AbortSignal.timeout(1000))
  kernel.meddle([{ verb: 'del', item: route }], { process: 'ip', pid: 7 })
  kernel.overrun()
  for await (const change of again) if (seen.push(change) === 2) break
  for await (const change of changes) assert.fail(`after the end: ${JSON.stringify(change)}`)
  const [first, second] = seen
  assert.ok(first?.verb === 'del' && show(first.item) === show(route))
  assert.deepEqual(first.by, { process: 'ip', pid: 7 })
  assert.equal(second?.verb, 'overrun')
})
