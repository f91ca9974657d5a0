/** What can be wrong with bytes. @module */
import { errorTable } from '#base/errors.ts'

export const wireError = errorTable({
  ERR_MESSAGE_TRUNCATED: {
    text: (d: { what: string; offset: number; need: number; have: number }) =>
      `Cannot decode ${d.what} at byte ${d.offset}: it needs ${d.need} bytes and ${d.have} are left`,
    remedy: 'The sender speaks another layout or the message was cut. Report it with the kernel version (uname -r).',
  },
  ERR_FIELD_TOO_LONG: {
    text: (d: { what: string; length: number; max: number }) =>
      `Cannot encode ${d.what}: it is ${d.length} bytes long, at most ${d.max} fit`,
    remedy: 'Shorten the value: an interface name holds 15 bytes, a netlink attribute 65,531.',
  },
  ERR_NFT_RULE: {
    text: (d: { rule: string; problem: string }) => `Cannot compile the nftables rule "${d.rule}": ${d.problem}`,
    remedy: 'Rules are written in the subset of nft that src/wire/nftables/rules.ts lists, in the form in which `nft list` prints them.',
  },
  ERR_NFT_VALUE: {
    text: (d: { type: string; found: string }) => `Cannot encode "${d.found}" as the nftables type ${d.type}`,
    remedy: 'Give one value for each part of the type, in the form in which `nft list` prints it.',
  },
})
