/**
 * The lab's own way to its API server: JSON over https from the machine, as the cluster's admin.
 * @module
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { parseAllDocuments } from 'yaml'
import { labError } from '#lab/errors.ts'
import { controlDir } from '#lab/nodes/files.ts'

/** An object as the API has it, read no further than the lab needs. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

export interface Answer {
  /** HTTP status; 0 if nobody answered. */
  readonly status: number
  readonly body: string
}

export class Api {
  readonly #port: number
  readonly #agent: Agent
  /** Collections by "apiVersion kind", from discovery. */
  readonly #resources = new Map<string, { name: string; namespaced: boolean }>()

  /** @param lab  Whose admin certificate to show. @param port  Where its API server listens on 127.0.0.1. */
  constructor(lab: string, port: number) {
    const read = (name: string): Buffer => readFileSync(`${controlDir(lab)}/pki/${name}`)
    this.#port = port
    this.#agent = new Agent({ ca: read('ca.crt'), cert: read('admin.crt'), key: read('admin.key') })
  }

  /** One request. Never rejects: a server that cannot be reached answers with status 0. */
  ask(path: string, o: { method?: string; accept?: string; type?: string; body?: unknown } = {}): Promise<Answer> {
    const { method = 'GET', accept = 'application/json', type = 'application/json', body } = o
    const content = body === undefined ? {} : { 'content-type': type }
    const options = {
      host: '127.0.0.1',
      port: this.#port,
      path,
      agent: this.#agent,
      timeout: 5000,
      method,
      headers: { accept, ...content },
    }
    return new Promise((resolve) => {
      const fail = (error: Error): void => resolve({ status: 0, body: error.message })
      const asked = request(options, (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        answer.once('end', () => resolve({ status: answer.statusCode!, body: text }))
        answer.once('error', fail)
      })
      asked.once('error', fail)
      asked.once('timeout', () => asked.destroy(new Error('no answer within 5 s')))
      asked.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  /** Whether `path` is answered with 200. */
  async has(path: string): Promise<boolean> {
    return (await this.ask(path)).status === 200
  }

  /** Creates every object of a manifest, in its order; one that is there already stays as it is.
   * @returns a line an object, as kubectl has it.
   * @throws {TwillError} ERR_LAB_APPLY with the server's message. */
  async create(manifest: string, namespace = 'default'): Promise<string[]> {
    const lines: string[] = []
    for (const document of parseAllDocuments(manifest)) {
      const object = document.toJS() as Manifest | null
      if (object === null) continue
      const { name, namespaced } = await this.#resource(object)
      const place = namespaced ? `/namespaces/${object.metadata.namespace ?? namespace}` : ''
      const answer = await this.ask(`${groupPath(object.apiVersion)}${place}/${name}`, { method: 'POST', body: object })
      if (answer.status !== 201 && answer.status !== 409) throw refused(object, answer)
      const [group] = object.apiVersion.split('/').toReversed().slice(1)
      const what = `${object.kind.toLowerCase()}${group ? `.${group}` : ''}/${object.metadata.name}`
      lines.push(`${what} ${answer.status === 201 ? 'created' : 'unchanged'}`)
    }
    return lines
  }

  /** The collection that holds objects like `object`. */
  async #resource(object: Manifest): Promise<{ name: string; namespaced: boolean }> {
    const key = `${object.apiVersion} ${object.kind}`
    if (!this.#resources.has(key)) {
      const answer = await this.ask(groupPath(object.apiVersion))
      if (answer.status !== 200) throw refused(object, answer)
      const { resources } = JSON.parse(answer.body) as { resources: { name: string; kind: string; namespaced: boolean }[] }
      for (const r of resources.filter((r) => !r.name.includes('/'))) this.#resources.set(`${object.apiVersion} ${r.kind}`, r)
    }
    const found = this.#resources.get(key)
    if (!found) throw refused(object, { status: 404, body: `the server has no kind ${object.kind} in ${object.apiVersion}` })
    return found
  }
}

const groupPath = (apiVersion: string): string => (apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`)

function refused(object: Manifest, { status, body }: Answer): Error {
  let message = body
  try {
    message = (JSON.parse(body) as { message?: string }).message ?? body
  } catch {
    // Not a Status: shown as it came.
  }
  return labError.ERR_LAB_APPLY({ object: `${object.kind} ${object.metadata.name}`, status, message })
}
