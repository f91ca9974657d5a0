/**
 * Routing policy rules: RTM_*RULE, decoded only. Twill makes none; it must know when others' send packets past the main table.
 *
 *     struct fib_rule_hdr   u8 family | u8 dst length | u8 src length | u8 tos | u8 table | u8 ×2 reserved | u8 action | u32 flags
 *
 * Source: linux/fib_rules.h.
 * @module
 */
import { formatIp } from '#net/ip.ts'
import { afterHeader, attributeMap, type Message, type Request, read } from '#wire/netlink.ts'
import { AF_INET, AF_INET6, RTM_GETRULE } from '#wire/rtnetlink/constants.ts'

const HEADER = 12
const FRA = { DST: 1, SRC: 2, IIFNAME: 3, PRIORITY: 6, FWMARK: 10, TABLE: 15, FWMASK: 16, OIFNAME: 17 } as const

export interface Rule {
  readonly priority: number
  readonly table: number
  /** CIDRs; absent means all. */
  readonly src?: string
  readonly dst?: string
  readonly iif?: string
  readonly oif?: string
  readonly fwmark?: number
  readonly fwmask?: number
}

/** Lists the rules of one family. */
export function dumpRules(family: 4 | 6): Request {
  const body = new Uint8Array(HEADER)
  body[0] = family === 4 ? AF_INET : AF_INET6
  return { type: RTM_GETRULE, flags: 0, body }
}

/** Decodes an RTM_NEWRULE. @throws {TwillError} ERR_MESSAGE_TRUNCATED */
export function decodeRule({ body }: Message): Rule {
  const found = attributeMap(afterHeader(body, HEADER, 'a rule message'))
  const number = (type: number): number | undefined => {
    const payload = found.get(type)
    return payload && read.u32(payload)
  }
  const src = found.get(FRA.SRC)
  const dst = found.get(FRA.DST)
  const iif = found.get(FRA.IIFNAME)
  const oif = found.get(FRA.OIFNAME)
  const fwmark = number(FRA.FWMARK)
  const fwmask = number(FRA.FWMASK)
  return {
    priority: number(FRA.PRIORITY) ?? 0,
    table: number(FRA.TABLE) ?? read.u8(body, 4),
    ...(src && { src: `${formatIp(src)}/${read.u8(body, 2)}` }),
    ...(dst && { dst: `${formatIp(dst)}/${read.u8(body, 1)}` }),
    ...(iif && { iif: read.string(iif) }),
    ...(oif && { oif: read.string(oif) }),
    ...(fwmark !== undefined && { fwmark }),
    ...(fwmask !== undefined && { fwmask }),
  }
}
