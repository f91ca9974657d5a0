import assert from 'node:assert/strict'
import { test } from 'node:test'
import { doctorExit, mend, renderDoctor } from '#cli/doctor/doctor.ts'
import type { Diagnosis, DoctorDocument } from '#model/doctor.ts'

const finding: Diagnosis = {
  id: 'ip-forward-off',
  severity: 'error',
  subject: 'node k8s-w1',
  where: 'sysctl net/ipv4/ip_forward',
  text: 'net/ipv4/ip_forward is 0, it must be 1',
  why: 'The kernel drops every packet between pods and the rest of the world.',
  remedy: 'Set it.',
  fix: ['sysctl -w net/ipv4/ip_forward=1'],
}
const document = (findings: readonly Diagnosis[]): DoctorDocument => ({
  kind: 'TwillDoctor',
  version: 1,
  node: 'k8s-w1',
  looked: { kernel: true, agent: false, cluster: true, peers: 1 },
  findings,
})

test('a page for people: what, where, why, what to do, and the command on a line of its own', () => {
  const command = `echo ${'long '.repeat(30)}`
  const page = renderDoctor(document([{ ...finding, fix: [...finding.fix, command] }]), { color: false, width: 60 })
  assert.equal(
    page,
    `k8s-w1: 1 finding

error ip-forward-off (node k8s-w1)
  net/ipv4/ip_forward is 0, it must be 1.
  where: sysctl net/ipv4/ip_forward
  why: The kernel drops every packet between pods and the
  rest of the world.
  → Set it.
      sysctl -w net/ipv4/ip_forward=1
      ${command}

Looked at: kernel and files, the cluster, 1 peer.
`,
  )
  assert.equal(doctorExit(document([finding])), 1)
})

test('nothing is wrong, and with what was looked at; colours only when asked for', () => {
  const page = renderDoctor(document([]), { color: false, width: 80 })
  assert.equal(page, 'k8s-w1: nothing is wrong\nLooked at: kernel and files, the cluster, 1 peer.\n')
  assert.equal(doctorExit(document([])), 0)
  assert.ok(renderDoctor(document([]), { color: true, width: 80 }).includes('\u001b[32mnothing is wrong'))
})

const mends = [
  {
    name: 'all commands of a finding succeed',
    findings: [{ ...finding, fix: ['true', 'exit 0'] }],
    mended: 1,
    said: /\n {2}true\n {2}exit 0\n$/,
  },
  {
    name: 'the first that fails ends it',
    findings: [{ ...finding, fix: ['exit 3', 'kill -KILL $PPID'] }],
    mended: 0,
    said: /status 3; the rest/,
  },
  { name: 'a finding without a command is left alone', findings: [{ ...finding, fix: [] }], mended: 0, said: /^$/ },
]
for (const { name, findings, mended, said } of mends) {
  test(`--fix --yes: ${name}`, async () => {
    let text = ''
    const print = (part: string): void => {
      text += part
    }
    assert.equal(await mend(document(findings), { yes: true, print }), mended)
    assert.match(text, said)
  })
}
