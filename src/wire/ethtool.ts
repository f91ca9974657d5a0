/**
 * Ethtool over generic netlink, as far as one feature of a device goes: what `ethtool -K DEV FEATURE on|off` does.
 *
 *     struct genlmsghdr   u8 command | u8 version | u16 reserved      then attributes, nests marked as such
 *
 * Source: linux/genetlink.h, linux/ethtool_netlink.h; Linux 5.7.
 * @module
 */
import { afterHeader, attr, attributeMap, concat, type Message, NLM_F_ACK, type Request, read } from '#wire/netlink.ts'

const GENL_HEADER = 4
const GENL_ID_CTRL = 0x10
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2

const FEATURES_SET = 12
const FEATURES = { header: 1, wanted: 3 } as const
const HEADER_DEV_NAME = 2
const BITSET_BITS = 3
const BITS_BIT = 1
const BIT = { name: 2, value: 3 } as const

const genl = (command: number, ...attributes: Uint8Array[]): Uint8Array => concat(Uint8Array.of(command, 1, 0, 0), ...attributes)

/** Asks for the number by which messages to ethtool go in this kernel. */
export const getEthtoolFamily = (): Request => ({
  type: GENL_ID_CTRL,
  flags: NLM_F_ACK,
  body: genl(CTRL_CMD_GETFAMILY, attr.string(CTRL_ATTR_FAMILY_NAME, 'ethtool')),
})

export function decodeFamily({ body }: Message): number | undefined {
  const id = attributeMap(afterHeader(body, GENL_HEADER, 'struct genlmsghdr')).get(CTRL_ATTR_FAMILY_ID)
  return id && read.u16(id)
}

/** Turns one feature, by its name in ethtool, on or off. */
export const setFeature = (family: number, dev: string, feature: string, on: boolean): Request => ({
  type: family,
  flags: NLM_F_ACK,
  body: genl(
    FEATURES_SET,
    attr.nest(FEATURES.header, attr.string(HEADER_DEV_NAME, dev)),
    attr.nest(
      FEATURES.wanted,
      attr.nest(BITSET_BITS, attr.nest(BITS_BIT, attr.string(BIT.name, feature), ...(on ? [attr.flag(BIT.value)] : []))),
    ),
  ),
})
