/**
 * Who asks: by client certificate (CN is the user, each O a group), by ServiceAccount token, or nobody.
 * @module
 */
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { authorize } from '#lab/control/authorize.ts'
import { unauthorized } from '#lab/control/status.ts'
import type { Store } from '#lab/control/store.ts'
import type { TokenIssuer } from '#lab/control/tokens.ts'

export interface User {
  readonly name: string
  readonly uid?: string
  readonly groups: readonly string[]
}

const anonymous: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] }

export const accountName = (namespace: string, name: string) => `system:serviceaccount:${namespace}:${name}`

/** The user for whom the request is to be judged: whoever asks, or, with `kubectl --as`, another.
 * @throws {ApiError} 401 if credentials were given and are not good, 403 for who may not impersonate. */
export function authenticate(request: IncomingMessage, tokens: TokenIssuer, store: Store): User {
  const user = whoAsks(request, tokens, store)
  const name = request.headers['impersonate-user']
  if (typeof name !== 'string') return user
  authorize(store, user, { verb: 'impersonate', group: '', resource: 'users', subresource: '', namespace: '', name })
  const account = /^system:serviceaccount:([^:]+):[^:]+$/.exec(name)
  const groups = [request.headers['impersonate-group'] ?? []].flat()
  const implied = account ? ['system:serviceaccounts', `system:serviceaccounts:${account[1]}`] : []
  return { name, groups: [...groups, ...implied, 'system:authenticated'] }
}

function whoAsks(request: IncomingMessage, tokens: TokenIssuer, store: Store): User {
  const socket = request.socket as TLSSocket
  const certificate = socket.authorized ? socket.getPeerCertificate() : undefined
  const subject = certificate?.subject as Record<'CN' | 'O', string | string[] | undefined> | undefined
  if (typeof subject?.CN === 'string') {
    const organizations = subject.O === undefined ? [] : [subject.O].flat()
    return { name: subject.CN, groups: [...organizations, 'system:authenticated'] }
  }
  const header = request.headers.authorization
  if (header === undefined) return anonymous
  const bearer = /^bearer\s+(\S+)$/i.exec(header)?.[1]
  const claims = bearer === undefined ? undefined : tokens.check(bearer)
  if (!claims) throw unauthorized()
  const { namespace, account, accountUid, pod } = claims
  // A token dies with its account, and a bound one with its pod.
  if (store.get('serviceaccounts', namespace, account)?.metadata.uid !== accountUid) throw unauthorized()
  if (pod && store.get('pods', namespace, pod.name)?.metadata.uid !== pod.uid) throw unauthorized()
  const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated']
  return { name: accountName(namespace, account), uid: accountUid, groups }
}
