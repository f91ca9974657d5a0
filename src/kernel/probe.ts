/**
 * For tests: a process in a network namespace that talks for us over TCP and UDP, and hears who talks to it. A server answers with
 * its name and the address that it sees, so one answer shows both ends of what NAT did.
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface Question {
  readonly protocol: 'tcp' | 'udp'
  readonly to: string
  readonly port: number
  /** Source address; absent: as the kernel chooses. */
  readonly from?: string
  /** Source port; absent: any. */
  readonly fromPort?: number
  /** Address of the device by which multicast leaves. */
  readonly multicast?: string
}

const PATIENCE_MS = 1500

/** Runs in the child: one JSON command a line in, one JSON answer a line out. */
const program = `
const net = require('node:net'), dgram = require('node:dgram')
const kind = (address) => address.includes(':') ? 'udp6' : 'udp4'
const plain = (address) => address.replace('::ffff:', '')
const listen = ({ name, port, groups, udp }) => Promise.all([
  new Promise((done) => net.createServer((socket) => socket.on('error', () => {}).end(name + ' ' + plain(socket.remoteAddress))).listen(port, '::', done)),
  ...udp.map((address) => new Promise((done) => {
    const type = kind(address)
    const socket = dgram.createSocket({ type, ipv6Only: type === 'udp6' })
    socket.on('message', (_, from) => socket.send(name + ' ' + from.address, from.port, from.address))
    socket.bind(port, address, () => { for (const [group, via] of groups) if (kind(group) === type) socket.addMembership(group, via); done() })
  })),
]).then(() => 'listening')
const ask = ({ protocol, to, port, from, fromPort = 0, multicast }) => new Promise((done) => {
  if (protocol === 'tcp') {
    setTimeout(done, ${PATIENCE_MS}, 'silence').unref()
    const failed = (error) => done(error.code)
    let text = ''
    const socket = net.connect({ host: to, port, localAddress: from, localPort: fromPort }).on('error', failed)
    socket.on('data', (data) => { text += data }).on('end', () => done(text))
    return
  }
  const socket = dgram.createSocket(kind(to))
  let open = true
  const end = (answer) => { done(answer); if (open) socket.close(); open = false }
  setTimeout(end, ${PATIENCE_MS}, 'silence').unref()
  socket.on('error', (error) => end(error.code)).on('message', (text) => end(String(text)))
  socket.bind(fromPort, from, () => {
    if (multicast) { socket.setMulticastInterface(multicast); socket.send('?', port, to); return }
    socket.connect(port, to, (error) => error ? end(error.code) : socket.send('?', (lost) => lost && end(lost.code)))
  })
})
require('node:readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line)
  console.log(JSON.stringify({ id: command.id, answer: await (command.do === 'listen' ? listen(command) : ask(command)) }))
}).on('close', () => process.exit())
`

export class Probe {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: string) => void>()
  #id = 0

  /** In the namespace at `path`, or in the caller's own. */
  constructor(path?: string) {
    const node = [process.execPath, '-e', program]
    const [command, ...args] = path === undefined ? node : ['nsenter', `--net=${path}`, ...node]
    this.#child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const { id, answer } = JSON.parse(line) as { id: number; answer: string }
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    })
    this.#child.on('exit', () => {
      for (const resolve of this.#waiting.values()) resolve('the probe died')
    })
  }

  /** Serves TCP and UDP on `port`, both families.
   * @param groups  To join, each with the address (IPv4) or zone (IPv6) of the device to join on.
   * @param udp  Addresses to serve UDP on: a host with several answers from any of them otherwise. */
  listen(
    name: string,
    port: number,
    { groups = [], udp = ['0.0.0.0', '::'] }: { groups?: readonly (readonly [string, string])[]; udp?: readonly string[] } = {},
  ): Promise<string> {
    return this.#call({ do: 'listen', name, port, groups, udp })
  }

  /** `NAME ADDRESS` of who answered and the address that it saw; an error code such as ECONNREFUSED; or 'silence'. */
  ask(question: Question): Promise<string> {
    return this.#call({ do: 'ask', ...question })
  }

  #call(command: object): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting.set(++this.#id, resolve)
      this.#child.stdin!.write(`${JSON.stringify({ ...command, id: this.#id })}\n`)
    })
  }

  close(): void {
    this.#child.stdin!.end()
  }
}
