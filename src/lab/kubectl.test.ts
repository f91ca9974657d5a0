import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { findKubectl, isRecent } from '#lab/kubectl.ts'

const versions: [string, boolean][] = [
  ['{"clientVersion": {"major": "1", "minor": "30", "gitVersion": "v1.30.0"}}', true],
  ['{\n  "clientVersion": {\n    "gitVersion": "v1.32.4-dispatcher"\n', true],
  ['{"clientVersion": {"minor": "33+", "gitVersion": "v1.33.2+k3s1"}}', true],
  ['{"clientVersion": {"gitVersion": "v2.0.0"}}', true],
  ['{"clientVersion": {"gitVersion": "v1.29.14"}}', false],
  ['{"clientVersion": {"gitVersion": "v1.3.0"}}', false],
  ['{"clientVersion": {"gitVersion": "v0.31.0"}}', false],
  ['', false],
]
for (const [output, recent] of versions)
  test(`${output || 'nothing'} is ${recent ? '' : 'not '}recent`, () => assert.equal(isRecent(output), recent))

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'twill-kubectl-'))
  for (const sub of ['bin', 'cache/twill']) mkdirSync(join(dir, sub), { recursive: true })
})
afterEach(() => rmSync(dir, { recursive: true }))

function program(path: string, script: string): string {
  writeFileSync(join(dir, path), `#!/bin/sh\n${script}\n`)
  chmodSync(join(dir, path), 0o755)
  return join(dir, path)
}
const kubectl = (path: string, version: string): string => program(path, `echo '{"clientVersion": {"gitVersion": "${version}"}}'`)
/** A `go` that notes what it is asked, and what of the environment decides, and writes the program that -o names. */
const go = (end = ''): string =>
  program(
    'bin/go',
    `echo "$PWD $CGO_ENABLED $GOWORK $*" > ${dir}/asked\nwhile [ "$1" != -o ]; do shift; done\necho built > "$2"\nchmod +x "$2"\n${end}`,
  )
/** Finds with a PATH that has only what the test put there. */
async function find(more: Record<string, string> = {}): Promise<{ found: string | undefined; said: string; why?: string }> {
  const said: string[] = []
  const env = { PATH: `${dir}/bin`, XDG_CACHE_HOME: `${dir}/cache`, ...more }
  const found = await findKubectl((text) => said.push(text), env)
  return { found: found.path?.replace(`${dir}/`, ''), said: said.join('\n'), ...(found.path === undefined ? { why: found.why } : {}) }
}
const cached = 'cache/twill/kubectl-v1.33.2'

test('the one on PATH is taken if it is recent enough', async () => {
  kubectl('bin/kubectl', 'v1.30.1')
  kubectl(cached, 'v1.33.2')
  assert.deepEqual(await find(), { found: 'bin/kubectl', said: '' })
})

test('an old one, or one that does not run, is passed over for what was built before', async () => {
  kubectl(cached, 'v1.33.2')
  kubectl('bin/kubectl', 'v1.29.0')
  assert.deepEqual(await find(), { found: cached, said: '' })
  program('bin/kubectl', 'exit 1')
  assert.deepEqual(await find(), { found: cached, said: '' })
})

test('with Go it is built once, from the pinned module, and said', async () => {
  go()
  const built = await find({ PATH: `${dir}/bin:${buildTools()}` })
  assert.equal(built.found, cached)
  assert.match(built.said, /^building kubectl v1\.33\.2 with Go, once: about \d+ min$/)
  const asked = readFileSync(`${dir}/asked`, 'utf8')
  assert.match(
    asked,
    /^\S+\/tools\/kubectl 0 off build -trimpath .*-mod=readonly .*gitVersion=v1\.33\.2 .*k8s\.io\/kubernetes\/cmd\/kubectl$/m,
  )
  assert.deepEqual(readdirSync(`${dir}/cache/twill`), ['kubectl-v1.33.2'])
  rmSync(`${dir}/bin/go`)
  assert.deepEqual(await find(), { found: cached, said: '' })
})

test('a build that fails leaves nothing behind and says why; the lab goes on without', async () => {
  go('echo "no route to the module" >&2; exit 1')
  const { found, said, why } = await find({ PATH: `${dir}/bin:${buildTools()}` })
  assert.equal(found, undefined)
  assert.match(why!, /the one that Go was to build could not be built/)
  assert.match(said, /could not be built: .*no route to the module/)
  assert.equal(existsSync(join(dir, cached)), false)
  assert.deepEqual(readdirSync(`${dir}/cache/twill`), [])
})

test('without any of them there is none, and it is said which are missing', async () => {
  const why = 'No kubectl 1.30 or later on this machine, and no Go to build one with.'
  assert.deepEqual(await find(), { found: undefined, said: '', why })
})

test('TWILL_KUBECTL names one, or none', async () => {
  kubectl('bin/kubectl', 'v1.32.0')
  const other = kubectl('other', 'v1.31.0')
  assert.equal((await find({ TWILL_KUBECTL: other })).found, 'other')
  assert.equal((await find({ TWILL_KUBECTL: 'none' })).found, undefined)
  for (const path of [`${dir}/absent`, kubectl('old', 'v1.20.0')])
    await assert.rejects(find({ TWILL_KUBECTL: path }), { code: 'ERR_LAB_KUBECTL', message: new RegExp(path) })
})

/** A directory with the few programs that a build needs, and no kubectl. */
function buildTools(): string {
  mkdirSync(`${dir}/tools`, { recursive: true })
  for (const name of ['nice', 'chmod']) program(`tools/${name}`, `exec /usr/bin/${name} "$@"`)
  return `${dir}/tools`
}
