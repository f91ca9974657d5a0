/**
 * Expressions to a rule's text: follows what is in the registers. It need not be strict: rules.ts counts a text only if it
 * compiles to the same bytes again.
 * @module
 */
import { formatDuration } from '#base/duration.ts'
import type { NftFamily, NftRule } from '#model/kernel.ts'
import { formatCidr } from '#net/ip.ts'
import type { Expression } from '#wire/nftables/expressions.ts'
import { families, type IpFamily, metaNfproto, type Selector, selectorOf, verdictText } from '#wire/nftables/selectors.ts'
import { types } from '#wire/nftables/types.ts'

interface Loaded {
  readonly name: string
  readonly selector: Selector
  readonly register: number
  readonly mask?: Uint8Array
  readonly xor?: Uint8Array
}

/** The text of `expressions`, or undefined if Twill has no words for one of them. */
export function decompile(expressions: readonly Expression[], family: NftFamily): NftRule | undefined {
  const out: string[] = []
  let loaded: Loaded[] = []
  /** The map of a dnat, whose nat expression is to follow. */
  let map = ''
  /** Where in `out` a test of meta nfproto stands that the next use of an address may explain. */
  let guard: { readonly at: number; readonly family: IpFamily } | undefined

  const textOf = (part: readonly Loaded[]): string => part.map(({ name }) => name).join(' . ')
  const keyText = (): string => textOf(loaded)
  /** Uses up what is loaded. */
  const say = (text: string | undefined): boolean => {
    loaded = []
    if (text !== undefined) out.push(text)
    return text !== undefined
  }

  const load = (expression: Expression): boolean => {
    const found = selectorOf(expression)
    if (!found) return false
    if (guard && guard.family === found.selector.family) {
      out.splice(guard.at, 1)
      guard = undefined
    }
    loaded.push({ ...found, register: ('dreg' in expression && expression.dreg) || 0 })
    return true
  }

  const compare = (equal: boolean, data: Uint8Array): boolean => {
    const [only, ...more] = loaded
    if (!only || more.length > 0) return false
    const { name, selector, mask } = only
    const { bytes, flags, format } = types[selector.type]
    if (selector.family && !mask && data.length < bytes) {
      const whole = new Uint8Array(bytes)
      whole.set(data)
      const cidr = formatCidr({ family: bytes === 4 ? 4 : 6, bytes: whole, prefix: 8 * data.length })
      return say(`${name} ${equal ? '' : '!= '}${cidr}`)
    }
    if (data.length !== bytes) return false
    if (flags) return say(mask && `${name} ${equal ? '! ' : ''}${format(mask)}`)
    if (selector.load === metaNfproto && equal && family !== 'ip' && family !== 'ip6') {
      guard = { at: out.length, family: data[0] === families.ip.nfproto ? 'ip' : 'ip6' }
    }
    if (!mask) return say(`${name} ${equal ? '' : '!= '}${format(data)}`)
    if (!selector.family) return say(`${name} & ${format(mask)} ${equal ? '==' : '!='} ${format(data)}`)
    const prefix = mask.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
    return say(`${name} ${equal ? '' : '!= '}${formatCidr({ family: bytes === 4 ? 4 : 6, bytes: data, prefix })}`)
  }

  const one = (expression: Expression): boolean => {
    switch (expression.name) {
      case 'bitwise': {
        const [only] = loaded
        if (!only || !expression.mask) return false
        loaded = [{ ...only, mask: expression.mask, ...(expression.xor && { xor: expression.xor }) }]
        return true
      }
      case 'cmp':
        return expression.data !== undefined && compare(expression.op === 0, expression.data)
      case 'lookup': {
        const { set, dreg, flags } = expression
        if (dreg === undefined) return say(`${keyText()} ${flags ? '!= ' : ''}@${set}`)
        if (dreg === 0) return say(`${keyText()} vmap @${set}`)
        map = set ?? ''
        return true
      }
      case 'nat':
        return say(`dnat ${expression.family === families.ip.nfproto ? 'ip' : 'ip6'} to ${keyText()} map @${map}`)
      case 'dynset': {
        const data = loaded.findIndex(({ register }) => register === expression.sregData)
        const time = formatDuration(Number((expression.timeout ?? 0n) / 1000n))
        return say(`update @${expression.set} { ${textOf(loaded.slice(0, data))} timeout ${time} : ${textOf(loaded.slice(data))} }`)
      }
      case 'immediate':
        return say(expression.verdict && verdictText(expression.verdict))
      case 'masq':
        return say(expression.flags === undefined ? 'masquerade' : 'masquerade fully-random')
      case 'reject':
        return say(expression.code === undefined ? 'reject with tcp reset' : 'reject')
      case 'meta': {
        if (expression.sreg === undefined) return load(expression)
        const [only] = loaded
        return say(only?.xor && `${only.name} set ${only.name} | ${types.mark.format(only.xor)}`)
      }
      default:
        return load(expression)
    }
  }
  return expressions.every(one) ? out.join(' ') : undefined
}
