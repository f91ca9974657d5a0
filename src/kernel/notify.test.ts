import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { sys } from '#kernel/ffi.ts'
import { notifyManager, unixAddress } from '#kernel/notify.ts'

const AF_UNIX = 1
const SOCK_DGRAM = 2

const dir = mkdtempSync(join(tmpdir(), 'twill-notify-'))
for (const path of [join(dir, 'notify'), `@twill-notify-${process.pid}`]) {
  test(`the service manager hears at ${path.startsWith('@') ? 'an abstract' : 'a'} socket`, (t) => {
    const fd = sys.socket(AF_UNIX, SOCK_DGRAM, 0)
    t.after(() => {
      closeSync(fd)
      rmSync(dir, { recursive: true, force: true })
    })
    sys.bind(fd, unixAddress(path))
    notifyManager(path, 'READY=1\nSTATUS=serving')
    const into = new Uint8Array(100)
    const length = sys.recvNow(fd, into)
    assert.equal(Buffer.from(into.subarray(0, length)).toString(), 'READY=1\nSTATUS=serving')
  })
}

test('nobody there: the reason', () => {
  assert.throws(() => notifyManager('/nowhere/notify', 'READY=1'), { code: 'ENOENT' })
})
