/**
 * What our nf_tables tables hold, as far as dumps and notifications have told: the types of maps, which are needed to read
 * elements, and the rules of chains, since the kernel reports rules one by one and an item is a whole chain.
 *
 * The kernel reports a transaction as single changes, then NEWGEN, which names the process. So changes wait for NEWGEN, and
 * those of one key become one. Notifications that are older than the last dump do no harm: rules go by handle, and what such
 * a message undoes, a later one does again.
 * @module
 */
import { type Change, type Culprit, type Item, keyOf, type NftChainItem, type NftFamily, type NftMapItem } from '#model/kernel.ts'
import type { Message } from '#wire/netlink.ts'
import { elementItems } from '#wire/nftables/elements.ts'
import { type DecodedRule, decodeNft, type NftMessage } from '#wire/nftables/messages.ts'

interface Chain {
  readonly item: NftChainItem
  readonly rules: DecodedRule[]
}

export interface Table {
  readonly family: NftFamily
  readonly table: string
}

const objectKey = (family: NftFamily, table: string, name: string): string => `${family} ${table} ${name}`

export class NftMirror {
  #tables = new Set<string>()
  #maps = new Map<string, NftMapItem>()
  #chains = new Map<string, Chain>()
  /** Changes of the transaction whose NEWGEN is still to come. */
  #pending: NftMessage[] = []

  /** Forgets everything; from now on `tables` are ours. Notifications waiting for their NEWGEN stay. */
  reset(tables: readonly Table[]): void {
    this.#tables = new Set(tables.map(({ family, table }) => `${family} ${table}`))
    this.#maps.clear()
    this.#chains.clear()
  }

  map({ family, table }: Table, name: string): NftMapItem | undefined {
    return this.#maps.get(objectKey(family, table, name))
  }

  /** The chain with its rules as last seen. */
  chain({ family, table }: Table, name: string): NftChainItem | undefined {
    const chain = this.#chains.get(objectKey(family, table, name))
    return chain && { ...chain.item, rules: chain.rules.map(({ text }) => text) }
  }

  maps(): NftMapItem[] {
    return [...this.#maps.values()]
  }

  chains(): NftChainItem[] {
    return [...this.#chains.values()].map(({ item }) => this.chain(item, item.name)!)
  }

  /** Reads a message that concerns one of our tables; undefined for any other. */
  decode(message: Message): NftMessage | undefined {
    const ours = (family: NftFamily, table: string): boolean => this.#tables.has(`${family} ${table}`)
    return decodeNft(message, ours, (family, table, name) => this.map({ family, table }, name))
  }

  /** Follows one change. */
  note(message: NftMessage): void {
    switch (message.kind) {
      case 'table':
        if (message.deleted) this.#dropTable(message.item)
        return
      case 'set': {
        const { family, table, name } = message.item
        if (message.deleted) this.#maps.delete(objectKey(family, table, name))
        else this.#maps.set(objectKey(family, table, name), message.item)
        return
      }
      case 'chain': {
        const { family, table, name } = message.item
        const key = objectKey(family, table, name)
        if (message.deleted) this.#chains.delete(key)
        else this.#chains.set(key, { item: message.item, rules: this.#chains.get(key)?.rules ?? [] })
        return
      }
      case 'rule':
        this.#noteRule(message)
    }
  }

  /** Takes a notification; at the end of a transaction gives what it changed. */
  changes(message: Message): Change[] {
    const decoded = this.decode(message)
    if (!decoded) return []
    if (decoded.kind !== 'generation') {
      this.note(decoded)
      this.#pending.push(decoded)
      return []
    }
    const pending = this.#pending
    this.#pending = []
    return this.#collapse(pending, { process: decoded.process, pid: decoded.pid })
  }

  #dropTable({ family, table }: Table): void {
    const ofTable = (item: Table): boolean => item.family === family && item.table === table
    for (const [key, item] of this.#maps) if (ofTable(item)) this.#maps.delete(key)
    for (const [key, { item }] of this.#chains) if (ofTable(item)) this.#chains.delete(key)
  }

  #noteRule({ family, table, chain: name, deleted, rule }: NftMessage & { kind: 'rule' }): void {
    const chain = this.#chains.get(objectKey(family, table, name))
    if (!chain) return
    const at = chain.rules.findIndex(({ handle }) => handle === rule.handle)
    if (deleted) {
      if (at >= 0) chain.rules.splice(at, 1)
    } else if (at >= 0) chain.rules[at] = rule
    else if (rule.last) chain.rules.push(rule)
    else chain.rules.unshift(rule)
  }

  /** One change a key, the last one. */
  #collapse(messages: readonly NftMessage[], by: Culprit): Change[] {
    const out = new Map<string, Change>()
    const set = (deleted: boolean, item: Item): void => {
      out.delete(keyOf(item))
      out.set(keyOf(item), { verb: deleted ? 'del' : 'put', item, by })
    }
    let overrun = false
    for (let i = 0; i < messages.length; i++) {
      const message = messages[i]!
      switch (message.kind) {
        case 'table':
        case 'set':
          set(message.deleted, message.item)
          // What was in it is gone without a word.
          overrun ||= message.deleted
          break
        case 'chain':
        case 'rule': {
          const at = message.kind === 'chain' ? message.item : message
          const name = message.kind === 'chain' ? message.item.name : message.chain
          const chain = this.chain(at, name)
          if (chain) set(false, chain)
          else if (message.kind === 'chain') set(true, message.item)
          break
        }
        case 'elements': {
          // Halves of an interval come as elements of their own, so a run of elements is read as one.
          const elements = [...message.elements]
          for (let next = messages[i + 1]; next?.kind === 'elements' && sameRun(message, next); next = messages[i + 1]) {
            elements.push(...next.elements)
            i++
          }
          const map = this.map(message, message.map)
          for (const item of map && !map.dynamic ? elementItems(map, elements) : []) set(message.deleted, item)
        }
      }
    }
    return overrun ? [...out.values(), { verb: 'overrun' }] : [...out.values()]
  }
}

type Elements = NftMessage & { kind: 'elements' }
const sameRun = (a: Elements, b: Elements): boolean =>
  a.deleted === b.deleted && a.map === b.map && a.table === b.table && a.family === b.family
