/** Every command of tools/kubectl/commands.yaml, in order, by the real kubectl in a lab as `make lab` leaves it. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, suite, test } from 'node:test'
import { findKubectl } from '#lab/kubectl.ts'
import { check, prepare, readBook } from './book.ts'

process.env.TWILL_LAB = `k${process.pid}`
const lab = (...args: string[]): void => {
  const done = spawnSync('bin/twill', ['lab', ...args], { encoding: 'utf8', timeout: 180_000 })
  assert.equal(done.status, 0, `twill lab ${args.join(' ')}: ${done.stdout}${done.stderr}`)
}
const { path } = await findKubectl(() => {})

if (path === undefined) test('kubectl', { skip: 'no kubectl on this machine, and no Go to build one' }, () => {})
else {
  before(() => lab('up'))
  after(() => lab('down'))
  for (const section of readBook()) {
    suite(section.title, () => {
      before(() => prepare(section))
      for (const step of section.steps) test(step.run, async () => assert.equal(await check(step), undefined))
    })
  }
}
