import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '#base/clock.ts'
import { silentLog } from '#base/log.ts'
import type { PodKernel } from '#cni/kernel.ts'
import { encodeRequest, HEADER_BYTES, PROTOCOL } from '#cni/protocol.ts'
import { type CniServer, startCniServer } from '#cni/server.ts'
import { type AgentAnswer, askAgent } from '#cni/testing.ts'
import { type HostView, type Item, type Op, type Outcome, show, showOp } from '#model/kernel.ts'

const NETNS = '/proc/self/ns/net' // any namespace will do: the kernel here is not real
const stock = { cniVersion: '0.3.1', name: 'cbr0', type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } }

/** Takes everything down and, where told, holds or refuses. */
class FakeKernel implements PodKernel {
  readonly lines: string[] = []
  readonly wanted = new Map<string, string[]>()
  refuse: (line: string) => boolean = () => false
  hold: Promise<void> | undefined
  underWay = 0
  most = 0

  async commit(owner: string, wanted: readonly Item[], ops: readonly Op[]): Promise<Outcome[]> {
    this.wanted.set(owner, wanted.map(show))
    return this.#carryOut(ops)
  }
  async release(owner: string, ops: readonly Op[]): Promise<Outcome[]> {
    this.wanted.delete(owner)
    return this.#carryOut(ops)
  }
  deviceTo(): Promise<string> {
    return Promise.resolve('cni0')
  }
  host(): Promise<HostView> {
    return Promise.resolve({ links: [], addresses: [], routes: [] })
  }

  async #carryOut(ops: readonly Op[]): Promise<Outcome[]> {
    this.most = Math.max(this.most, ++this.underWay)
    await this.hold
    this.underWay--
    this.lines.push(...ops.map(showOp))
    return ops.map((op) => ({ op, ...(this.refuse(showOp(op)) ? { error: new Error('the kernel said no') } : {}) }))
  }
}

interface Bench {
  readonly root: string
  readonly kernel: FakeKernel
  start(more?: { concurrency?: number }): Promise<CniServer>
  files(): string[]
}

function bench(t: TestContext): Bench {
  const root = mkdtempSync(join(tmpdir(), 'twill-cni-'))
  const kernel = new FakeKernel()
  const servers: CniServer[] = []
  t.after(async () => {
    await Promise.all(servers.map((server) => server.close()))
    rmSync(root, { recursive: true })
  })
  writeFileSync(
    join(root, 'subnet.env'),
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
  return {
    root,
    kernel,
    async start(more = {}) {
      const server = await startCniServer({
        runDir: join(root, 'run'),
        kernel,
        takeLock: () => Promise.resolve(() => {}),
        clock: systemClock,
        log: silentLog,
        flannel: { subnetFile: join(root, 'subnet.env'), dataDir: join(root, 'flannel') },
        networksDir: join(root, 'networks'),
        resultsDir: join(root, 'results'),
        ...more,
      })
      servers.push(server)
      return server
    },
    files: () =>
      ['flannel', 'networks/cbr0', 'run/attachments', 'run/delete-queue'].flatMap((dir) =>
        existsSync(join(root, dir))
          ? readdirSync(join(root, dir))
              .filter((name) => !/^(last_reserved|lock)/.test(name))
              .map((name) => `${dir}/${name}`)
          : [],
      ),
  }
}

const frameOf = (command: string, id: string, conf: object, more: Record<string, string> = {}): Buffer => {
  const env = {
    PLUGIN: 'flannel',
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: NETNS,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/x',
    ...more,
  }
  return encodeRequest({ env: new Map(Object.entries(env)), config: JSON.stringify(conf) })
}

type Answer = Pick<AgentAnswer, 'protocol' | 'exit' | 'text'>

async function send(server: CniServer, frame: Buffer): Promise<Answer> {
  const { protocol, exit, text } = await askAgent(server.socketPath, frame)
  return { protocol, exit, text }
}
const ask = (server: CniServer, command: string, id: string, conf: object = stock, more = {}): Promise<Answer> =>
  send(server, frameOf(command, id, conf, more))
const failure = (answer: Answer): { code: number; msg: string } => {
  assert.equal(answer.exit, 1, answer.text)
  return JSON.parse(answer.text) as { code: number; msg: string }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within 5 s: ${what}`)
    await systemClock.sleep(2)
  }
}

test('ADD by the stock conflist, DEL, DEL again', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const added = await ask(server, 'ADD', 'abc', stock, { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web' })
  const masked = added.text.replace(/veth[0-9a-f]{8}/, 'VETH').replace(/("VETH",\n +"mac": )"[0-9a-f:]{17}"/, '$1"MAC"')
  assert.equal(
    masked,
    JSON.stringify(
      {
        cniVersion: '0.3.1',
        interfaces: [
          { name: 'cni0', mac: '0a:58:0a:f4:01:01' },
          { name: 'VETH', mac: 'MAC' },
          { name: 'eth0', mac: '0a:58:0a:f4:01:02', sandbox: NETNS },
        ],
        ips: [{ version: '4', interface: 2, address: '10.244.1.2/24', gateway: '10.244.1.1' }],
        routes: [{ dst: '10.244.0.0/16' }, { dst: '0.0.0.0/0', gw: '10.244.1.1' }],
        dns: {},
      },
      null,
      4,
    ),
  )
  assert.deepEqual(b.files(), ['flannel/abc', 'networks/cbr0/10.244.1.2', 'run/attachments/abc-eth0.json'])
  assert.deepEqual([...b.kernel.wanted.keys()], ['bridge cni0', 'pod default/web abc eth0'])
  assert.equal(server.attachments()[0]!.podName, 'default/web')
  assert.deepEqual([statSync(server.socketPath).mode & 0o777, statSync(join(b.root, 'run')).mode & 0o777], [0o600, 0o700])

  for (let i = 0; i < 2; i++)
    assert.deepEqual(await ask(server, 'DEL', 'abc', stock, { CNI_NETNS: '' }), { protocol: PROTOCOL, exit: 0, text: '' })
  assert.deepEqual(b.files(), [])
  assert.match(b.kernel.lines.at(-1)!, /^del link veth/)
  assert.deepEqual([...b.kernel.wanted.keys()], ['bridge cni0'])
})

test('1.0.0: no version in ips, no empty dns; CHECK looks at addresses, the result and the kernel', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const conf = { ...stock, cniVersion: '1.0.0' }
  const added = JSON.parse((await ask(server, 'ADD', 'abc', conf)).text) as Record<string, unknown>
  assert.deepEqual(Object.keys(added), ['cniVersion', 'interfaces', 'ips', 'routes'])
  assert.deepEqual(added.ips, [{ interface: 2, address: '10.244.1.2/24', gateway: '10.244.1.1' }])
  assert.equal(failure(await ask(server, 'CHECK', 'abc', conf)).msg, 'Required prevResult missing')
  const bare = failure(await ask(server, 'CHECK', 'abc', { ...conf, prevResult: added })).msg
  assert.equal(bare, 'Interface name cni0 not found', 'CHECK asks the kernel; compare.ts holds it to the reference')
  assert.match(failure(await ask(server, 'CHECK', 'other', { ...conf, prevResult: added })).msg, /^host-local: Failed to find address/)
})

test('STATUS: 50 until there is a lease', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const conf = { ...stock, cniVersion: '1.1.0' }
  assert.deepEqual(await ask(server, 'STATUS', '', conf), { protocol: PROTOCOL, exit: 0, text: '' })
  rmSync(join(b.root, 'subnet.env'))
  const refused = failure(await ask(server, 'STATUS', '', conf))
  assert.equal(refused.code, 50)
  assert.match(refused.msg, /failed to load flannel 'subnet\.env' file/)
})

test('GC takes back what is not listed, of its own network only; no list says nothing', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const conf = { ...stock, cniVersion: '1.1.0' }
  for (const id of ['a', 'b']) await ask(server, 'ADD', id, conf)
  await ask(server, 'ADD', 'c', { ...conf, name: 'other' })
  writeFileSync(join(b.root, 'networks/cbr0/10.244.1.99'), 'lost\r\neth0')
  const gc = async (more: object): Promise<string[]> => {
    assert.deepEqual(await ask(server, 'GC', '', { ...conf, ...more }), { protocol: PROTOCOL, exit: 0, text: '' })
    return server.attachments().map(({ containerId }) => containerId)
  }
  assert.deepEqual(await gc({}), ['a', 'b', 'c'])
  assert.deepEqual(await gc({ 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }), ['b', 'c'])
  assert.deepEqual(
    b.files().filter((file) => !file.startsWith('run/')),
    ['flannel/b', 'flannel/c', 'networks/cbr0/10.244.1.3'],
  )
  assert.deepEqual(await gc({ 'cni.dev/valid-attachments': [] }), ['c'])
})

test('portmap hands the result on, and leads the ports to the pod, its keys in any case', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const prev = (await ask(server, 'ADD', 'abc')).text
  const chained = { cniVersion: '0.3.1', name: 'cbr0', type: 'portmap', prevResult: JSON.parse(prev) as object }
  const portmap = (command: string, conf: object): Promise<Answer> => ask(server, command, 'abc', conf, { PLUGIN: 'portmap' })
  assert.equal((await portmap('ADD', chained)).text, prev)
  assert.equal(b.kernel.wanted.has('pod abc eth0 hostports'), false)
  const containerd = { ...chained, runtimeConfig: { portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' }] } }
  assert.equal((await portmap('ADD', containerd)).text, prev)
  const wanted = b.kernel.wanted.get('pod abc eth0 hostports')
  assert.ok(wanted?.includes('element inet twill hostport-any-to-ipv4 { tcp . 8080 : 10.244.1.2 . 80 }'))
  assert.deepEqual((await portmap('DEL', containerd)).exit, 0)
  assert.equal(b.kernel.wanted.has('pod abc eth0 hostports'), false)

  const check = async (conf: object) => (await portmap('CHECK', { ...conf, cniVersion: '0.4.0' })).exit
  const at040 = { ...containerd, prevResult: { ...chained.prevResult, cniVersion: '0.4.0' } }
  assert.equal(await check(at040), 1, 'CHECK of a port that leads nowhere')
  assert.equal((await portmap('ADD', containerd)).exit, 0)
  assert.equal(await check(at040), 0)
  b.kernel.refuse = (line) => line.startsWith('del element')
  assert.match(failure(await portmap('DEL', containerd)).msg, /the kernel said no/)
  b.kernel.refuse = () => false
  assert.equal(await check(at040), 0, 'DEL failed, so it is there')
  b.kernel.lines.length = 0
  assert.equal((await portmap('DEL', containerd)).exit, 0)
  assert.ok(b.kernel.lines.includes('del element inet twill hostport-any-ipv4 { tcp . 8080 : goto hostport-near }'))
  assert.deepEqual(readdirSync(join(b.root, 'run/hostports')), [])

  assert.equal((await portmap('ADD', containerd)).exit, 0)
  const gc = { cniVersion: '1.1.0', name: 'cbr0', type: 'portmap' }
  const kept = async (more: object): Promise<number> => {
    assert.equal((await portmap('GC', { ...gc, ...more })).exit, 0)
    return readdirSync(join(b.root, 'run/hostports')).length
  }
  assert.equal(await kept({}), 1)
  assert.equal(await kept({ 'cni.dev/valid-attachments': [{ containerID: 'abc', ifname: 'eth0' }] }), 1)
  assert.equal(await kept({ name: 'other', 'cni.dev/valid-attachments': [] }), 1)
  assert.equal(await kept({ 'cni.dev/valid-attachments': [] }), 0)

  b.kernel.refuse = (line) => line.includes('hostport-any-to-ipv4')
  assert.match(failure(await portmap('ADD', containerd)).msg, /the kernel said no/)
  assert.equal(b.kernel.wanted.has('pod abc eth0 hostports'), false)
  b.kernel.refuse = () => false
  assert.equal(
    failure(await ask(server, 'ADD', 'abc', { ...chained, prevResult: null }, { PLUGIN: 'portmap' })).msg,
    'must be called as chained plugin',
  )
  assert.match(
    failure(await ask(server, 'ADD', 'abc', { ...chained, cniVersion: '1.0.0' }, { PLUGIN: 'portmap' })).msg,
    /prevResult: result type/,
  )
  assert.equal((await ask(server, 'DEL', 'abc', containerd, { PLUGIN: 'portmap' })).exit, 0)
})

test('bridge and host-local by their own names', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const ipam = { type: 'host-local', dataDir: join(b.root, 'other'), subnet: '10.7.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
  const conf = { cniVersion: '1.0.0', name: 'other', type: 'bridge', bridge: 'br9', isGateway: true, ipam }
  const added = JSON.parse((await ask(server, 'ADD', 'abc', conf, { PLUGIN: 'bridge' })).text) as { ips: unknown; routes: unknown }
  assert.deepEqual(added.ips, [{ interface: 2, address: '10.7.0.2/24', gateway: '10.7.0.1' }])
  assert.deepEqual(added.routes, [{ dst: '0.0.0.0/0' }])
  assert.equal(
    (await ask(server, 'ADD', 'ipam', conf, { PLUGIN: 'host-local' })).text,
    JSON.stringify(
      { cniVersion: '1.0.0', ips: [{ address: '10.7.0.3/24', gateway: '10.7.0.1' }], routes: [{ dst: '0.0.0.0/0' }] },
      null,
      4,
    ),
  )
  for (const [plugin, id] of [
    ['bridge', 'abc'],
    ['host-local', 'ipam'],
  ] as const)
    assert.equal((await ask(server, 'DEL', id, conf, { PLUGIN: plugin })).exit, 0)
  assert.deepEqual(readdirSync(join(b.root, 'other/other')), ['last_reserved_ip.0'])
  for (const [key, value] of Object.entries({ vlan: 5, vlanTrunk: [{ id: 7 }], macspoofchk: true })) {
    const refused = failure(await ask(server, 'ADD', 'abc', { ...conf, [key]: value }, { PLUGIN: 'bridge' }))
    assert.equal(refused.code, 2)
    assert.match(refused.msg, new RegExp(`unsupported field ${key}: `))
  }
})

test('what the kernel refuses is taken back whole, and said', async (t) => {
  const b = bench(t)
  const server = await b.start()
  b.kernel.refuse = (line) => /route default/.test(line)
  const refused = failure(await ask(server, 'ADD', 'abc'))
  assert.deepEqual([refused.code, refused.msg], [999, "failed to add route '0.0.0.0/0 via 10.244.1.1 dev eth0': the kernel said no"])
  assert.match(b.kernel.lines.at(-1)!, /^del link veth/)
  assert.deepEqual(b.files(), [])
  b.kernel.refuse = (line) => /conf\/eth0\/accept_dad/.test(line)
  assert.equal((await ask(server, 'ADD', 'abc')).exit, 0, 'a pod without IPv6 is a pod')
})

test('a bridge that someone deleted is made anew', async (t) => {
  const b = bench(t)
  const server = await b.start()
  await ask(server, 'ADD', 'a')
  let times = 0
  b.kernel.refuse = (line) => line.startsWith('put port') && times++ === 0
  b.kernel.lines.length = 0
  assert.equal((await ask(server, 'ADD', 'b')).exit, 0)
  assert.equal(b.kernel.lines.filter((line) => line.startsWith('put link cni0')).length, 1)
})

test('a runtime that goes away during ADD has it undone', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const gate = Promise.withResolvers<void>()
  b.kernel.hold = gate.promise
  const socket = connect(server.socketPath, () => socket.write(frameOf('ADD', 'abc', stock)))
  await until('ADD reaches the kernel', () => b.kernel.underWay === 1)
  socket.destroy()
  await systemClock.sleep(20) // the end of the connection is on its way
  gate.resolve()
  await until('ADD is undone', () => b.kernel.lines.some((line) => line.startsWith('del link veth')) && b.files().length === 0)
  assert.deepEqual([...b.kernel.wanted.keys()], ['bridge cni0'])
  const made = b.kernel.lines.findIndex((line) => line.includes('route default'))
  assert.ok(b.kernel.lines.findIndex((line) => line.startsWith('del link veth')) > made, 'the deletion comes after the last thing made')
})

test('a DEL that comes during ADD waits for its end', async (t) => {
  const b = bench(t)
  const server = await b.start()
  const gate = Promise.withResolvers<void>()
  b.kernel.hold = gate.promise
  const add = ask(server, 'ADD', 'abc')
  await until('ADD reaches the kernel', () => b.kernel.underWay === 1)
  let deleted = false
  const del = ask(server, 'DEL', 'abc').finally(() => {
    deleted = true
  })
  await systemClock.sleep(20)
  assert.equal(deleted, false)
  gate.resolve()
  assert.deepEqual([(await add).exit, (await del).exit], [0, 0])
  assert.deepEqual(b.files(), [])
})

test('what is queued is deleted before the first ADD, also one that is waiting already', async (t) => {
  const b = bench(t)
  const first = await b.start()
  await ask(first, 'ADD', 'old')
  await first.close()
  mkdirSync(join(b.root, 'run/delete-queue'))
  writeFileSync(join(b.root, 'run/delete-queue/old-eth0-flannel'), frameOf('DEL', 'old', stock))
  const gate = Promise.withResolvers<void>()
  b.kernel.hold = gate.promise
  b.kernel.lines.length = 0
  const starting = b.start()
  await until('the socket is open', () => existsSync(first.socketPath))
  const add = ask(first, 'ADD', 'new')
  await systemClock.sleep(20)
  assert.equal(b.kernel.most, 1, 'ADD has not reached the kernel')
  gate.resolve()
  assert.equal((await add).exit, 0)
  await starting
  const deleted = b.kernel.lines.findIndex((line) => line.startsWith('del link veth'))
  assert.ok(deleted >= 0 && deleted < b.kernel.lines.findIndex((line) => line.startsWith('put link veth')))
})

test('an ADD that comes again replaces its own attachment', async (t) => {
  const b = bench(t)
  const server = await b.start()
  await ask(server, 'ADD', 'abc')
  assert.match((await ask(server, 'ADD', 'abc')).text, /10\.244\.1\.3\/24/)
  assert.deepEqual(b.files(), ['flannel/abc', 'networks/cbr0/10.244.1.3', 'run/attachments/abc-eth0.json'])
})

test('the next agent knows its pods, and undoes the ADD that the last one did not finish', async (t) => {
  const b = bench(t)
  const first = await b.start()
  await ask(first, 'ADD', 'kept')
  await ask(first, 'ADD', 'cut')
  await first.close()
  renameSync(join(b.root, 'run/attachments/cut-eth0.json'), join(b.root, 'run/attachments/cut-eth0.adding'))
  writeFileSync(join(b.root, 'run/attachments/torn-eth0.json'), '{"attachm')
  b.kernel.lines.length = 0
  b.kernel.wanted.clear()
  const second = await b.start()
  assert.deepEqual([...b.kernel.wanted.keys()], ['bridge cni0', 'pod kept eth0'])
  assert.deepEqual(
    b.kernel.lines.filter((line) => !line.startsWith('del link veth')),
    [],
    'what is in place is not touched',
  )
  assert.deepEqual(
    second.attachments().map((one) => one.containerId),
    ['kept'],
  )
  assert.deepEqual(b.files(), ['flannel/cut', 'flannel/kept', 'networks/cbr0/10.244.1.2', 'run/attachments/kept-eth0.json'])
  assert.equal((await ask(second, 'DEL', 'cut')).exit, 0)
  assert.equal((await ask(second, 'DEL', 'kept')).exit, 0)
  assert.deepEqual(b.files(), [])
})

test('the delete queue is done before the first ADD; what fails stays, what is torn goes', async (t) => {
  const b = bench(t)
  const first = await b.start()
  await ask(first, 'ADD', 'abc')
  await first.close()
  const queue = join(b.root, 'run/delete-queue')
  mkdirSync(queue)
  writeFileSync(join(queue, 'abc-eth0-flannel'), frameOf('DEL', 'abc', stock))
  writeFileSync(join(queue, 'bad-eth0-flannel'), frameOf('DEL', 'bad', { ...stock, cniVersion: '9.9.9' }))
  writeFileSync(join(queue, 'torn-eth0-flannel'), frameOf('DEL', 'torn', stock).subarray(0, 40))
  writeFileSync(join(queue, 'add-eth0-flannel'), frameOf('ADD', 'add', stock))
  writeFileSync(join(queue, '.tmp-1'), '')
  const second = await b.start()
  assert.deepEqual(second.attachments(), [])
  assert.deepEqual(b.files(), ['run/delete-queue/.tmp-1', 'run/delete-queue/bad-eth0-flannel'])
})

test('DEL finds the address without its scratch file', async (t) => {
  const b = bench(t)
  const server = await b.start()
  for (const torn of [undefined, '', '{']) {
    mkdirSync(join(b.root, 'networks/cbr0'), { recursive: true })
    mkdirSync(join(b.root, 'flannel'), { recursive: true })
    writeFileSync(join(b.root, 'networks/cbr0/10.244.1.9'), 'theirs\r\neth0')
    if (torn !== undefined) writeFileSync(join(b.root, 'flannel/theirs'), torn)
    assert.equal((await ask(server, 'DEL', 'theirs')).exit, 0)
    assert.deepEqual(b.files(), [], `scratch ${torn}`)
    assert.equal(b.kernel.lines.pop(), `del netns ${NETNS} link eth0 type veth down`, 'the pod end that Flannel made')
  }
})

test('no subnet.env, no namespace: nothing is kept', async (t) => {
  const b = bench(t)
  const server = await b.start()
  assert.match(
    failure(await ask(server, 'ADD', 'abc', stock, { CNI_NETNS: '/nonexistent' })).msg,
    /^failed to open netns "\/nonexistent": failed to Statfs/,
  )
  assert.match(failure(await ask(server, 'ADD', 'abc', stock, { CNI_NETNS: join(b.root, 'subnet.env') })).msg, /unknown FS magic/)
  rmSync(join(b.root, 'subnet.env'))
  assert.match(failure(await ask(server, 'ADD', 'abc')).msg, /^failed to load flannel 'subnet\.env' file/)
  assert.deepEqual(b.files(), [])
})

test('requests that are none', async (t) => {
  const server = await bench(t).start()
  const skewed = frameOf('ADD', 'abc', stock)
  skewed.writeUInt32BE(7, 8)
  assert.match(failure(await send(server, skewed)).msg, /speaks protocol 7, this agent 3/)
  const huge = frameOf('ADD', 'abc', stock)
  huge.writeUInt32BE(1 << 24, 16)
  assert.match(failure(await send(server, huge)).msg, /16777236 bytes, allowed are 1048576/)
  assert.match(failure(await send(server, Buffer.from('GET / HTTP/1.1\r\n\r\n'))).msg, /no request of a Twill CNI plugin/)
  const endless = frameOf('ADD', 'abc', stock).subarray(0, HEADER_BYTES + 4)
  endless.writeUInt32BE(4, 16)
  assert.match(failure(await send(server, endless)).msg, /environment of the request has no end/)
})

test('a bounded number at once, one at a time an interface', async (t) => {
  const b = bench(t)
  const server = await b.start({ concurrency: 2 })
  await ask(server, 'ADD', 'first')
  b.kernel.hold = systemClock.sleep(5)
  b.kernel.most = 0
  const answers = await Promise.all(Array.from({ length: 9 }, (_, i) => ask(server, 'ADD', `c${i}`)))
  assert.ok(answers.every((answer) => answer.exit === 0))
  assert.ok(b.kernel.most <= 2, `${b.kernel.most} at once`)
  assert.equal(new Set(server.attachments().map((one) => one.pod.addresses[0])).size, 10)
})

test('one agent a node: a live socket is left alone, a dead one replaced', async (t) => {
  const b = bench(t)
  const first = await b.start()
  await assert.rejects(b.start(), { code: 'ERR_CNI_SOCKET_BUSY' })
  assert.equal((await ask(first, 'ADD', 'abc')).exit, 0)
  await first.close()
  writeFileSync(first.socketPath, '')
  await b.start()
  assert.ok(readFileSync(join(b.root, 'run/attachments/abc-eth0.json')))
})
