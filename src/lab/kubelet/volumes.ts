/**
 * Volumes of a pod as directories of the node, below /var/lib/kubelet/pods/<uid>/volumes as the kubelet names them.
 *
 * Files that come from the API (ConfigMap, Secret, projected, downward API) are written as the kubelet's AtomicWriter does:
 *     ..2026_11_23T09_30_00.123/key    the files      ..data -> that directory      key -> ..data/key
 * so that a reader never sees half of an update.
 * @module
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { type Api, isNotFound } from '#lab/api.ts'
import { ConfigMissing, fieldOf } from '#lab/kubelet/env.ts'
import type { DownwardItem, KeyToPath, Pod, Volume } from '#lab/kubelet/types.ts'
import { namespaceOf } from '#lab/kubelet/types.ts'
import { run } from '#lab/nodes/run.ts'

/** A file of a volume: bytes, and permission bits if they are its own. */
interface File {
  readonly bytes: Buffer
  readonly mode?: number
}
type Files = Map<string, File>

export interface VolumeContext {
  readonly api: Api
  readonly pod: Pod
  readonly podIps: readonly string[]
  readonly hostIp: string
  /** /var/lib/kubelet/pods/<uid>/volumes */
  readonly dir: string
}

interface ConfigMapObject {
  data?: Record<string, string>
  binaryData?: Record<string, string>
}

const refreshMs = 60_000

/** The volumes of one pod: all made once, and those of objects that can change looked at again each minute. */
export class PodVolumes {
  /** Volume name to path on the node. */
  readonly paths = new Map<string, string>()
  #madeAt: number | undefined

  /** @returns why a volume cannot be made, as FailedMount shows it; undefined if all stand. */
  async make(o: VolumeContext, now: number): Promise<string | undefined> {
    const fresh = this.#madeAt === undefined
    if (!fresh && now - this.#madeAt! < refreshMs) return undefined
    for (const volume of (o.pod.spec.volumes ?? []).filter((v) => fresh || isLive(v))) {
      try {
        this.paths.set(volume.name, await makeVolume(volume, o))
      } catch (error) {
        const text = (error as Error).message
        return text.startsWith('MountVolume') ? text : `MountVolume.SetUp failed for volume "${volume.name}" : ${text}`
      }
    }
    this.#madeAt = now
    return undefined
  }
}

/** Makes the volume (again: brings it up to date) and returns the path to mount.
 * @throws {ConfigMissing} if an object is not there; {Error} if a hostPath is not of its type. */
async function makeVolume(volume: Volume, o: VolumeContext): Promise<string> {
  const dir = (plugin: string): string => join(o.dir, `kubernetes.io~${plugin}`, volume.name)
  if (volume.hostPath) return hostPath(volume.name, volume.hostPath.path, volume.hostPath.type ?? '')
  if (volume.emptyDir) return emptyDir(dir('empty-dir'), volume.emptyDir.medium)
  const files: Files = new Map()
  const { configMap, secret, projected, downwardAPI } = volume
  if (configMap) await addObject(files, o, 'configmap', configMap.name, configMap)
  else if (secret) await addObject(files, o, 'secret', secret.secretName, secret)
  else if (downwardAPI) addFields(files, o, downwardAPI.items)
  else if (projected) {
    for (const source of projected.sources) {
      if (source.configMap) await addObject(files, o, 'configmap', source.configMap.name, source.configMap)
      if (source.secret) await addObject(files, o, 'secret', source.secret.name, source.secret)
      if (source.downwardAPI) addFields(files, o, source.downwardAPI.items)
      if (source.serviceAccountToken) await addToken(files, o, dir('projected'), source.serviceAccountToken)
    }
  } else {
    const kind = Object.keys(volume).find((key) => key !== 'name') ?? 'none'
    throw new Error(`no volume plugin matched: the lab has configMap, secret, projected, downwardAPI, emptyDir and hostPath, not ${kind}`)
  }
  const path = dir(configMap ? 'configmap' : secret ? 'secret' : downwardAPI ? 'downward-api' : 'projected')
  writeAtomically(path, files, (configMap ?? secret ?? downwardAPI ?? projected)?.defaultMode ?? 0o644)
  return path
}

/** Whether its content can change while the pod runs: the kubelet looks again each minute. */
const isLive = (volume: Volume): boolean => Boolean(volume.configMap ?? volume.secret ?? volume.projected ?? volume.downwardAPI)

function hostPath(name: string, path: string, type: string): string {
  const now = existsSync(path) ? statSync(path) : undefined
  const bad = (): Error =>
    new Error(`MountVolume.SetUp failed for volume "${name}" : hostPath type check failed: ${path} is not a ${typeWords[type]}`)
  if (type === 'DirectoryOrCreate' && !now) mkdirSync(path, { recursive: true, mode: 0o755 })
  else if (type === 'FileOrCreate' && !now) writeFileSync(path, '', { mode: 0o644, flag: 'a' })
  else if (type === '' && !now)
    mkdirSync(path, { recursive: true, mode: 0o755 }) // the runtime makes what is bound and missing
  else if (type.startsWith('Directory') && !now?.isDirectory()) throw bad()
  else if (type.startsWith('File') && !now?.isFile()) throw bad()
  else if (type === 'Socket' && !now?.isSocket()) throw bad()
  else if (type === 'CharDevice' && !now?.isCharacterDevice()) throw bad()
  else if (type === 'BlockDevice' && !now?.isBlockDevice()) throw bad()
  return path
}

const typeWords: Readonly<Record<string, string>> = {
  Directory: 'directory',
  DirectoryOrCreate: 'directory',
  File: 'file',
  FileOrCreate: 'file',
  Socket: 'socket file',
  CharDevice: 'character device',
  BlockDevice: 'block device',
}

async function emptyDir(path: string, medium: string | undefined): Promise<string> {
  const fresh = !existsSync(path)
  mkdirSync(path, { recursive: true })
  chmodSync(path, 0o777)
  if (fresh && medium === 'Memory') await run(['mount', '-t', 'tmpfs', '-o', 'mode=0777', 'tmpfs', path])
  return path
}

/** Data of a ConfigMap or a (decoded) Secret of the pod's namespace; undefined if there is none. */
export async function objectData(
  api: Api,
  namespace: string,
  kind: 'configmap' | 'secret',
  name: string,
): Promise<Map<string, Buffer> | undefined> {
  try {
    const object = await api.get<ConfigMapObject>(`/api/v1/namespaces/${namespace}/${kind}s/${name}`)
    const encoding = kind === 'secret' ? 'base64' : 'utf8'
    const text = Object.entries(object.data ?? {}).map(([key, value]) => [key, Buffer.from(value, encoding)] as const)
    const binary = Object.entries(object.binaryData ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')] as const)
    return new Map([...text, ...binary])
  } catch (error) {
    if (isNotFound(error)) return undefined
    throw error
  }
}

async function addObject(
  files: Files,
  o: VolumeContext,
  kind: 'configmap' | 'secret',
  name: string,
  from: { items?: KeyToPath[]; optional?: boolean },
): Promise<void> {
  const data = await objectData(o.api, namespaceOf(o.pod), kind, name)
  if (!data) {
    if (from.optional) return
    throw new ConfigMissing(`${kind} "${name}" not found`)
  }
  for (const { key, path, mode } of from.items ?? [...data.keys()].map((k): KeyToPath => ({ key: k, path: k }))) {
    const bytes = data.get(key)
    if (bytes) files.set(inside(path), { bytes, ...(mode === undefined ? {} : { mode }) })
    else if (!from.optional) throw new ConfigMissing(`references non-existent ${kind} key: ${key}`)
  }
}

function addFields(files: Files, o: VolumeContext, items: readonly DownwardItem[] = []): void {
  for (const { path, mode, fieldRef } of items) {
    if (fieldRef)
      files.set(inside(path), { bytes: Buffer.from(fieldOf(o.pod, fieldRef.fieldPath, o)), ...(mode === undefined ? {} : { mode }) })
  }
}

/** A token bound to the pod. The one on disk is kept for 80 % of its life, as the kubelet keeps it. */
async function addToken(
  files: Files,
  o: VolumeContext,
  dir: string,
  source: { audience?: string; expirationSeconds?: number; path: string },
): Promise<void> {
  const expirationSeconds = source.expirationSeconds ?? 3600
  const path = inside(source.path)
  const old = join(dir, path)
  if (existsSync(old) && Date.now() - statSync(old).mtimeMs < expirationSeconds * 800) {
    files.set(path, { bytes: readFileSync(old), mode: 0o600 })
    return
  }
  const { name, uid } = o.pod.metadata
  const account = o.pod.spec.serviceAccountName ?? 'default'
  const answer = await o.api.create<{ status: { token: string } }>(
    `/api/v1/namespaces/${namespaceOf(o.pod)}/serviceaccounts/${account}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: source.audience === undefined ? [] : [source.audience],
        expirationSeconds,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      },
    },
  )
  files.set(path, { bytes: Buffer.from(answer.status.token), mode: 0o600 })
}

/** A path that stays below the volume. */
function inside(path: string): string {
  const clean = normalize(path)
  if (clean.startsWith('/') || clean.split('/').includes('..')) throw new Error(`path "${path}" leaves its volume`)
  return clean
}

/** Writes `files` so that they appear all at once; does nothing if they are there already. */
export function writeAtomically(dir: string, files: Files, defaultMode: number): void {
  mkdirSync(dir, { recursive: true })
  const current = readCurrent(dir)
  const same = current?.size === files.size && [...files].every(([path, file]) => current.get(path)?.equals(file.bytes))
  if (same) return
  const version = `..${new Date().toISOString().replaceAll(/[-:]/g, '_')}${Math.random().toString(36).slice(2, 6)}`
  for (const [path, { bytes, mode }] of files) {
    const to = join(dir, version, path)
    mkdirSync(dirname(to), { recursive: true })
    writeFileSync(to, bytes)
    chmodSync(to, mode ?? defaultMode)
  }
  mkdirSync(join(dir, version), { recursive: true })
  const before = existsSync(join(dir, '..data')) ? readlinkSync(join(dir, '..data')) : undefined
  symlinkSync(version, join(dir, '..data_tmp'))
  renameSync(join(dir, '..data_tmp'), join(dir, '..data'))
  const tops = new Set([...files.keys()].map((path) => path.split('/')[0]!))
  for (const top of tops) if (!isLink(join(dir, top))) symlinkSync(join('..data', top), join(dir, top))
  for (const name of readdirSync(dir)) if (!name.startsWith('..') && !tops.has(name)) rmSync(join(dir, name))
  if (before !== undefined) rmSync(join(dir, before), { recursive: true, force: true })
}

const isLink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true

function readCurrent(dir: string): Map<string, Buffer> | undefined {
  const data = join(dir, '..data')
  if (!existsSync(data)) return undefined
  const names = readdirSync(data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  return new Map(
    names.map((entry) => {
      const path = join(entry.parentPath, entry.name)
      return [path.slice(data.length + 1), readFileSync(path)]
    }),
  )
}
