/**
 * The lab's "images": a short table of programs that are run from the node's own files. Nothing is unpacked or pulled; what is not in
 * the table is ErrImagePull with this list. docs/lab-images.md is its page for readers.
 * @module
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { nodeBinary, repo } from '#lab/repo.ts'

/** The C helper of the kubelet stand-in (lab/podrun.c), which also serves as the pause image. */
export const podrun = process.env.TWILL_LAB_PODRUN ?? join(repo, 'dist/podrun')

export interface Image {
  /** As a reader writes it, without registry and tag. */
  readonly name: string
  /** What it is, for the table of docs and errors. */
  readonly what: string
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  /** Beginnings of a command that stand for something else here: the file a real image would hold. */
  readonly aliases?: Readonly<Record<string, readonly string[]>>
  readonly path?: string
}

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const twill = join(repo, 'bin/twill')

/** A TypeScript program of this folder: its bundle if one was built, else its source. */
function program(name: string): string[] {
  const bundle = join(repo, `dist/images/${name}.mjs`)
  return [nodeBinary, existsSync(bundle) ? bundle : join(repo, `src/lab/images/${name}-main.ts`)]
}

const standIn = (name: string): Image => ({
  name,
  what: 'stands for that part of the embedded control plane, which is one process of the lab',
  entrypoint: [
    podrun,
    'pause',
    `${name} is part of the lab's embedded control plane (one process on this node, twill-lab's log has its lines); this container only stands for it.`,
  ],
  cmd: [],
  // The manifest's command is the genuine program's; here it is shown by kubectl, and not run.
  aliases: { [name]: [podrun, 'pause', `${name} is part of the lab's embedded control plane; this container only stands for it.`, '--'] },
})

export const images: readonly Image[] = [
  {
    name: 'traefik/whoami',
    what: 'the web server that prints who asked',
    entrypoint: program('whoami'),
    cmd: [],
    aliases: { '/whoami': program('whoami') },
  },
  { name: 'nicolaka/netshoot', what: 'a shell with the network tools of this machine', entrypoint: [], cmd: ['sh'] },
  {
    name: 'curlimages/curl',
    what: 'curl of this machine; a command that is no option is run as it is',
    // The real image's entrypoint.sh: an option first means curl.
    entrypoint: [
      'sh',
      '-c',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's
      'if [ "${1#-}" != "$1" ] || ! command -v "$1" >/dev/null; then set -- curl "$@"; fi; exec "$@"',
      'entrypoint.sh',
    ],
    cmd: ['curl'],
  },
  { name: 'busybox', what: 'the shell and tools of this machine', entrypoint: [], cmd: ['sh'] },
  { name: 'alpine', what: 'the shell and tools of this machine', entrypoint: [], cmd: ['sh'] },
  {
    name: 'coredns',
    what: 'a DNS server for the cluster domain, over the Kubernetes API',
    entrypoint: program('coredns'),
    cmd: [],
    aliases: { '/coredns': program('coredns') },
  },
  {
    name: 'twill-net/twill',
    what: "this repository's bin/twill",
    entrypoint: [twill],
    cmd: [],
    aliases: { twill: [twill], '/opt/bin/flanneld': [twill, 'agent'] },
    path: `${join(repo, 'bin')}:${systemPath}`,
  },
  { name: 'pause', what: 'waits', entrypoint: [podrun, 'pause'], cmd: [], aliases: { '/pause': [podrun, 'pause'] } },
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map(standIn),
]

/** The name without registry, tag and digest: registry.k8s.io/coredns/coredns:v1.12.0 gives coredns/coredns. */
export function imageName(reference: string): string {
  const parts = reference.replace(/@.*$/, '').split('/')
  const hasRegistry = parts.length > 1 && /[.:]|^localhost$/.test(parts[0]!)
  return (hasRegistry ? parts.slice(1) : parts)
    .join('/')
    .replace(/:[^/]*$/, '')
    .replace(/^library\//, '')
}

/** The image a reference names, or undefined. A one-word name also matches as the last word: coredns/coredns is coredns. */
export function findImage(reference: string): Image | undefined {
  const name = imageName(reference)
  return (
    images.find((image) => image.name === name) ??
    images.find((image) => !image.name.includes('/') && name === `${image.name}/${image.name}`)
  )
}

/** What ErrImagePull says. */
export function unknownImage(reference: string): string {
  return `the lab has no image "${reference}"; it runs programs from a table and pulls nothing. Its images: ${images.map((i) => i.name).join(', ')}`
}

/** The argv of a container: command replaces the entrypoint, args the image's own arguments (as in Kubernetes), then the aliases. */
export function argvOf(image: Image, command: readonly string[] | undefined, args: readonly string[] | undefined): string[] {
  const argv = command?.length ? [...command, ...(args ?? [])] : [...image.entrypoint, ...(args?.length ? args : image.cmd)]
  const alias = image.aliases?.[argv[0] ?? '']
  if (!alias) return argv
  return alias.at(-1) === '--' ? alias.slice(0, -1) : [...alias, ...argv.slice(1)]
}

export const environmentOf = (image: Image): Record<string, string> => ({ PATH: image.path ?? systemPath })
