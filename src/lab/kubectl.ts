/**
 * The kubectl of the lab: the machine's own if it is recent enough, else one built from Kubernetes' module with Go, else none.
 * What is built is kept outside of the repository, by version. TWILL_LAB_KUBECTL=none does as if there were none to be had.
 * @module
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { run, tryRun } from '#lab/nodes/run.ts'

const kubernetes = 'v1.33.2'
const oldestMinor = 30

/** Path of a kubectl to be seen in the nodes, or undefined. @param say  Told when it takes long. */
export async function findKubectl(say: (line: string) => void): Promise<string | undefined> {
  if (process.env.TWILL_LAB_KUBECTL === 'none') return undefined
  const installed = pathOf('kubectl')
  if (installed && (await isRecent(installed))) return realpathSync(installed)
  const cache = `${process.env.XDG_CACHE_HOME ?? `${homedir()}/.cache`}/twill/kubectl-${kubernetes}`
  const built = `${cache}/kubectl`
  if (existsSync(built)) return built
  const go = pathOf('go')
  if (!go) return undefined
  say(`building kubectl ${kubernetes} with ${go}: some minutes, once`)
  await build(go, cache)
  return built
}

function pathOf(program: string): string | undefined {
  const dirs = (process.env.PATH ?? '').split(':')
  return dirs.map((dir) => `${dir}/${program}`).find((path) => existsSync(path))
}

async function isRecent(kubectl: string): Promise<boolean> {
  const { status, stdout } = await tryRun([kubectl, 'version', '--client', '-o', 'json'])
  if (status !== 0) return false
  const { clientVersion } = JSON.parse(stdout) as { clientVersion: { major: string; minor: string } }
  return Number(clientVersion.major) > 1 || Number.parseInt(clientVersion.minor, 10) >= oldestMinor
}

/**
 * Kubernetes' own go.mod points its k8s.io modules at folders of its repository. The same modules are published as v0.x: with the
 * pointers turned to those, kubectl builds from the module proxy alone.
 */
async function build(go: string, cache: string): Promise<void> {
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(`${cache}/build-`)
  const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=mod' } as Record<string, string>
  try {
    const { Dir } = JSON.parse(await run([go, 'mod', 'download', '-json', `k8s.io/kubernetes@${kubernetes}`], { env, cwd: work })) as {
      Dir: string
    }
    const staged = kubernetes.replace('v1.', 'v0.')
    const pointers = readFileSync(`${Dir}/go.mod`, 'utf8')
      .replace(/^module .*$/m, 'module twill-lab/kubectl')
      .replace(/^(\s*k8s\.io\/(\S+)) => \.\/staging\/.*$/gm, (_, left: string, name: string) =>
        // Not every one of these modules was published at every patch version; this one is not used by kubectl itself.
        name === 'externaljwt' ? `${left} => k8s.io/externaljwt v0.33.1` : `${left} => k8s.io/${name} ${staged}`,
      )
    writeFileSync(`${work}/go.mod`, `${pointers}\nrequire k8s.io/kubernetes ${kubernetes}\n`)
    copyFileSync(`${Dir}/go.sum`, `${work}/go.sum`)
    const set = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].flatMap((at) => [
      `-X ${at}.gitVersion=${kubernetes}`,
      `-X ${at}.gitMajor=1`,
      `-X ${at}.gitMinor=33`,
    ])
    const flags = ['-trimpath', '-buildvcs=false', '-ldflags', `-s -w ${set.join(' ')}`]
    await run([go, 'build', ...flags, '-o', `${work}/kubectl`, 'k8s.io/kubernetes/cmd/kubectl'], { env, cwd: work })
    renameSync(`${work}/kubectl`, `${cache}/kubectl`)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
