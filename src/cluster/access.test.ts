import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Access, AccessSource } from '#cluster/access.ts'

const dir = mkdtempSync(join(tmpdir(), 'twill-access-'))
process.on('exit', () => rmSync(dir, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(dir, name), text)
  return join(dir, name)
}
file('token', 'pod-token\n')
file('ca.crt', 'POD CA')
file('client.crt', 'CERT')
file('client.key', 'KEY')
const config = (user: string, more = ''): string => `current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://192.168.10.100:6443", certificate-authority-data: ${btoa('FILE CA')}${more}}}]
users: [{name: u, user: {${user}}}]
`
const inPod = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' }
const clock = { now: () => 0, date: () => new Date('2026-11-23T09:00:00Z') }
const show = (a: Access): object => ({ server: a.server.origin, ...a.tls, authorization: a.authorization })
const plugin = file(
  'plugin',
  `#!/bin/sh\nprintf '{"status":{"token":"%s-%s","expirationTimestamp":"2026-11-23T10:00:00Z"}}' "$1" "$EXTRA"\n`,
)
chmodSync(plugin, 0o700)

const ways = [
  {
    name: 'in a pod: its service account',
    o: { env: inPod },
    want: { server: 'https://10.96.0.1', ca: 'POD CA', authorization: 'Bearer pod-token' },
  },
  {
    name: 'in a pod of an IPv6 cluster',
    o: { env: { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' } },
    want: { server: 'https://[fd00::1]:6443', ca: 'POD CA', authorization: 'Bearer pod-token' },
  },
  {
    name: '--kube-api-url in a pod keeps the service account and changes the server',
    o: { env: inPod, kubeApiUrl: 'https://192.168.10.100:6443' },
    want: { server: 'https://192.168.10.100:6443', ca: 'POD CA', authorization: 'Bearer pod-token' },
  },
  {
    name: '--kubeconfig-file wins over the pod',
    o: { env: inPod, kubeconfigFile: file('a', config('token: t1')) },
    want: { server: 'https://192.168.10.100:6443', ca: 'FILE CA', cert: undefined, key: undefined, authorization: 'Bearer t1' },
  },
  {
    name: '--kube-api-url replaces the server of a kubeconfig; tokenFile wins over token',
    o: { env: {}, kubeconfigFile: file('b', config('token: t1, tokenFile: token')), kubeApiUrl: 'https://10.0.0.1:1' },
    want: { server: 'https://10.0.0.1:1', ca: 'FILE CA', cert: undefined, key: undefined, authorization: 'Bearer pod-token' },
  },
  {
    name: 'client certificate files count from the kubeconfig; $KUBECONFIG is a list, absent files are passed over',
    o: {
      env: {
        KUBECONFIG: `/nonexistent:${file('c', config('client-certificate: client.crt, client-key: client.key', ', tls-server-name: kubernetes'))}`,
      },
    },
    want: {
      server: 'https://192.168.10.100:6443',
      ca: 'FILE CA',
      cert: 'CERT',
      key: 'KEY',
      servername: 'kubernetes',
      authorization: undefined,
    },
  },
  {
    name: 'a credential plugin is run with its arguments and environment',
    o: {
      env: { PATH: '/usr/bin:/bin' },
      kubeconfigFile: file('d', config('exec: {command: ./plugin, args: [one], env: [{name: EXTRA, value: "a b"}]}')),
    },
    want: { server: 'https://192.168.10.100:6443', ca: 'FILE CA', cert: undefined, key: undefined, authorization: 'Bearer one-a b' },
  },
]
for (const { name, o, want } of ways) {
  test(name, async () => {
    assert.deepEqual(show(await new AccessSource({ serviceAccountDir: dir, clock, ...o }).get()), want)
  })
}

const wrong = [
  { name: 'nothing at all', o: { env: {} }, code: 'ERR_NO_CLUSTER', message: /--kubeconfig-file, KUBERNETES_SERVICE_HOST/ },
  {
    name: 'no such file',
    o: { env: {}, kubeconfigFile: join(dir, 'none') },
    code: 'ERR_KUBECONFIG',
    message: /none: the file is unreadable/,
  },
  {
    name: 'no such context',
    o: { env: {}, kubeconfigFile: file('e', 'current-context: x\ncontexts: [{name: y}]') },
    code: 'ERR_KUBECONFIG',
    message: /current-context is x, it must be the name of one of contexts\[\] \(y\)/,
  },
  {
    name: 'a certificate without a key',
    o: { env: {}, kubeconfigFile: file('f', config('client-certificate: client.crt')) },
    code: 'ERR_KUBECONFIG',
    message: /client-key is absent/,
  },
  {
    name: 'impersonation, which we do not do',
    o: { env: {}, kubeconfigFile: file('g', config('token: t, as: someone')) },
    code: 'ERR_KUBECONFIG',
    message: /users\[\]\.user\.as is present/,
  },
  {
    name: 'a plugin that fails',
    o: { env: {}, kubeconfigFile: file('h', config('exec: {command: /bin/false}')) },
    code: 'ERR_CREDENTIAL_PLUGIN',
    message: /\/bin\/false gave no credential/,
  },
]
for (const { name, o, code, message } of wrong) {
  test(`refused: ${name}`, () =>
    assert.rejects(new AccessSource({ serviceAccountDir: '/nonexistent', clock, ...o }).get(), { code, message }))
}

test('files are read again after a minute, or at once when asked', async () => {
  let now = 0
  const path = file('rotating', config('token: first'))
  const source = new AccessSource({ kubeconfigFile: path, env: {}, clock: { now: () => now, date: clock.date } })
  const token = async (fresh = false): Promise<string | undefined> => (await source.get(fresh)).authorization
  assert.equal(await token(), 'Bearer first')
  file('rotating', config('token: second'))
  assert.equal(await token(), 'Bearer first')
  assert.equal(await token(true), 'Bearer second')
  file('rotating', config('token: third'))
  now = 61_000
  assert.equal(await token(), 'Bearer third')
})
