/**
 * The internet behind the nodes' NAT boxes, as far as the lab needs one: a web server that tells its client's address, and a
 * resolver for the names of topology.ts. Both live in the lab's internet namespace.
 * @module
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { answer } from '#lab/internet/dns.ts'
import { internetNet, type Topology } from '#lab/nodes/topology.ts'

/** Runs until the process ends. Resolves when both servers listen. */
export async function runInternet(topology: Pick<Topology, 'nodes'>): Promise<void> {
  const owners = new Map(topology.nodes.map((node) => [node.outsideIp, `${node.name} behind its NAT`]))
  const web = createServer((request, response) => {
    const client = request.socket.remoteAddress ?? 'gone'
    response.setHeader('Content-Type', 'text/plain')
    response.end(`Hello ${client}, which is ${owners.get(client) ?? 'no node of the lab'}\n`)
  })
  web.listen(80, internetNet.web)
  const dns = createSocket('udp4', (query, from) => {
    const reply = answer(query)
    if (reply) dns.send(reply, from.port, from.address)
  })
  dns.bind(53, internetNet.dns)
  await Promise.all([once(web, 'listening'), once(dns, 'listening')])
}
