import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Log, silentLog } from '#base/log.ts'
import { Journal } from '#daemon/journal.ts'
import type { Culprit, Item, Op } from '#model/kernel.ts'

const route: Item = {
  kind: 'route',
  dst: '10.244.2.0/24',
  via: '10.244.2.0',
  dev: 'flannel.1',
  onlink: true,
  protocol: 84,
  owner: 'peer k8s-w2',
}
const date = (): Date => new Date('2026-11-23T12:00:00Z')

const cases: { name: string; op?: Op['verb']; drift: 'put' | 'del'; by?: Culprit; want: [found: string, by: string | undefined] }[] = [
  { name: 'a living process', drift: 'del', by: { process: 'ip', pid: 7 }, want: ['deleted', 'ip pid 7'] },
  { name: 'a process that ended', drift: 'put', by: { pid: 7 }, want: ['changed', 'pid 7'] },
  { name: 'a second socket', drift: 'put', by: { port: 4_026_531_840 }, want: ['changed', 'port 4026531840'] },
  { name: 'nobody is named', drift: 'del', want: ['deleted', undefined] },
  { name: 'something that nobody wants', op: 'del', drift: 'put', by: {}, want: ['added', undefined] },
]
for (const { name, op = 'put', drift, by, want } of cases) {
  test(`a repair: ${name}`, () => {
    const [repair] = new Journal(silentLog, date).note([{ op: { verb: op, item: route }, drift: { verb: drift, ...(by && { by }) } }])
    assert.deepEqual([repair!.found, repair!.by], want)
    assert.equal(repair!.owner, 'peer k8s-w2')
    assert.equal(repair!.at, '2026-11-23T12:00:00.000Z')
  })
}

test('a thousand repairs of one pass: all are counted, the last are kept, the log is not filled', () => {
  const logged: object[] = []
  const log: Log = { ...silentLog, warn: (fields) => logged.push(fields) }
  const journal = new Journal(log, date)
  const many = Array.from({ length: 1000 }, (_, i) => ({
    op: { verb: 'put', item: { ...route, dst: `10.${i >> 8}.${i & 255}.0/24` } } as Op,
    drift: { verb: 'del' } as const,
  }))
  assert.equal(journal.note(many).length, 1000)
  assert.equal(journal.total, 1000)
  assert.deepEqual(journal.byKind, { route: 1000 })
  assert.equal(journal.recent.length, 100)
  assert.match(journal.recent.at(-1)!.op, /10\.3\.231\.0/)
  assert.deepEqual([logged.length, logged.at(-1)], [21, { more: 980 }])
})
