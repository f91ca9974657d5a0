/**
 * Who asks: by client certificate (CN is the user, each O a group), by ServiceAccount token, or nobody.
 * @module
 */
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
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

/** @throws {ApiError} 401 if credentials were given and are not good. */
export function authenticate(request: IncomingMessage, tokens: TokenIssuer, store: Store): User {
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
