import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { makePki } from '#lab/control/pki.ts'

test('makes what each part needs, once', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'twill-pki-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const nodes = [
    { name: 'k8s-ctr', ip: '192.168.10.100' },
    { name: 'k8s-w1', ip: '192.168.10.101' },
  ]
  await makePki(dir, { nodes, controlPlaneIp: '192.168.10.100' })
  const read = () => readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), 'utf8')] as const)
  const first = read()
  const certificate = (name: string) => new X509Certificate(readFileSync(join(dir, `${name}.crt`)))
  const ca = certificate('ca')
  for (const name of ['apiserver', 'admin', 'kubelet-k8s-w1', 'kubelet-serving-k8s-w1'])
    assert.ok(certificate(name).verify(ca.publicKey), name)
  for (const ip of ['127.0.0.1', '192.168.10.100', '10.96.0.1']) assert.equal(certificate('apiserver').checkIP(ip), ip)
  for (const host of ['localhost', 'kubernetes.default.svc', 'k8s-ctr']) assert.equal(certificate('apiserver').checkHost(host), host)
  assert.equal(certificate('kubelet-k8s-w1').subject, 'O=system:nodes\nCN=system:node:k8s-w1')
  for (const [name] of first.filter(([name]) => /\.(key|conf)$/.test(name))) assert.equal(statSync(join(dir, name)).mode & 0o077, 0, name)
  assert.equal(JSON.parse(readFileSync(join(dir, 'kubelet-k8s-w1.conf'), 'utf8')).clusters[0].cluster.server, 'https://192.168.10.100:6443')
  await makePki(dir, { nodes, controlPlaneIp: '192.168.10.100' })
  assert.deepEqual(read(), first)
})
