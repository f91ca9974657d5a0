import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { decodeRequest, encodeAnswer, frameLength } from '#cni/protocol.ts'
import { supportedVersions } from '#cni/version.ts'

const built = spawnSync('make', ['-s', '-C', 'shim', 'all-arch'], { encoding: 'utf8' })
assert.equal(built.status, 0, `make -C shim all-arch: ${built.stderr}`)
const dir = mkdtempSync(join(tmpdir(), 'twill-shim-'))
after(() => rmSync(dir, { recursive: true }))

const arches = [
  { arch: 'amd64', machine: 62, node: 'x64', qemu: 'qemu-x86_64-static' },
  { arch: 'arm64', machine: 183, node: 'arm64', qemu: 'qemu-aarch64-static' },
]
const native = arches.find((one) => one.node === process.arch)!
const base = { CNI_CONTAINERID: 'abc', CNI_NETNS: '/x', CNI_IFNAME: 'eth0', CNI_PATH: '/x', TWILL_CNI_SOCKET: join(dir, 'run/cni.sock') }
const config = '{"cniVersion":"0.3.1","name":"cbr0"}'

for (const { arch, machine, node, qemu } of arches) {
  const file = `dist/shim/twill-cni-${arch}`
  const plugin = join(dir, `flannel-${arch}`)
  copyFileSync(file, plugin)
  chmodSync(plugin, 0o755)
  const [program, args] = node === process.arch ? [plugin, []] : [qemu, ['-0', 'flannel', plugin]]
  const skip = node !== process.arch && spawnSync(qemu, ['-version']).error !== undefined ? `${qemu} is not installed` : false
  const run = (env: Record<string, string>, input = config) => spawnSync(program, args, { env, input, encoding: 'utf8' })

  test(`${arch}: one static file, at most 64 KiB, for that machine`, () => {
    assert.ok(statSync(file).size <= 65536, `${statSync(file).size} bytes`)
    const elf = readFileSync(file)
    assert.equal(elf.readUInt16LE(18), machine)
    assert.ok(!elf.includes('ld-linux') && !elf.includes('ld-musl'))
  })

  test(`${arch}: alone it answers VERSION, ADD, CHECK, GC, STATUS and a call without a command`, { skip }, () => {
    const version = run({ CNI_COMMAND: 'VERSION' }, '')
    assert.equal(version.stdout, `${JSON.stringify({ cniVersion: '1.1.0', supportedVersions })}\n`)
    for (const [command, code] of Object.entries({ ADD: 11, CHECK: 11, GC: 11, STATUS: 50, FOO: 4 })) {
      const { status, stdout } = run({ ...base, CNI_COMMAND: command })
      const answer = JSON.parse(stdout) as { code: number; msg: string }
      assert.deepEqual([status, answer.code], [1, code], command)
      if (code !== 4) assert.match(answer.msg, /^no Twill agent listens at .*cni\.sock: look at the kube-flannel pod/)
    }
    const about = run({}, '')
    assert.deepEqual([about.status, about.stdout], [0, ''])
    assert.match(
      about.stderr,
      new RegExp(`^CNI .*twill-cni shim \\d+\\.\\d+\\.\\d+\\nCNI protocol versions supported: ${supportedVersions.join(', ')}\\n$`),
    )
  })

  test(`${arch}: DEL is queued whole, twice over one file, and bad names never reach a path`, { skip }, () => {
    rmSync(join(dir, 'run'), { recursive: true, force: true })
    for (let i = 0; i < 2; i++)
      assert.deepEqual([run({ ...base, CNI_COMMAND: 'DEL' }).status, run({ ...base, CNI_COMMAND: 'DEL' }).stdout], [0, ''])
    const queue = join(dir, 'run/delete-queue')
    const [name, ...more] = readdirSync(queue)
    assert.deepEqual(more, [])
    assert.match(name!, /^abc-eth0-flannel/)
    assert.deepEqual(
      [statSync(join(dir, 'run')).mode & 0o777, statSync(queue).mode & 0o777, statSync(join(queue, name!)).mode & 0o777],
      [0o700, 0o700, 0o600],
    )
    const frame = readFileSync(join(queue, name!))
    assert.deepEqual(frameLength(frame), { length: frame.length })
    const request = decodeRequest(frame)!
    assert.equal(request.config, config)
    assert.deepEqual(
      [request.env.get('CNI_COMMAND'), request.env.get('CNI_NETNS'), request.env.has('TWILL_CNI_SOCKET')],
      ['DEL', '/x', false],
    )
    for (const bad of [{ CNI_CONTAINERID: '../x' }, { CNI_CONTAINERID: '' }, { CNI_IFNAME: 'a/b' }, { CNI_IFNAME: 'abcdefghijklmnop' }]) {
      const { status, stdout } = run({ ...base, ...bad, CNI_COMMAND: 'DEL' })
      assert.deepEqual([status, (JSON.parse(stdout) as { code: number }).code], [1, 4])
    }
    assert.equal(readdirSync(queue).length, 1)
    const full = run({ ...base, CNI_COMMAND: 'DEL', TWILL_CNI_SOCKET: '/proc/none/cni.sock' })
    assert.deepEqual([full.status, (JSON.parse(full.stdout) as { code: number }).code], [1, 5], 'what cannot be queued is no success')
  })

  test(`${arch}: a configuration over 1 MiB is refused`, { skip }, () => {
    const { stdout } = run({ ...base, CNI_COMMAND: 'ADD' }, ' '.repeat(1 << 20))
    assert.match((JSON.parse(stdout) as { msg: string }).msg, /larger than 1 MiB/)
  })
}

/** Runs the native shim against a server that answers each connection with `bytes`, then closes. */
async function against(bytes: Buffer, command: string): Promise<{ status: number | null; stdout: string }> {
  const path = join(dir, `s${Math.floor(performance.now() * 1000)}`)
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(bytes))
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const child = spawn(join(dir, `flannel-${native.arch}`), [], {
    env: { ...base, CNI_COMMAND: command, TWILL_CNI_SOCKET: path },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin.end(config)
  let stdout = ''
  child.stdout.on('data', (part: Buffer) => {
    stdout += part.toString()
  })
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve))
  server.close()
  return { status, stdout }
}

test('an answer is printed and its status taken; one that is cut, foreign or of another version is an error', async () => {
  const good = encodeAnswer({ exit: 0, stdout: '{"ok":1}' })
  assert.deepEqual(await against(good, 'ADD'), { status: 0, stdout: '{"ok":1}' })
  assert.deepEqual(await against(encodeAnswer({ exit: 1, stdout: '{"code":7}' }), 'ADD'), { status: 1, stdout: '{"code":7}' })
  const other = Buffer.from(good)
  other.writeUInt32BE(1, 8)
  const table: [Buffer, RegExp][] = [
    [good.subarray(0, good.length - 1), /went away before it answered/],
    [good.subarray(0, 5), /went away before it answered/],
    [Buffer.from('HTTP/1.1 400 Bad Request\r\n'), /is not the Twill agent/],
    [other, /of different versions; the agent installs its own plugins/],
  ]
  for (const [bytes, want] of table) {
    const { status, stdout } = await against(bytes, 'ADD')
    const answer = JSON.parse(stdout) as { code: number; msg: string }
    assert.deepEqual([status, answer.code], [1, 11])
    assert.match(answer.msg, want)
  }
})

test('an agent that dies during DEL: the DEL is queued', async () => {
  rmSync(join(dir, 'delete-queue'), { recursive: true, force: true })
  assert.deepEqual(await against(Buffer.alloc(0), 'DEL'), { status: 0, stdout: '' })
  assert.equal(readdirSync(join(dir, 'delete-queue')).length, 1)
  assert.ok(existsSync(join(dir, 'delete-queue', `abc-eth0-flannel-${native.arch}`)))
})
