/** Our one nftables table. Both families live in it; masquerade, services and what is to come share it. */
import type { NftChainItem, NftElementItem, NftMapItem, NftTableItem } from '#model/kernel.ts'
import type { Family } from '#net/ip.ts'

export const twillTable = { family: 'inet', table: 'twill' } as const

export const tableItem: NftTableItem = { kind: 'nft-table', ...twillTable }

/** A chain of our table; `base` if packets enter it. */
export const chain = (name: string, rules: readonly string[], base?: NftChainItem['base']): NftChainItem => ({
  kind: 'nft-chain',
  ...twillTable,
  name,
  ...(base && { base }),
  rules,
})

/** The two families as our objects' names, nft's rules and its types have them. */
export const families = [
  { suffix: 'ipv4', ip: 'ip', address: 'ipv4_addr' },
  { suffix: 'ipv6', ip: 'ip6', address: 'ipv6_addr' },
] as const
export const suffixOf = (family: Family): 'ipv4' | 'ipv6' => (family === 4 ? 'ipv4' : 'ipv6')

export const map = (name: string, key: NftMapItem['key'], value?: NftMapItem['value']): NftMapItem => ({
  kind: 'nft-map',
  ...twillTable,
  name,
  key,
  ...(value && { value }),
})

export const element = (name: string, key: readonly string[], value?: readonly string[]): NftElementItem => ({
  kind: 'nft-element',
  ...twillTable,
  map: name,
  key,
  ...(value && { value }),
})
