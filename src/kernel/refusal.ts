/** From an errno and the kernel's own words to an error that says what to do. @module */
import type { TwillError } from '#base/errors.ts'
import { kernelError } from '#kernel/errors.ts'
import { errnoName } from '#kernel/ffi.ts'
import { ENOBUFS } from '#kernel/socket.ts'
import { type Item, type Op, showOp } from '#model/kernel.ts'
import type { Ack } from '#wire/netlink.ts'

export const EPERM = 1
const EACCES = 13
export const EEXIST = 17
const ENODEV = 19
const EINVAL = 22
const EOPNOTSUPP = 95
const ENETDOWN = 100
const ENETUNREACH = 101
const EHOSTUNREACH = 113
/** What the kernel says of a `del` when nothing is there: ENOENT (neighbor, FDB), ESRCH (route), ENXIO, ENODEV, EADDRNOTAVAIL. */
const ABSENT: ReadonlySet<number> = new Set([2, 3, 6, ENODEV, 99])

/** The error of `op`, given the kernel's answer; undefined if it took it, or there was nothing to delete. */
export function refusalOf(op: Op, { errno, message = '' }: Ack): TwillError | undefined {
  if (errno === 0 || (op.verb === 'del' && ABSENT.has(errno))) return undefined
  const { item } = op
  const text = showOp(op)
  switch (errno) {
    case EPERM:
    case EACCES:
      return kernelError.ERR_NOT_PERMITTED({ op: text })
    case ENOBUFS:
      return kernelError.ERR_ACK_LOST({ op: text })
    case EEXIST:
      return kernelError.ERR_NAME_TAKEN({ op: text })
    case ENODEV:
      return kernelError.ERR_DEVICE_MISSING({ op: text, dev: deviceOf(item) })
    case ENETDOWN:
      return kernelError.ERR_DEVICE_DOWN({ op: text, dev: deviceOf(item) })
    case EOPNOTSUPP:
      if (item.kind === 'link' && message === 'Unknown device type') return kernelError.ERR_FEATURE_MISSING({ op: text, module: item.type })
      break
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EINVAL:
      // IPv4 says ENETUNREACH, IPv6 EHOSTUNREACH or, before 6.x, EINVAL: all with a gateway in the request.
      if (item.kind === 'route' && item.via !== undefined && (errno !== EINVAL || /gateway/i.test(message))) {
        return kernelError.ERR_GATEWAY_UNREACHABLE({ op: text, via: item.via })
      }
      break
  }
  return kernelError.ERR_KERNEL_REFUSED({ op: text, code: errnoName(errno), reason: message })
}

/** The device that an item cannot do without. */
function deviceOf(item: Item): string {
  if (item.kind === 'link') return item.vxlan?.uplink ?? item.name
  return 'dev' in item ? (item.dev ?? '') : ''
}
