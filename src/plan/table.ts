/** Our one nftables table. Both families live in it; masquerade, services and what is to come share it. */
import type { NftChainItem, NftTableItem } from '#model/kernel.ts'

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
