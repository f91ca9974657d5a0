import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'
import { chainsOf, ReferenceRules } from '#kernel/reference-rules.ts'

sys.unshare(CLONE_NEWNET)

const REFERENCE = '/usr/lib/cni/portmap'
const LEGACY = '/usr/sbin/xtables-legacy-multi'
const rules = ReferenceRules.open()
const tools = mkdtempSync(join(tmpdir(), 'twill-legacy-'))
for (const name of ['iptables', 'ip6tables']) symlinkSync(LEGACY, join(tools, name))
after(async () => {
  rmSync(tools, { recursive: true })
  await rules.close()
})

const run = (argv: readonly string[], input?: string): string =>
  execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8', ...(input !== undefined && { input }) })

/** The reference portmap's ADD for container `id`. */
function add(id: string, path: string, address: string, hostPort: number): void {
  const { status, stdout } = spawnSync(REFERENCE, {
    encoding: 'utf8',
    env: {
      PATH: `${path}:${process.env.PATH}`,
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: id,
      CNI_NETNS: '/proc/1/ns/net',
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/usr/lib/cni',
    },
    input: JSON.stringify({
      cniVersion: '1.0.0',
      name: 'cbr0',
      type: 'portmap',
      snat: false,
      runtimeConfig: {
        portMappings: ['tcp', 'udp'].flatMap((protocol) => [
          { hostPort, containerPort: 80, protocol },
          { hostPort: hostPort + 1, containerPort: 81, protocol, hostIP: '10.0.0.1' },
        ]),
      },
      prevResult: {
        cniVersion: '1.0.0',
        interfaces: [{ name: 'eth0', sandbox: '/proc/1/ns/net' }],
        ips: [
          { interface: 0, address: `10.244.1.${address}/24` },
          { interface: 0, address: `fd00::${address}/64` },
        ],
      },
    }),
  })
  assert.equal(status, 0, stdout)
}
const remove = (containerId: string): Promise<number> => rules.remove({ network: 'cbr0', containerId, ifname: 'eth0' })

for (const { name, path, save } of [
  { name: 'iptables-nft', path: '', save: ['iptables-nft-save', 'ip6tables-nft-save'] },
  { name: 'iptables-legacy', path: tools, save: ['iptables-legacy-save', 'ip6tables-legacy-save'] },
]) {
  const missing = [REFERENCE, ...save.map((tool) => `/usr/sbin/${tool}`)].find((file) => !existsSync(file))
  test(`one container's hostPorts go, all others stay: ${name}`, { skip: missing && `no ${missing} here` }, async () => {
    const saved = (): string[] =>
      save.flatMap((tool) =>
        run([tool, '-t', 'nat'])
          .split('\n')
          .filter((line) => !line.startsWith('#')),
      )
    add('a'.repeat(64), path, '5', 8080)
    const [one] = chainsOf({ network: 'cbr0', containerId: 'b'.repeat(64) })
    const before = saved()
    add('b'.repeat(64), path, '6', 9090)
    assert.ok(saved().some((line) => line.endsWith(`-j ${one}`)))
    assert.ok((await remove('b'.repeat(64))) > 0)
    assert.deepEqual(saved(), before)
    assert.equal(await remove('b'.repeat(64)), 0)
    assert.equal(await remove('c'.repeat(64)), 0)
    assert.deepEqual(saved(), before)
    assert.ok((await remove('a'.repeat(64))) > 0)
    assert.ok(!saved().some((line) => /CNI-DN-/.test(line)))
  })
}

test("the nft backends' rules go by their comment", async () => {
  const id = 'd'.repeat(64)
  const rule = (comment: string): string => `tcp dport 80 dnat to 10.244.1.9:80 comment "${comment}"`
  const mine = masqueradeComment('cbr0', 'eth0', id)
  run(
    ['nft', '-f', '-'],
    `table ip cni_hostport { chain hostports { ${rule(id)}; ${rule('e'.repeat(64))}; }; }
table inet cni_plugins_masquerade { chain masq_checks {
  ip saddr 10.244.1.9 masquerade comment "${mine}, net: cbr0, if: eth0, id: ${id.slice(0, 40)}"
  ip saddr 10.244.1.8 masquerade comment "${masqueradeComment('cbr0', 'eth1', id)}, net: cbr0"
}; }
`,
  )
  assert.equal(await remove(id), 2)
  const left = run(['nft', 'list', 'ruleset'])
  assert.ok(!left.includes(`comment "${id}"`) && left.includes('e'.repeat(64)))
  assert.ok(!left.includes('saddr 10.244.1.9') && left.includes('saddr 10.244.1.8'))
  assert.equal(await remove(id), 0)
})

/** As pkg/ip of the reference plugins makes it, by another program than ours. */
function masqueradeComment(network: string, ifname: string, id: string): string {
  const hash = (text: string): string => run(['sha512sum'], text).slice(0, 16)
  return `${hash(network)}-${hash(`${ifname}:${id}`)}`
}
