/**
 * The addresses of this node as files tell of them, with or without an agent: host-local's, the agent's notes, the runtime's cache.
 * Nothing is changed.
 * @module
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { allScratch } from '#cni/flannel.ts'
import { parseJson } from '#cni/json.ts'
import { addressFiles } from '#cni/reboot.ts'
import type { AddressBooks } from '#model/ipam.ts'
import type { Attachment } from '#model/pod.ts'
import { addressOf } from '#net/ip.ts'

export interface BookPaths {
  /** The runtime's configurations. */
  readonly confDir: string
  /** host-local's directories. */
  readonly networks: string
  /** libcni's cache. */
  readonly results: string
  readonly runDir: string
  /** Flannel's scratch files. */
  readonly scratch: string
}

export interface Conf {
  readonly name: string
  readonly network: string
  readonly plugins: readonly string[]
}

/** The runtime's configurations in its order; a torn file names nothing. */
export function readConfs(confDir: string): Conf[] {
  return list(confDir)
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .toSorted()
    .map((name) => ({ name, ...confOf(read(join(confDir, name)) ?? '') }))
}

function confOf(content: string): Omit<Conf, 'name'> {
  const parsed = parseJson(content)
  const conf = ('value' in parsed && typeof parsed.value === 'object' ? parsed.value : undefined) as
    | { name?: unknown; type?: unknown; plugins?: unknown }
    | null
    | undefined
  const plugins = Array.isArray(conf?.plugins) ? (conf.plugins as ({ type?: unknown } | null)[]) : []
  const types = [conf?.type, ...plugins.map((plugin) => plugin?.type)]
  return { network: String(conf?.name ?? ''), plugins: types.filter((type): type is string => typeof type === 'string') }
}

/**
 * An address lives as long as its pod's network namespace or, for a pod that another plugin made, as long as the runtime's cache.
 * Ours are the networks of flannel configurations and of pods that the agent attached.
 */
export function readBooks({ confDir, networks, results, runDir, scratch }: BookPaths): AddressBooks {
  // Before the notes: an ADD writes its note first.
  const files = list(networks).flatMap((network) => addressFiles(join(networks, network)).map((file) => ({ network, ...file })))
  const attached = new Map(readNotes(join(runDir, 'attachments')).map((one) => [one.containerId, one]))
  const cached = list(results)
  const there = (one: Attachment): boolean => existsSync(one.netns)
  const ours = new Set([
    ...readConfs(confDir).flatMap(({ network, plugins }) => (plugins.includes('flannel') ? network : [])),
    ...[...attached.values()].map(({ network }) => network),
    ...allScratch(scratch).map(({ delegate }) => delegate?.name),
  ])
  return {
    reservations: files.map(({ network, address, containerId }) => {
      const note = attached.get(containerId)
      const live = note ? there(note) : containerId !== '' && cached.some((name) => name.includes(containerId))
      const path = join(networks, network, address)
      return { network, address, path, containerId, ours: ours.has(network), live, ...(live && note && { netns: note.netns }) }
    }),
    pods: [...attached.values()]
      .filter(there)
      .flatMap(({ network, containerId, podName, pod }) =>
        pod.addresses.map((cidr) => ({ network, address: addressOf(cidr), containerId, ...(podName !== undefined && { podName }) })),
      ),
  }
}

/** Also of ADDs under way; what is torn is no one's. */
function readNotes(dir: string): Attachment[] {
  return list(dir).flatMap((name) => {
    const parsed = parseJson(read(join(dir, name)) ?? '')
    const entry = 'value' in parsed ? (parsed.value as { attachment?: Partial<Attachment> } | null) : undefined
    return entry?.attachment?.containerId && entry.attachment.netns && entry.attachment.pod ? (entry.attachment as Attachment) : []
  })
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
