import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { argvOf, findImage, imageName, images, unknownImage } from '#lab/images/table.ts'
import { asJson, canonical, describe, settings } from '#lab/images/whoami.ts'
import { repo } from '#lab/repo.ts'

const names: [reference: string, image: string | undefined][] = [
  ['traefik/whoami', 'traefik/whoami'],
  ['docker.io/traefik/whoami:v1.11', 'traefik/whoami'],
  ['traefik/whoami@sha256:0123', 'traefik/whoami'],
  ['registry.k8s.io/coredns/coredns:v1.12.0', 'coredns'],
  ['registry.k8s.io/pause:3.10', 'pause'],
  ['ghcr.io/twill-net/twill:0.1.0', 'twill-net/twill'],
  ['localhost:5000/busybox', 'busybox'],
  ['docker.io/library/alpine:3', 'alpine'],
  ['nginx', undefined],
  ['evil/whoami', undefined],
]
for (const [reference, want] of names)
  test(`images: ${reference} is ${want ?? 'unknown'}`, () => assert.equal(findImage(reference)?.name, want))

test('images: registry, tag and digest are no part of the name', () => assert.equal(imageName('host:1/a/b:c@sha256:d'), 'a/b'))

test('images: command replaces the entrypoint, args the arguments; aliases stand for files of a real image', () => {
  const twill = findImage('ghcr.io/twill-net/twill:0.1.0')!
  assert.deepEqual(argvOf(twill, ['twill', 'agent'], ['--ip-masq']), [`${repo}/bin/twill`, 'agent', '--ip-masq'])
  assert.deepEqual(argvOf(twill, ['/opt/bin/flanneld'], ['--ip-masq']), [`${repo}/bin/twill`, 'agent', '--ip-masq'])
  assert.deepEqual(argvOf(twill, undefined, ['status']), [`${repo}/bin/twill`, 'status'])
  assert.deepEqual(argvOf(findImage('nicolaka/netshoot')!, ['tail'], ['-f', '/dev/null']), ['tail', '-f', '/dev/null'])
  assert.deepEqual(argvOf(findImage('nicolaka/netshoot')!, undefined, undefined), ['sh'])
  assert.equal(argvOf(findImage('registry.k8s.io/kube-scheduler:v1.33.2')!, ['kube-scheduler', '--x'], undefined).length, 3)
})

test('images: the refusal and the page name every image', () => {
  const page = readFileSync(`${repo}/docs/lab-images.md`, 'utf8')
  for (const { name, what } of images) {
    assert.ok(unknownImage('nginx').includes(name))
    assert.ok(page.includes(`| \`${name}\` | ${what} |`), `docs/lab-images.md: the line of ${name}`)
  }
})

const asked = {
  method: 'GET',
  url: '/a?b=c',
  remote: '10.244.0.4:40000',
  rawHeaders: ['Host', 'webpod', 'accept', '*/*', 'User-Agent', 'curl/8', 'X-b', '1', 'x-B', '2', 'Connection', 'close'],
}

test('whoami: as the real one prints it', () => {
  assert.equal(
    describe(asked, { hostname: 'webpod-1', ips: ['127.0.0.1', '::1', '10.244.1.2'] }),
    'Hostname: webpod-1\nIP: 127.0.0.1\nIP: ::1\nIP: 10.244.1.2\nRemoteAddr: 10.244.0.4:40000\n' +
      'GET /a?b=c HTTP/1.1\r\nHost: webpod\r\nUser-Agent: curl/8\r\nAccept: */*\r\nConnection: close\r\nX-B: 1\r\nX-B: 2\r\n\r\n',
  )
  assert.match(
    describe({ ...asked, rawHeaders: ['Host', 'a'] }, { name: 'n', hostname: 'h', ips: [] }),
    /^Name: n\nHostname: h\n.*\nGET .*\r\nHost: a\r\nUser-Agent: Go-http-client\/1\.1\r\n\r\n$/,
  )
})

test('whoami: JSON, flags, header names', () => {
  assert.deepEqual(Object.keys(asJson(asked, { hostname: 'h', ips: [] })), [
    'hostname',
    'ip',
    'headers',
    'url',
    'host',
    'method',
    'remoteAddr',
  ])
  assert.deepEqual(settings(['-port', '8080', '--name=x', '-verbose'], {}), { port: 8080, name: 'x', verbose: true })
  assert.deepEqual(settings([], { WHOAMI_PORT_NUMBER: '81' }), { port: 81, name: '', verbose: false })
  assert.equal(canonical('x-forwarded-FOR'), 'X-Forwarded-For')
})
