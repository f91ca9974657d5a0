/** Creates the objects of a manifest, as kubeadm does with cluster DNS: no kubectl needed. */
import { parseAllDocuments } from 'yaml'
import { type Answer, type Api, failed } from '#lab/api.ts'
import { labError } from '#lab/errors.ts'

/** An object as the API has it, read no further than the lab needs. */
interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

interface Collection {
  readonly name: string
  readonly kind: string
  readonly namespaced: boolean
}

/** Creates every object of a manifest, in its order; one that is there already stays as it is.
 * @throws {TwillError} ERR_LAB_APPLY with the server's message. */
export async function createAll(api: Api, manifest: string, namespace = 'default'): Promise<void> {
  const groups = new Map<string, readonly Collection[]>()
  for (const document of parseAllDocuments(manifest)) {
    const object = document.toJS() as Manifest | null
    if (object === null) continue
    const { apiVersion, kind, metadata } = object
    const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
    const known = groups.get(root) ?? (await collections(api, root, object))
    groups.set(root, known)
    const found = known.find((c) => c.kind === kind && !c.name.includes('/'))
    if (!found) throw refused(object, { status: 404, text: `the server has no kind ${kind} in ${apiVersion}` })
    const place = found.namespaced ? `/namespaces/${metadata.namespace ?? namespace}` : ''
    const answer = await api.ask(`${root}${place}/${found.name}`, { method: 'POST', body: object })
    if (answer.status !== 201 && answer.status !== 409) throw refused(object, answer)
  }
}

/** What one group and version serves, from discovery. */
async function collections(api: Api, root: string, object: Manifest): Promise<readonly Collection[]> {
  const answer = await api.ask(root)
  if (answer.status !== 200) throw refused(object, answer)
  return (JSON.parse(answer.text) as { resources: Collection[] }).resources
}

function refused({ kind, metadata }: Manifest, answer: Answer): Error {
  const { status, message } = failed(answer)
  return labError.ERR_LAB_APPLY({ object: `${kind} ${metadata.name}`, status, message })
}
