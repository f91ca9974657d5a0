import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Attachments, type Entry } from '#cni/attachments.ts'
import { sweepHalfWritten, wholeFiles, writeWhole } from '#cni/whole-file.ts'

const root = mkdtempSync(join(tmpdir(), 'twill-whole-'))
after(() => rmSync(root, { recursive: true }))

function dir(name: string): string {
  const path = join(root, name)
  mkdirSync(path)
  return path
}

test('a file is written whole; what cannot be put into place leaves nothing', () => {
  const at = dir('write')
  writeWhole(`${at}/a`, 'one')
  writeWhole(`${at}/a`, 'two')
  assert.equal(readFileSync(`${at}/a`, 'utf8'), 'two')
  mkdirSync(`${at}/b`)
  assert.throws(() => writeWhole(`${at}/b`, 'x'), { code: 'EISDIR' })
  assert.deepEqual(readdirSync(at).toSorted(), ['a', 'b'])
})

test('what is half written is no one’s: swept, at once or when its writer had time enough', () => {
  const at = dir('sweep')
  for (const name of ['.tmp-new', '.tmp-old', '.tmp-future', 'whole']) writeFileSync(`${at}/${name}`, '')
  utimesSync(`${at}/.tmp-old`, 1, 1)
  utimesSync(`${at}/.tmp-future`, 4e9, 4e9)
  assert.deepEqual(wholeFiles(at), ['whole'])
  sweepHalfWritten(at, 60_000)
  assert.deepEqual(readdirSync(at).toSorted(), ['.tmp-future', '.tmp-new', 'whole'])
  sweepHalfWritten(at)
  assert.deepEqual(readdirSync(at), ['whole'])
  sweepHalfWritten(`${at}/none`)
  assert.deepEqual(wholeFiles(`${at}/none`), [])
})

test('a note that was never put into place tells of nothing', () => {
  const at = dir('notes')
  const note: Partial<Entry> = { dataDir: '/x', attachment: { containerId: 'a', ifname: 'eth0' } as Entry['attachment'] }
  writeFileSync(`${at}/.tmp-a-eth0.adding`, JSON.stringify(note))
  assert.deepEqual(Attachments.open(at).unfinished, [])
  assert.deepEqual(readdirSync(at), [])
})
