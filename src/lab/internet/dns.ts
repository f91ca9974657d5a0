/** The lab's resolver, bytes in, bytes out: A records for a handful of names, NXDOMAIN for any other. Source: RFC 1035, RFC 2308. */
import { AUTHORITATIVE_ANSWER, decode, encode, type Packet, RECURSION_AVAILABLE, RECURSION_DESIRED } from 'dns-packet'
import { internetNames } from '#lab/nodes/topology.ts'

const nameError = 3

/** The reply to a query, or undefined for what is none. */
export function answer(query: Uint8Array): Buffer | undefined {
  let packet: Packet
  try {
    packet = decode(Buffer.from(query))
  } catch {
    return undefined
  }
  const question = packet.questions?.[0]
  if (packet.type !== 'query' || !question) return undefined
  const address = internetNames[question.name.toLowerCase().replace(/\.$/, '')]
  // A known name without a record of the type asked for is an empty answer, not an error: resolvers ask A and AAAA side by side.
  const flags = (packet.flags ?? 0) & RECURSION_DESIRED
  return encode({
    type: 'response',
    id: packet.id ?? 0,
    flags: flags | RECURSION_AVAILABLE | AUTHORITATIVE_ANSWER | (address === undefined ? nameError : 0),
    questions: [question],
    answers: address !== undefined && question.type === 'A' ? [{ type: 'A', name: question.name, ttl: 30, data: address }] : [],
  })
}
