/**
 * ServiceAccount tokens: JWTs signed with the cluster's P-256 key (ES256), in the shape that kube-apiserver issues by TokenRequest.
 * @module
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomUUID, sign, verify } from 'node:crypto'
import { isTree, type Tree, textAt, textsAt } from '#lab/control/tree.ts'

export const issuer = 'https://kubernetes.default.svc.cluster.local'

/** What a token says about its bearer. */
export interface TokenClaims {
  readonly namespace: string
  readonly account: string
  readonly accountUid: string
  /** Absent for tokens that are bound to no pod. */
  readonly pod?: { readonly name: string; readonly uid: string }
  readonly node?: string
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

export class TokenIssuer {
  readonly #private: KeyObject
  readonly #public: KeyObject
  readonly #now: () => number

  /** @param key  PEM of the private key. */
  constructor(key: string, now: () => number = Date.now) {
    this.#private = createPrivateKey(key)
    this.#public = createPublicKey(this.#private)
    this.#now = now
  }

  issue(claims: TokenClaims, seconds: number, audiences: readonly string[] = [issuer]): { token: string; expires: number } {
    const now = Math.floor(this.#now() / 1000)
    const { namespace, account, accountUid, pod, node } = claims
    const payload = {
      aud: audiences,
      exp: now + seconds,
      iat: now,
      iss: issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace,
        ...(node && { node: { name: node } }),
        ...(pod && { pod }),
        serviceaccount: { name: account, uid: accountUid },
      },
      nbf: now,
      sub: `system:serviceaccount:${namespace}:${account}`,
    }
    const text = `${encode({ alg: 'ES256', typ: 'JWT' })}.${encode(payload)}`
    const signature = sign('sha256', Buffer.from(text), { key: this.#private, dsaEncoding: 'ieee-p1363' })
    return { token: `${text}.${signature.toString('base64url')}`, expires: (now + seconds) * 1000 }
  }

  /** @returns undefined for anything that this cluster did not sign, that is out of date or made for somebody else. */
  check(token: string): TokenClaims | undefined {
    const [head, body, signature] = token.split('.')
    if (!head || !body || !signature) return undefined
    const key = { key: this.#public, dsaEncoding: 'ieee-p1363' as const }
    if (!verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))) return undefined
    const payload: unknown = JSON.parse(Buffer.from(body, 'base64url').toString())
    if (!isTree(payload)) return undefined
    const now = this.#now() / 1000
    if (Number(payload.exp) < now || Number(payload.nbf) > now + 10 || !textsAt(payload, 'aud').includes(issuer)) return undefined
    const about = payload['kubernetes.io'] as Tree
    const pod = isTree(about.pod) ? { name: textAt(about.pod, 'name'), uid: textAt(about.pod, 'uid') } : undefined
    const node = textAt(about, 'node.name')
    return {
      namespace: textAt(about, 'namespace'),
      account: textAt(about, 'serviceaccount.name'),
      accountUid: textAt(about, 'serviceaccount.uid'),
      ...(pod && { pod }),
      ...(node && { node }),
    }
  }
}
