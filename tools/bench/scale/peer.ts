/** The peer: real flannel code (tools/peers/flannel), built once with Go into the user's cache; its name there says what it was made of. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

const source = join(import.meta.dirname, '../../peers/flannel')
const parts = ['go.mod', 'go.sum', 'main.go']

/** Path of the program, or why there is none. */
export function buildPeer(): { readonly path: string } | { readonly missing: string } {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(readFileSync(join(source, part)))
  const directory = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'twill')
  const path = join(directory, `flannel-peer-${hash.digest('hex').slice(0, 12)}`)
  if (existsSync(path)) return { path }
  const half = `${path}.${process.pid}`
  mkdirSync(directory, { recursive: true })
  console.log('building the peer with Go, once: about 1 min')
  try {
    execFileSync(
      'nice',
      ['-n', '10', 'go', 'build', '-trimpath', '-buildvcs=false', '-mod=readonly', '-ldflags', '-s -w', '-o', half, '.'],
      {
        cwd: source,
        env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '', GOWORK: 'off' },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    renameSync(half, path)
    return { path }
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer }
    return { missing: code === 'ENOENT' ? 'Go is not installed' : `the build failed: ${String(stderr).trim().slice(-300)}` }
  } finally {
    rmSync(half, { force: true })
  }
}
