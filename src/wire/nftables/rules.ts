/**
 * Rules: nft's text to expressions and back. The text is canonical: just what `nft list` prints for these expressions.
 * A rule is matches, then at most one statement, then perhaps a comment. The subset that Twill uses:
 *
 *     match      SELECTOR [!=] VALUE
 *                ct state|status [!] BIT[,BIT]…           any of them is set (none is)
 *                ip|ip6 saddr|daddr [!=] ADDRESS|CIDR
 *                meta mark & MASK ==|!= VALUE
 *                SELECTOR [. SELECTOR]… [!=] @SET
 *     selector   meta mark, meta l4proto, meta nfproto, iifname, oifname, ip saddr, ip daddr, ip6 saddr, ip6 daddr, th sport,
 *                th dport, ct state, ct status, ct mark, ct original ip|ip6 saddr|daddr, ct original proto-dst,
 *                ct reply proto-src, fib saddr|daddr type,
 *                numgen random mod N
 *     statement  accept, drop, return, jump CHAIN, goto CHAIN, masquerade [fully-random],
 *                SELECTOR [. SELECTOR]… vmap @MAP, reject (ICMP port unreachable), reject with tcp reset,
 *                dnat ip|ip6 to SELECTOR [. SELECTOR]… map @MAP      (the map's values are address . port)
 *                meta mark set meta mark | BITS
 *                update @MAP { SELECTOR [. SELECTOR]… timeout TIME : SELECTOR [. SELECTOR]… }
 *     comment    comment "TEXT"
 *
 * In an inet table `ip saddr` needs to know that the packet is IPv4: a test of meta nfproto goes before it, once a rule, and is
 * not in the text. Everything else is refused by name.
 * @module
 */

import { TwillError } from '#base/errors.ts'
import type { NftFamily, NftRule } from '#model/kernel.ts'
import { wireError } from '#wire/errors.ts'
import { concat, read } from '#wire/netlink.ts'
import { compile } from '#wire/nftables/compile.ts'
import { decompile } from '#wire/nftables/decompile.ts'
import { decodeExpressions, encodeExpressions } from '#wire/nftables/expressions.ts'

/** A rule as the kernel keeps it: what NFTA_RULE_EXPRESSIONS and NFTA_RULE_USERDATA hold. */
export interface RuleBytes {
  readonly expressions: Uint8Array
  readonly userdata?: Uint8Array
}

/** NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_TABLE_COMMENT of libnftnl. */
const COMMENT = 0
/** The length byte of user data counts the text and its NUL; nft takes no more than this. */
const MAX_COMMENT_BYTES = 128

/** Compiles `rule` for a table of `family`.
 * @throws {TwillError} ERR_NFT_VALUE; ERR_NFT_RULE naming the word that is not understood, or the canonical text if `rule` is not it. */
export function compileRule(rule: NftRule, family: NftFamily): RuleBytes {
  const bytes = bytesOf(rule, family)
  const canonical = textOf(bytes, family)
  if (canonical !== rule) throw wireError.ERR_NFT_RULE({ rule, problem: `it reads back as: ${canonical ?? 'nothing'}` })
  return bytes
}

/** The text of a rule read from the kernel. A rule that is none of ours gives `# foreign: …`, which equals no text of ours:
 * the text counts only if it compiles to these very bytes again. */
export function decompileRule(bytes: RuleBytes, family: NftFamily): NftRule {
  try {
    const text = textOf(bytes, family)
    if (text !== undefined && same(bytesOf(text, family), bytes)) return text
  } catch (error) {
    if (!(error instanceof TwillError)) throw error
  }
  return `# foreign: ${bytes.expressions.toHex()}`
}

function bytesOf(rule: NftRule, family: NftFamily): RuleBytes {
  const { expressions, comment } = compile(rule, family)
  return { expressions: encodeExpressions(expressions), ...(comment !== undefined && { userdata: encodeComment(comment) }) }
}

function textOf({ expressions, userdata }: RuleBytes, family: NftFamily): NftRule | undefined {
  const decoded = decodeExpressions(expressions)
  const text = decoded && decompile(decoded, family)
  const comment = userdata && decodeComment(userdata)
  return comment === undefined ? text : `${text} comment "${comment}"`
}

const same = (a: RuleBytes, b: RuleBytes): boolean =>
  a.expressions.toHex() === b.expressions.toHex() && a.userdata?.toHex() === b.userdata?.toHex()

/** User data that holds a comment: u8 type | u8 length | text with its NUL.
 * @throws {TwillError} ERR_FIELD_TOO_LONG */
export function encodeComment(comment: string): Uint8Array {
  const text = new TextEncoder().encode(`${comment}\0`)
  if (text.length > MAX_COMMENT_BYTES)
    throw wireError.ERR_FIELD_TOO_LONG({ what: 'a comment', length: text.length - 1, max: MAX_COMMENT_BYTES - 1 })
  return concat(Uint8Array.of(COMMENT, text.length), text)
}

/** The comment among the fields of user data, if there is one. */
export function decodeComment(userdata: Uint8Array): string | undefined {
  for (let at = 0; at + 2 <= userdata.length; at += 2 + userdata[at + 1]!)
    if (userdata[at] === COMMENT) return read.string(userdata.subarray(at + 2, at + 2 + userdata[at + 1]!))
  return undefined
}
