/** What the shim answers alone: the same as the agent would, and only in the form that runtimes really send. */
import { CLONE_NEWNET, sys } from '#kernel/ffi.ts'

sys.unshare(CLONE_NEWNET)

import assert from 'node:assert/strict'
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { installShim } from '#cni/install.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { callPlugin } from '#cni/plugins.ts'
import { parseRequest } from '#cni/request.ts'
import { sweepTempNetns, tempNetns } from '#kernel/temp-netns.ts'

sweepTempNetns()
assert.equal(spawnSync('make', ['-s', '-C', 'shim']).status, 0)
const dir = mkdtempSync(join(tmpdir(), 'twill-shim-k-'))
installShim('dist/shim/twill-cni', join(dir, 'bin'))
const netns = tempNetns()
after(() => {
  netns.remove()
  rmSync(dir, { recursive: true })
})

const base = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'abc', CNI_NETNS: netns.path, CNI_IFNAME: 'eth0', CNI_PATH: '/x' }
const run = (plugin: string, config: string, env = {}): SpawnSyncReturns<string> =>
  spawnSync(join(dir, 'bin', plugin), {
    env: { ...base, ...env, TWILL_CNI_SOCKET: join(dir, 'no-agent.sock') },
    input: config,
    encoding: 'utf8',
  })
/** The answer of an agent whose kernel does nothing. */
const agent = (plugin: string, config: string): Promise<string> => {
  const kernel = { commit: () => Promise.resolve([]) } as Partial<PodKernel> as PodKernel
  const call = parseRequest({ env: new Map(Object.entries({ ...base, PLUGIN: plugin })), config })
  return callPlugin(call, { kernel } as Parameters<typeof callPlugin>[1], { gone: new AbortController().signal })
}
const lo = (): string => spawnSync('nsenter', [`--net=${netns.path}`, 'ip', '-br', 'addr', 'show', 'lo'], { encoding: 'utf8' }).stdout

test('loopback: lo is up, and the text is the agent’s, in every version that is answered', async () => {
  assert.match(lo(), /^lo +DOWN/)
  for (const cniVersion of ['0.3.0', '0.3.1', '0.4.0', '1.0.0']) {
    const config = JSON.stringify({ cniVersion, name: 'cni-loopback', type: 'loopback' })
    const { status, stdout } = run('loopback', config)
    assert.deepEqual([status, stdout], [0, await agent('loopback', config)])
    assert.match(lo(), /^lo +UNKNOWN +127\.0\.0\.1\/8 ::1\/128/)
    const gone = run('loopback', config, { CNI_COMMAND: 'DEL' })
    assert.deepEqual([gone.status, gone.stdout], [0, ''])
    assert.match(lo(), /^lo +DOWN/, 'DEL brings it down again')
  }
})

const result = { cniVersion: '0.3.1', interfaces: [{ name: 'eth0' }], ips: [{ version: '4', address: '10.244.1.2/24' }], dns: {} }
const conf = { cniVersion: '0.3.1', name: 'cbr0', type: 'portmap', capabilities: { portMappings: true }, prevResult: result }

test('portmap without a port: what it was given, as the agent hands it on', async () => {
  for (const more of [{}, { runtimeConfig: {} }, { runtimeConfig: { portMappings: [] } }]) {
    for (const indent of [undefined, 2]) {
      const config = JSON.stringify({ ...conf, ...more }, null, indent)
      const { status, stdout } = run('portmap', config)
      assert.equal(status, 0, stdout)
      assert.deepEqual([JSON.parse(stdout), JSON.parse(await agent('portmap', config))], [result, result])
    }
  }
})

test('whatever is unusual goes to the agent', () => {
  const text = JSON.stringify(conf)
  const table: [string, string, string, object?][] = [
    [
      'a port',
      'portmap',
      JSON.stringify({ ...conf, runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'tcp' }] } }),
    ],
    ['something else of the runtime', 'portmap', JSON.stringify({ ...conf, runtimeConfig: { mac: 'x' } })],
    ['null', 'portmap', JSON.stringify({ ...conf, runtimeConfig: null })],
    ['a member unknown here', 'portmap', JSON.stringify({ ...conf, snat: false })],
    ['a member in other case', 'portmap', text.replace('"prevResult"', '"PrevResult"')],
    ['a member twice', 'portmap', text.replace('{', '{"name":"cbr0",')],
    ['an escaped member', 'portmap', text.replace('"name"', '"n\\u0061me"')],
    ['no result before', 'portmap', JSON.stringify({ ...conf, prevResult: undefined })],
    ['a result of another version', 'portmap', JSON.stringify({ ...conf, prevResult: { ...result, cniVersion: '1.0.0' } })],
    ['a result without version', 'portmap', JSON.stringify({ ...conf, prevResult: { ...result, cniVersion: undefined } })],
    ['another version', 'portmap', text.replaceAll('0.3.1', '0.2.0')],
    ['a bad name', 'portmap', text.replace('cbr0', 'c/b')],
    ['no name', 'portmap', text.replace('"cbr0"', '""')],
    ['bad JSON: a comma', 'portmap', text.replace('}}', '},}')],
    ['bad JSON: a number', 'portmap', text.replace('"dns":{}', '"dns":01')],
    ['bad JSON: a tail', 'portmap', `${text}x`],
    ['bad JSON: cut', 'portmap', text.slice(0, -1)],
    ['too deep', 'portmap', JSON.stringify({ ...conf, capabilities: JSON.parse('['.repeat(40) + ']'.repeat(40)) as object })],
    ['nothing', 'portmap', ''],
    ['no container', 'portmap', text, { CNI_CONTAINERID: '' }],
    ['a bad container', 'portmap', text, { CNI_CONTAINERID: '../x' }],
    ['no path', 'portmap', text, { CNI_PATH: '' }],
    ['CHECK', 'portmap', text, { CNI_COMMAND: 'CHECK' }],
    ['a result before loopback', 'loopback', JSON.stringify({ ...conf, type: 'loopback' })],
    ['no namespace', 'loopback', '{"cniVersion":"0.3.1","name":"x","type":"loopback"}', { CNI_NETNS: '/proc/self/ns/uts' }],
    ['a path to be escaped', 'loopback', '{"cniVersion":"0.3.1","name":"x","type":"loopback"}', { CNI_NETNS: '/run/"x' }],
    ['flannel', 'flannel', text],
  ]
  for (const [what, plugin, config, env] of table) {
    const { status, stdout } = run(plugin, config, env)
    assert.deepEqual([status, (JSON.parse(stdout) as { code: number }).code], [1, 11], `${what}: ${stdout}`)
  }
})
