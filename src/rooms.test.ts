import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

/** What each room may import. One direction: see docs/architecture.md. */
const rooms: Record<string, readonly string[]> = {
  base: [],
  net: ['base'],
  model: ['base', 'net'],
  wire: ['base', 'net', 'model'],
  config: ['base', 'net', 'model'],
  plan: ['base', 'net', 'model', 'config'],
  cluster: ['base', 'net', 'model', 'config'],
  kernel: ['base', 'net', 'model', 'wire'],
  cni: ['base', 'net', 'model', 'wire', 'plan'],
  daemon: ['base', 'net', 'model', 'config', 'wire', 'cluster', 'plan', 'kernel', 'cni'],
  cli: ['base', 'net', 'model', 'config', 'wire', 'cluster', 'plan', 'kernel', 'cni'],
  web: ['model'],
  lab: ['base', 'net', 'model', 'config'],
}

test('rooms import only what the layout allows', () => {
  for (const file of globSync('src/*/**/*.ts').filter((f) => !/\.k?test\.ts$/.test(f))) {
    const room = file.split('/')[1]!
    for (const [, to] of readFileSync(file, 'utf8').matchAll(/(?:from|import\() ?'#(\w+)\//g)) {
      assert.ok(to === room || rooms[room]?.includes(to!), `${file} may not import #${to}: see docs/architecture.md`)
    }
  }
})

test('rooms reach each other through #room/ only, never by relative path', () => {
  for (const file of globSync('src/*/**/*.ts')) {
    assert.doesNotMatch(readFileSync(file, 'utf8'), /from '\.\.?\//, `${file}: write '#room/file.ts'`)
  }
})

test('plan, net and model import no node: module, so they cannot reach the world', () => {
  for (const file of globSync('src/{plan,net,model}/**/*.ts').filter((f) => !/\.k?test\.ts$/.test(f))) {
    assert.doesNotMatch(readFileSync(file, 'utf8'), /from 'node:/, file)
  }
})
