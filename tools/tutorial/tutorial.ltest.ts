/** Every command of docs/tutorial.md, in order, in a fresh lab: what a person is told to expect is what appears. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { parseConsole } from './console.ts'
import { checkStep } from './run.ts'

process.env.TWILL_LAB = `t${process.pid}`
const lab = (...args: string[]): string => {
  const done = spawnSync('bin/twill', ['lab', ...args], { encoding: 'utf8', timeout: 120_000 })
  assert.equal(done.status, 0, `twill lab ${args.join(' ')}: ${done.stdout}${done.stderr}`)
  return done.stdout
}

before(() => {
  lab('down')
})
after(() => {
  lab('down')
})

let broken = false
for (const step of parseConsole(readFileSync('docs/tutorial.md', 'utf8'))) {
  test(`docs/tutorial.md:${step.line} ${step.where}# ${step.command}`, async (t) => {
    // Each step stands on the ones before it: after the first failure the rest says nothing new.
    if (broken) return t.skip('an earlier step of the walkthrough failed')
    broken = true
    assert.equal(await checkStep(step), undefined)
    broken = false
  })
}
