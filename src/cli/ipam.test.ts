import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { auditNode, freeLeaked, ipamExit, renderIpam } from '#cli/ipam.ts'
import { lockFile } from '#kernel/lock.ts'

const root = mkdtempSync(join(tmpdir(), 'twill-ipam-'))
after(() => rmSync(root, { recursive: true }))
const paths = {
  confDir: join(root, 'conf'),
  networks: join(root, 'networks'),
  results: join(root, 'results'),
  runDir: join(root, 'run'),
  scratch: join(root, 'flannel'),
}
const write = (path: string, content: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), content)
}
const note = (containerId: string, address: string, netns: string): string =>
  JSON.stringify({
    dataDir: paths.networks,
    attachment: {
      network: 'cbr0',
      containerId,
      ifname: 'eth0',
      podName: `default/${containerId}`,
      netns,
      pod: { addresses: [`${address}/24`] },
    },
  })

write('conf/10-flannel.conflist', JSON.stringify({ name: 'cbr0', plugins: [{ type: 'flannel' }, { type: 'portmap' }] }))
write('conf/20-torn.conflist', '{')
write('results/cbr0-theirs-eth0', '{}')
write('networks/cbr0/lock', '')
write('networks/cbr0/last_reserved_ip.0', '10.244.1.9')
for (const [ip, id] of Object.entries({ 2: 'web', 3: 'theirs', 4: 'dead', 5: 'deadbeefdeadbeef', 6: '' })) {
  write(`networks/cbr0/10.244.1.${ip}`, id && `${id}\r\neth0`)
}
write('networks/other/10.9.0.2', 'x\r\neth0')
write('run/attachments/web-eth0.json', note('web', '10.244.1.2', '/proc/self/ns/net'))
write('run/attachments/dead-eth0.json', note('dead', '10.244.1.4', join(root, 'gone')))
write('run/attachments/torn-eth0.json', '{"attach')
const takeLock = (path: string): Promise<() => void> => lockFile(path, systemClock, 50)
const free = (yes: boolean): Promise<string[]> => freeLeaked({ paths, takeLock, yes, say: () => {} })
const held = (): string[] => readdirSync(join(root, 'networks/cbr0')).filter((name) => name.startsWith('10.'))

test('the audit names what has no pod and what is torn; the page says who has what', () => {
  const audit = auditNode(paths)
  assert.equal(ipamExit(audit), 1)
  assert.deepEqual(
    audit.faults.map(({ id, address }) => `${id} ${address}`),
    ['address-without-pod 10.244.1.4', 'address-without-pod 10.244.1.5', 'torn-file 10.244.1.6'],
  )
  assert.equal(
    renderIpam(audit, { color: false }),
    `NETWORK   ADDRESS      CONTAINER      POD           STATE
cbr0      10.244.1.2   web            default/web   in use
cbr0      10.244.1.3   theirs         -             in use
cbr0      10.244.1.4   dead           -             no pod
cbr0      10.244.1.5   deadbeefdead   -             no pod
cbr0      10.244.1.6   -              -             no pod
other     10.9.0.2     x              -             another network's

address-without-pod  10.244.1.4 is reserved for container dead, which is not there
  → Free it: twill ipam free.
address-without-pod  10.244.1.5 is reserved for container deadbeefdead, which is not there
  → Free it: twill ipam free.
torn-file  the file of 10.244.1.6 names no container
  → Free it: twill ipam free.
`,
  )
})

test('free takes host-local’s lock, and gives up when another holds it', async () => {
  const holder = spawn('flock', [join(root, 'networks/cbr0/lock'), 'sh', '-c', 'echo held; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => holder.stdout.once('data', resolve))
  await assert.rejects(free(true), { code: 'ERR_LOCK_HELD' })
  assert.equal(held().length, 5)
  const ended = new Promise((resolve) => holder.once('exit', resolve))
  holder.stdin.end('\n')
  await ended
})

test('free frees what has no pod, and only that', async () => {
  assert.deepEqual(await free(true), ['10.244.1.4', '10.244.1.5', '10.244.1.6'])
  assert.deepEqual(held(), ['10.244.1.2', '10.244.1.3'])
  assert.deepEqual(readdirSync(join(root, 'networks/other')), ['10.9.0.2'])
  assert.equal(ipamExit(auditNode(paths)), 0)
  assert.deepEqual(await free(true), [])
})
