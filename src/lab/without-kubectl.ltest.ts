/** A machine without kubectl and Go: the lab says how to get it, and tells its story all the same. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { kubectlAdvice } from '#lab/mini-kubectl.ts'
import { type Ran, tryRun } from '#lab/nodes/run.ts'
import { labEntry, nodeBinary } from '#lab/repo.ts'

const lab = `nok${process.pid % 100000}`
const dir = mkdtempSync('/var/tmp/twill-no-kubectl-')

/** The machine's PATH without the two, where a node sees it too (its /tmp is its own). */
function bareMachine(): Record<string, string> {
  mkdirSync(`${dir}/bin`)
  const names = new Map(['/bin', '/sbin', '/usr/bin', '/usr/sbin'].flatMap((at) => readdirSync(at).map((name) => [name, `${at}/${name}`])))
  for (const [name, path] of names) if (name !== 'kubectl' && name !== 'go') symlinkSync(path, `${dir}/bin/${name}`)
  return { PATH: `${dir}/bin`, HOME: dir }
}
const env = bareMachine()
const twillLab = (...words: string[]): Promise<Ran> =>
  tryRun([nodeBinary, '--disable-warning=ExperimentalWarning', labEntry, ...words], { env })
const kubectl = (...words: string[]): Promise<Ran> => twillLab('exec', '--name', lab, 'k8s-ctr', '--', 'kubectl', ...words)

let told: Ran
before(async () => {
  told = await twillLab('up', '--name', lab)
})
after(async () => {
  await twillLab('down', '--name', lab)
  rmSync(dir, { recursive: true })
})

test('the lab says how to get kubectl, tells its story to the end, and exits with 0', () => {
  assert.equal(told.status, 0, told.stderr)
  assert.ok(told.stdout.includes('No kubectl 1.30 or later on this machine, and no Go to build one with.'))
  assert.ok(told.stdout.includes(kubectlAdvice))
  assert.match(told.stdout, /^8\. Delete$/m)
  assert.match(told.stdout, /^RemoteAddr: 10\.244\.0\.\d+:/m)
})

test('kubectl on a node is the lab’s little one, whose exec ends with its command’s status', async () => {
  assert.equal((await kubectl('apply', '-f', '/root/webpod.yml')).status, 0)
  const exec = (...words: string[]): Promise<Ran> => kubectl('exec', 'curl-pod', '--', ...words)
  const deadline = performance.now() + 20_000
  while ((await exec('true')).status !== 0) assert.ok(performance.now() < deadline, 'curl-pod never ran')
  const { status, stdout, stderr } = await exec('sh', '-c', 'echo out; echo err >&2; exit 7')
  assert.equal(status, 7)
  assert.equal(stdout, 'out\n')
  assert.match(stderr, /^err\n/)
})

test('delete waits for the object to go, and says so if it does not', async () => {
  const held = `{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [twill.test/held]}}`
  const written = await twillLab('exec', '--name', lab, 'k8s-ctr', '--', 'sh', '-c', `echo '${held}' > /root/held.yml`)
  assert.equal(written.status, 0)
  assert.equal((await kubectl('apply', '-f', '/root/held.yml')).status, 0)
  const { status, stderr } = await kubectl('delete', 'cm', 'held', '--timeout', '0.2s')
  assert.equal(status, 1)
  assert.match(stderr, /timed out waiting for the condition on configmaps\/held/)
})

const refused: [string[], RegExp][] = [
  [['drain', 'k8s-w1'], /little kubectl cannot do this: kubectl drain k8s-w1\n[\s\S]*1\.30/],
  [['get', 'node', '-o', 'yaml'], /no -o yaml/],
  [['get', 'kettle'], /"kettle"/],
  [['get', 'pod', 'absent'], /pods "absent" not found/],
]
for (const [words, said] of refused)
  test(`kubectl ${words.join(' ')}: says why not, exit status 1`, async () => {
    const { status, stderr } = await kubectl(...words)
    assert.equal(status, 1)
    assert.match(stderr, said)
  })
