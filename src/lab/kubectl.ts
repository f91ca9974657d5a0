/**
 * The kubectl of the lab: the machine's own if it is recent enough, else one built with Go from the pinned Kubernetes module, else none
 * (then the nodes get a little one, src/lab/mini-kubectl.ts).
 * @module
 */
import { accessSync, constants, mkdirSync, realpathSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname } from 'node:path'
import { messageOf } from '#base/errors.ts'
import { labError } from '#lab/errors.ts'
import { run, tryRun } from '#lab/nodes/run.ts'
import { repo } from '#lab/repo.ts'

/** What tools/kubectl/go.mod pins. */
const pinned = { version: 'v1.33.2', major: 1, minor: 33 }
/** exec over WebSocket, which is all that the lab's API server speaks, came with 1.30 (KEP-4006). */
const oldestMinor = 30

type Environment = Readonly<Record<string, string | undefined>>

/** A kubectl that the nodes can be given, by its path; or why there is none, in a sentence. */
export type FoundKubectl = { readonly path: string } | { readonly path?: undefined; readonly why: string }

/** Looks for a kubectl, or builds one. TWILL_KUBECTL names one, is `none`, or is `build`: passes over an installed one.
 * @param say  Told when it takes long, and what a build said that failed.
 * @throws {TwillError} ERR_LAB_KUBECTL if the one that TWILL_KUBECTL names cannot be used. */
export async function findKubectl(say: (text: string) => void, env: Environment = process.env): Promise<FoundKubectl> {
  const named = env.TWILL_KUBECTL
  if (named === 'none') return { why: 'TWILL_KUBECTL=none: the lab goes without kubectl.' }
  if (named && named !== 'build') {
    if (isProgram(named) && (await isRecentProgram(named))) return { path: realpathSync(named) }
    throw labError.ERR_LAB_KUBECTL({ path: named })
  }
  const installed = named === 'build' ? undefined : onPath('kubectl', env)
  if (installed && (await isRecentProgram(installed))) return { path: realpathSync(installed) }
  const built = `${env.XDG_CACHE_HOME || `${env.HOME || homedir()}/.cache`}/twill/kubectl-${pinned.version}`
  if (isProgram(built)) return { path: built }
  const go = onPath('go', env)
  const none = 'No kubectl 1.30 or later on this machine, '
  if (!go) return { why: `${none}and no Go to build one with.` }
  say(`building kubectl ${pinned.version} with Go, once: about 3 min`)
  try {
    await build(go, built, env)
    return { path: built }
  } catch (error) {
    say(`kubectl could not be built: ${messageOf(error)}`)
    return { why: `${none}and the one that Go was to build could not be built: see above.` }
  }
}

/** Whether the output of `kubectl version --client -o json` is that of a version the lab can use. */
export function isRecent(output: string): boolean {
  const [, major, minor] = /"gitVersion": *"v(\d+)\.(\d+)\./.exec(output) ?? []
  return Number(major) > 1 || (Number(major) === 1 && Number(minor) >= oldestMinor)
}

async function isRecentProgram(path: string): Promise<boolean> {
  const ran = await tryRun([path, 'version', '--client', '-o', 'json']).catch(() => undefined)
  return ran?.status === 0 && isRecent(ran.stdout)
}

/** The first executable file of that name on PATH. */
export function onPath(name: string, env: Environment): string | undefined {
  const dirs = (env.PATH ?? '').split(':').filter((dir) => dir.startsWith('/'))
  return dirs.map((dir) => `${dir}/${name}`).find(isProgram)
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Builds beside `path` and renames, so that what bears the name is whole. */
async function build(go: string, path: string, env: Environment): Promise<void> {
  const set = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].flatMap((at) => [
    `-X ${at}.gitVersion=${pinned.version}`,
    ...[`-X ${at}.gitMajor=${pinned.major}`, `-X ${at}.gitMinor=${pinned.minor}`],
  ])
  const flags = ['-trimpath', '-buildvcs=false', '-mod=readonly', '-ldflags', `-s -w ${set.join(' ')}`]
  const half = `${path}.${process.pid}`
  mkdirSync(dirname(path), { recursive: true })
  try {
    await run(['nice', '-n', '10', go, 'build', ...flags, '-o', half, 'k8s.io/kubernetes/cmd/kubectl'], {
      cwd: `${repo}/tools/kubectl`,
      env: { ...(env as Record<string, string>), CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off' },
    })
    renameSync(half, path)
  } finally {
    rmSync(half, { force: true })
  }
}
