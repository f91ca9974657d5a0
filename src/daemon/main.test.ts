/** The program itself, as far as it goes without rights: exit statuses, health at once, the status socket. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { startHealth, startStatusSocket } from '#daemon/listen.ts'
import { until } from '#daemon/testing.ts'
import { sys } from '#kernel/ffi.ts'
import { unixAddress } from '#kernel/notify.ts'

const dir = mkdtempSync(join(tmpdir(), 'twill-main-'))
after(() => rmSync(dir, { recursive: true, force: true }))
const entry = 'src/daemon/entry.ts'
const run = (...argv: string[]) => spawnSync(process.execPath, [entry, ...argv], { encoding: 'utf8', env: {} })
const netConf = (name: string, value: unknown): string => {
  const path = join(dir, name)
  writeFileSync(path, typeof value === 'string' ? value : JSON.stringify(value))
  return `--net-config-path=${path}`
}

const cases = [
  { name: 'help', argv: ['--help'], status: 0, says: /--kube-subnet-mgr/ },
  { name: 'version', argv: ['--version'], status: 0, says: /^\d+\.\d+\.\d+\n$/ },
  { name: 'a bad flag', argv: ['--ipmasq'], status: 2, says: /--ipmasq: there is no such flag, did you mean --ip-masq\?/ },
  { name: 'etcd mode', argv: [], status: 1, says: /ERR_ETCD_MODE.*--kube-subnet-mgr/ },
  {
    name: 'no net-conf.json',
    argv: ['--kube-subnet-mgr', '--net-config-path=/nowhere'],
    status: 1,
    says: /ERR_NET_CONF_READ.*kube-flannel-cfg/,
  },
  {
    name: 'a bad prefix',
    argv: ['--kube-subnet-mgr', netConf('a', { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } }), '--kube-annotation-prefix=x'],
    status: 1,
    says: /ERR_ANNOTATION_PREFIX/,
  },
  {
    name: 'a backend to come',
    argv: ['--kube-subnet-mgr', netConf('b', { Network: '10.244.0.0/16', Backend: { Type: 'wireguard' } })],
    status: 1,
    says: /ERR_BACKEND_TO_COME.*wireguard/,
  },
]
for (const { name, argv, status, says } of cases) {
  test(`twill agent: ${name}`, () => {
    const done = run(...argv)
    assert.equal(done.status, status)
    assert.match(done.stderr.replaceAll('\n{', '{'), says)
  })
}

test('a password on the command line is in no log line', () => {
  assert.doesNotMatch(run('--etcd-password=hunter2').stderr, /hunter2/)
})

test('the health port is taken: a clear error, exit 1', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const { port } = other.address() as AddressInfo
  const child = spawn(process.execPath, [entry, '--kube-subnet-mgr', '--healthz-ip=127.0.0.1', `--healthz-port=${port}`], { env: {} })
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const status = await new Promise((resolve) => child.once('close', resolve))
  other.close()
  assert.equal(status, 1)
  assert.match(log, new RegExp(`Cannot listen for health probes on 127.0.0.1:${port}: EADDRINUSE`))
})

test('health answers at once, readiness when there is any, with the words of flanneld', async () => {
  let ready = false
  const server = await startHealth({ ip: '127.0.0.1', port: 0, ready: () => ready })
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const ask = async (path: string): Promise<string> => {
    const response = await fetch(base + path)
    return `${response.status} ${await response.text()}`
  }
  assert.equal(await ask('/healthz'), '200 flanneld is running')
  assert.equal(await ask('/readyz'), '503 flanneld is not ready yet')
  ready = true
  assert.equal(await ask('/readyz'), '200 flanneld is ready')
  assert.equal(await ask('/other'), '404 ')
  server.close().closeAllConnections()
})

test('the status socket: root alone may ask, a second agent is refused, a stale file is not', async () => {
  const path = join(dir, 'run/agent.sock')
  const server = await startStatusSocket(path, { '/status': () => ({ kind: 'TwillStatus' }) })
  assert.equal(statSync(path).mode & 0o777, 0o600)
  await assert.rejects(startStatusSocket(path, {}), { code: 'ERR_AGENT_RUNNING' })
  server.close().closeAllConnections()
  writeFileSync(path, '')
  const next = await startStatusSocket(path, {})
  next.close().closeAllConnections()
  await until('closed', () => !next.listening)
})

test('the service manager is told why the agent waits, and that it stops', async (t) => {
  const path = `@twill-main-${process.pid}`
  const manager = sys.socket(1, 2, 0) // AF_UNIX, SOCK_DGRAM
  t.after(() => closeSync(manager))
  sys.bind(manager, unixAddress(path))
  const hear = (): string | undefined => {
    const into = new Uint8Array(1000)
    const length = sys.recvNow(manager, into)
    return length > 0 ? Buffer.from(into.subarray(0, length)).toString() : undefined
  }
  const conf = netConf('notify', { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } })
  const argv = [entry, '--kube-subnet-mgr', conf, `--run-dir=${dir}/notify-run`, '--kube-api-url=http://127.0.0.1:9']
  const agent = spawn(process.execPath, argv, { env: { NODE_NAME: 'k8s-w1', NOTIFY_SOCKET: path }, stdio: 'ignore' })
  const ended = new Promise((resolve) => agent.once('exit', resolve))
  assert.match(await until('why it waits', hear, 20_000), /^STATUS=waiting: .*127\.0\.0\.1:9.*\nEXTEND_TIMEOUT_USEC=\d+$/)
  agent.kill()
  const last = await until('the stop', () => [hear()].find((text) => text === 'STOPPING=1'), 20_000)
  assert.equal(last, 'STOPPING=1')
  assert.equal(await ended, 0)
})
