/**
 * The little kubectl that a node has when the machine has none: what the lab's story types, and no more. Tables are the server's own
 * (meta.k8s.io/v1 Table), so columns are as the real one prints them.
 *
 *     get RES[,RES] [NAME] [-A] [-n NS] [-l SELECTOR] [--field-selector S] [-o wide|json|jsonpath=…|custom-columns=…]
 *     create ns NAME · label ns NAME KEY=VALUE · apply -f FILE · delete RES NAME [--timeout SECONDS] · exec [-i] [-t] POD -- COMMAND…
 * @module
 */
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import WebSocket from 'ws'
import { parseAllDocuments } from 'yaml'
import { type Access, type Answer, Api, ApiError, accessFromKubeconfig, failed, patchType } from '#lab/api.ts'
import { until } from '#lab/nodes/until.ts'

export const kubectlAdvice =
  'For a whole kubectl, 1.30 or later: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/, then build the lab again.'

interface Resource {
  readonly names: readonly string[]
  readonly root: string
  readonly namespaced: boolean
  readonly kind: string
}
const resource = (names: string, kind: string, root = '/api/v1', namespaced = true): Resource => ({
  names: names.split(' '),
  root,
  namespaced,
  kind,
})
/** First of the names is the collection's. */
const resources: readonly Resource[] = [
  resource('nodes node no', 'Node', '/api/v1', false),
  resource('namespaces namespace ns', 'Namespace', '/api/v1', false),
  resource('pods pod po', 'Pod'),
  resource('services service svc', 'Service'),
  resource('endpoints ep', 'Endpoints'),
  resource('events event ev', 'Event'),
  resource('configmaps configmap cm', 'ConfigMap'),
  resource('serviceaccounts serviceaccount sa', 'ServiceAccount'),
  resource('deployments deployment deploy', 'Deployment', '/apis/apps/v1'),
  resource('daemonsets daemonset ds', 'DaemonSet', '/apis/apps/v1'),
  resource('replicasets replicaset rs', 'ReplicaSet', '/apis/apps/v1'),
  resource('endpointslices endpointslice', 'EndpointSlice', '/apis/discovery.k8s.io/v1'),
  resource('clusterroles clusterrole', 'ClusterRole', '/apis/rbac.authorization.k8s.io/v1', false),
  resource('clusterrolebindings clusterrolebinding', 'ClusterRoleBinding', '/apis/rbac.authorization.k8s.io/v1', false),
]

class Failure extends Error {}

type Json = Record<string, unknown> & { metadata?: { name: string; namespace?: string } }

/** Runs one command line. @returns The exit status; of `exec`, the command's own. */
export async function miniKubectl(argv: readonly string[]): Promise<number> {
  try {
    return await dispatch(argv, accessFromKubeconfig(readFileSync(process.env.KUBECONFIG ?? '/etc/kubernetes/admin.conf', 'utf8')))
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error)
    process.stderr.write(`${error instanceof ApiError ? 'Error from server' : 'error'}: ${said}\n`)
    return 1
  }
}

const table = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'

async function dispatch(argv: readonly string[], access: Access): Promise<number> {
  const api = new Api(access)
  const cut = argv.indexOf('--')
  const { values, positionals } = parseArgs({
    args: cut < 0 ? [...argv] : argv.slice(0, cut),
    allowPositionals: true,
    options: {
      namespace: { type: 'string', short: 'n', default: 'default' },
      'all-namespaces': { type: 'boolean', short: 'A', default: false },
      selector: { type: 'string', short: 'l' },
      'field-selector': { type: 'string' },
      output: { type: 'string', short: 'o', default: '' },
      filename: { type: 'string', short: 'f' },
      timeout: { type: 'string', default: '60s' },
      stdin: { type: 'boolean', short: 'i', default: false },
      tty: { type: 'boolean', short: 't', default: false },
    },
  })
  const [verb, what = '', name, ...rest] = positionals
  const namespace = values.namespace
  switch (verb) {
    case 'get': {
      const query = new URLSearchParams()
      if (values.selector) query.set('labelSelector', values.selector)
      if (values['field-selector']) query.set('fieldSelector', values['field-selector'])
      const all = values['all-namespaces']
      const kinds = what.split(',').map(find)
      const shown: string[] = []
      for (const kind of kinds) {
        const path = `${pathOf(kind, all ? undefined : namespace, name)}?${query}`
        const asTable = values.output === '' || values.output === 'wide'
        const body = ok(await api.ask(path, { accept: asTable ? table : 'application/json' }))
        shown.push(
          asTable
            ? showTable(body, { wide: values.output === 'wide', all, prefix: kinds.length > 1 ? prefixOf(kind) : '' })
            : pick(body, values.output),
        )
      }
      process.stdout.write(shown.join('\n'))
      return 0
    }
    case 'create':
      if (find(what).kind !== 'Namespace' || !name) break
      await api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
      return say(`namespace/${name} created`)
    case 'label': {
      const kind = find(what)
      if (!name || rest.length === 0) break
      const labels = Object.fromEntries(rest.map((label) => label.split('=') as [string, string]))
      await api.patch(pathOf(kind, namespace, name), { metadata: { labels } }, patchType.merge)
      return say(`${prefixOf(kind)}${name} labeled`)
    }
    case 'apply':
      if (!values.filename) break
      for (const document of parseAllDocuments(readFileSync(values.filename, 'utf8'))) say(await apply(api, document.toJS(), namespace))
      return 0
    case 'delete': {
      const kind = find(what)
      if (!name) break
      const path = pathOf(kind, namespace, name)
      await api.remove(path)
      say(`${kind.kind.toLowerCase()} "${name}" deleted`)
      const gone = await until(async () => (await api.ask(path)).status === 404, {
        everyMs: 50,
        deadlineMs: Number.parseFloat(values.timeout) * 1000,
      })
      if (!gone) throw new Failure(`timed out waiting for the condition on ${kind.names[0]}/${name}`)
      return 0
    }
    case 'exec':
      if (cut < 0) break
      return exec(access, `/api/v1/namespaces/${namespace}/pods/${what}/exec`, argv.slice(cut + 1), values)
  }
  throw new Failure(`the lab's little kubectl cannot do this: kubectl ${argv.join(' ')}\n${kubectlAdvice}`)
}

function find(name: string): Resource {
  const found = resources.find((r) => r.names.includes(name.split('.')[0]!.toLowerCase()))
  if (!found) throw new Failure(`the lab's little kubectl knows ${resources.map((r) => r.names[0]).join(', ')}; not "${name}"`)
  return found
}

const groupOf = (kind: Resource): string => /^\/apis\/([^/]+)/.exec(kind.root)?.[1] ?? ''
const prefixOf = (kind: Resource): string => `${kind.kind.toLowerCase()}${groupOf(kind) ? `.${groupOf(kind)}` : ''}/`

function pathOf(kind: Resource, namespace: string | undefined, name?: string): string {
  const place = kind.namespaced && namespace ? `/namespaces/${namespace}` : ''
  return `${kind.root}${place}/${kind.names[0]}${name ? `/${name}` : ''}`
}

async function apply(api: Api, object: Json, namespace: string): Promise<string> {
  const kind = resources.find((r) => r.kind === object.kind)
  if (!kind || !object.metadata) throw new Failure(`the lab's little kubectl has no kind ${String(object.kind)}`)
  const { name } = object.metadata
  const place = object.metadata.namespace ?? namespace
  const made = await api.ask(pathOf(kind, place), { method: 'POST', body: object })
  if (made.status === 409) await api.patch(pathOf(kind, place, name), object, patchType.strategic)
  else ok(made)
  return `${prefixOf(kind)}${name} ${made.status === 409 ? 'configured' : 'created'}`
}

/** A server-side table, laid out as kubectl does: columns at least 6 wide, 3 blanks between. */
export function showTable(body: Json, o: { readonly wide: boolean; readonly all: boolean; readonly prefix: string }): string {
  const { columnDefinitions, rows = [] } = body as {
    columnDefinitions?: { name: string; priority: number }[]
    rows?: { cells: unknown[]; object: { metadata: { namespace?: string } } }[]
  }
  if (!columnDefinitions) throw new Failure('the server sent no table')
  if (rows.length === 0) return 'No resources found\n'
  const shown = [...columnDefinitions.keys()].filter((i) => o.wide || columnDefinitions[i]!.priority === 0)
  const lines = rows.map(({ cells, object }) => [
    ...(o.all ? [object.metadata.namespace ?? ''] : []),
    ...shown.map((i) => `${i === 0 ? o.prefix : ''}${cells[i] ?? '<none>'}`),
  ])
  return layOut([[...(o.all ? ['NAMESPACE'] : []), ...shown.map((i) => columnDefinitions[i]!.name.toUpperCase())], ...lines])
}

function layOut(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]!.map((_, i) => Math.max(6, ...lines.map((line) => line[i]!.length + 3)))
  return lines.map((line) => `${line.map((cell, i) => (i === line.length - 1 ? cell : cell.padEnd(widths[i]!))).join('')}\n`).join('')
}

/** -o json, jsonpath={.a.b[0].c} and custom-columns=HEAD:.a.b. */
export function pick(body: Json, output: string): string {
  const [, form, expression = ''] = /^([a-z-]+)(?:=([\s\S]*))?$/.exec(output) ?? []
  if (form === 'json') return `${JSON.stringify(body, null, 4)}\n`
  if (form === 'jsonpath') return textOf(walk(body, expression.replace(/^\{|\}$/g, '')), '')
  if (form !== 'custom-columns') throw new Failure(`the lab's little kubectl has no -o ${output}`)
  const columns = expression.split(',').map((column) => column.split(/:(.*)/s) as [string, string])
  const items = (body.items as Json[] | undefined) ?? [body]
  return layOut([columns.map(([head]) => head), ...items.map((item) => columns.map(([, path]) => textOf(walk(item, path), '<none>')))])
}

/** The value at .a.b[0].c; a dot in a key is written \. */
function walk(value: unknown, path: string): unknown {
  const steps = path.match(/(?:\\.|[^.[\]\\])+/g) ?? []
  return steps.reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step.replace(/\\(.)/g, '$1')], value)
}

const textOf = (value: unknown, absent: string): string =>
  value === undefined ? absent : typeof value === 'object' ? JSON.stringify(value) : String(value)

/** Runs a command in a pod, over the exec WebSocket (v5.channel.k8s.io: the first byte of a message is its channel). */
function exec(access: Access, path: string, command: readonly string[], { stdin, tty }: { stdin: boolean; tty: boolean }): Promise<number> {
  const streams = { stdin, stdout: true, stderr: !tty, tty }
  const query = new URLSearchParams(Object.entries(streams).map(([name, wanted]) => [name, String(wanted)]))
  for (const word of command) query.append('command', word)
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const { ca, cert, key } = access
  const socket = new WebSocket(`${access.server.replace('https', 'wss')}${path}?${query}`, ['v5.channel.k8s.io'], { ca, cert, key })
  let status = 1 // a socket that closes without a Status is no success
  socket.on('open', () => {
    if (!stdin) return
    if (tty && process.stdin.isTTY) process.stdin.setRawMode(true) // keys are the pod's terminal's business
    process.stdin.on('data', (data: Buffer) => socket.send(Buffer.concat([Buffer.of(0), data])))
    process.stdin.on('end', () => socket.send(Buffer.of(255, 0))) // closes channel 0
  })
  socket.on('message', (data: Buffer) => {
    const said = data.subarray(1)
    if (data[0] === 1) process.stdout.write(said)
    else if (data[0] === 2) process.stderr.write(said)
    else if (data[0] === 3) status = statusOf(said.toString())
  })
  socket.on('unexpected-response', (_, response) => {
    text(response).then((said) => reject(failed({ status: response.statusCode ?? 0, text: said })), reject)
  })
  socket.on('error', reject)
  socket.on('close', () => resolve(status))
  return promise.finally(() => {
    if (process.stdin.isTTY) process.stdin.setRawMode(false)
    process.stdin.destroy()
  })
}

/** The exit status in the Status that ends an exec. */
function statusOf(json: string): number {
  const { status, message, details } = JSON.parse(json) as {
    status: string
    message?: string
    details?: { causes?: { reason: string; message: string }[] }
  }
  if (status === 'Success') return 0
  const code = details?.causes?.find((cause) => cause.reason === 'ExitCode')?.message
  if (code === undefined && message) process.stderr.write(`error: ${message}\n`)
  return Number(code ?? 1)
}

function ok(answer: Answer): Json {
  if (answer.status >= 300) throw failed(answer)
  return JSON.parse(answer.text) as Json
}

function say(line: string): number {
  process.stdout.write(`${line}\n`)
  return 0
}
