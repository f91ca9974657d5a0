/** Checksum offload of a device: on, the device fills in checksums of what it sends; off, the kernel does before. @module */
import { kernelError } from '#kernel/errors.ts'
import { errnoName } from '#kernel/ffi.ts'
import { NETLINK_GENERIC, NetlinkSocket } from '#kernel/socket.ts'
import { decodeFamily, getEthtoolFamily, setFeature } from '#wire/ethtool.ts'

const FEATURE = 'tx-checksum-ip-generic'

/** @throws {TwillError} ERR_OFFLOAD */
export async function setChecksumOffload(dev: string, on: boolean): Promise<void> {
  const socket = NetlinkSocket.open({ protocol: NETLINK_GENERIC })
  try {
    const [reply] = await socket.request([getEthtoolFamily()])
    const family = reply!.messages[0] && decodeFamily(reply!.messages[0])
    if (family === undefined) throw kernelError.ERR_OFFLOAD({ dev, reason: 'this kernel has no ethtool over netlink' })
    const [done] = await socket.request([setFeature(family, dev, FEATURE, on)])
    if (done!.errno !== 0) throw kernelError.ERR_OFFLOAD({ dev, reason: done!.message ?? errnoName(done!.errno) })
  } finally {
    await socket.close()
  }
}
