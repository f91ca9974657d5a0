/**
 * For tests: a network card between two devices of this namespace that carries frames both ways, and forgets one thing. What leaves by
 * the first device's side with the checksum of its *inner* packet left to the card (in a vxlan tunnel) gets none. All else passes as it
 * is, with what is still to be done to it (checksum, segmentation) noted in its virtio_net_hdr.
 *
 *     node broken-card.ts DEV OTHER     carries until killed; says "ready" first
 *
 * Source: packet(7) PACKET_VNET_HDR, linux/virtio_net.h.
 * @module
 */

import { sys } from '#kernel/ffi.ts'
import { openLinux } from '#kernel/linux.ts'
import { poller } from '#kernel/poller.ts'
import { packetSocket } from '#kernel/probing.ts'

const SOL_PACKET = 263
const PACKET_VNET_HDR = 15
const ETH_P_ALL = 3
/** struct virtio_net_hdr: u8 flags | u8 gso_type | u16 hdr_len | u16 gso_size | u16 csum_start | u16 csum_offset */
const VNET_HDR = 10
const NEEDS_CSUM = 1
/** Ethernet and IPv4 without options: where the outer UDP header begins. */
const OUTER_UDP = 34

const kernel = await openLinux()
const { links } = await kernel.host()
await kernel.close()

const open = (dev: string): number => {
  const fd = packetSocket(links.find(({ name }) => name === dev)!.index, ETH_P_ALL)
  sys.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, new Uint8Array(Int32Array.of(1).buffer))
  return fd
}

/** Carries what has come to `from` over to `to`. */
function carry(from: number, to: number, forgets: boolean): void {
  const frame = new Uint8Array(VNET_HDR + 70_000)
  const view = new DataView(frame.buffer)
  for (let length = sys.recvNow(from, frame); length > 0; length = sys.recvNow(from, frame)) {
    const inner = (frame[0]! & NEEDS_CSUM) !== 0 && view.getUint16(6, true) > OUTER_UDP + 8
    const tunnel = view.getUint16(VNET_HDR + OUTER_UDP + 2) === 8472
    if (forgets && inner && tunnel) frame.fill(0, 0, VNET_HDR)
    try {
      sys.send(to, frame.subarray(0, length))
    } catch {} // a card drops what it cannot carry
  }
}

const [dev, other] = process.argv.slice(2)
const [a, b] = [open(dev!), open(other!)]
poller.add(a, () => carry(a, b, true))
poller.add(b, () => carry(b, a, false))
console.log('ready')
