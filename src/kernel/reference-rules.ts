/**
 * What the reference plugins left in the node's firewall for one container: portmap's hostPorts and the bridge's ipMasq, by either
 * of their backends. Whoever deletes a pod that they attached must take these along, or its ports stay taken for the next pod.
 *
 *     iptables, table nat       chains CNI-DN-<hash>, CNI-SN-<hash>, CNI-<hash>, and the rules that jump there
 *     ip, ip6 cni_hostport      rules whose comment is the container's ID
 *     inet cni_plugins_masquerade   rules whose comment starts with the hashes of network and interface
 *
 * nf_tables (iptables-nft too) is spoken natively. The old xtables are changed by `iptables-legacy-restore`, and only on a node that
 * has loaded them. Source: containernetworking/plugins pkg/utils, plugins/meta/portmap, pkg/ip/ipmasq_nftables_linux.go.
 * @module
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { kernelError } from '#kernel/errors.ts'
import { savedPorts } from '#kernel/reference-save.ts'
import { NETLINK_NETFILTER, NetlinkSocket, type Reply } from '#kernel/socket.ts'
import type { NftFamily } from '#model/kernel.ts'
import type { ReferencePorts } from '#model/pod.ts'
import { NLM_F_ACK, type Request } from '#wire/netlink.ts'
import { decodeForeignRule, deleteRule, type ForeignRule } from '#wire/nftables/foreign.ts'
import * as nft from '#wire/nftables/messages.ts'

export interface ContainerKey {
  readonly network: string
  readonly containerId: string
  readonly ifname: string
}

interface ForeignTable {
  readonly family: NftFamily
  readonly table: string
}

const natTables: readonly ForeignTable[] = [
  { family: 'ip', table: 'nat' },
  { family: 'ip6', table: 'nat' },
]
const commentTables: readonly ForeignTable[] = [
  { family: 'ip', table: 'cni_hostport' },
  { family: 'ip6', table: 'cni_hostport' },
  { family: 'inet', table: 'cni_plugins_masquerade' },
]
const legacyTools = [
  { loaded: '/proc/net/ip_tables_names', tool: 'iptables-legacy' },
  { loaded: '/proc/net/ip6_tables_names', tool: 'ip6tables-legacy' },
] as const

const sha512 = (text: string): string => createHash('sha512').update(text).digest('hex')

/** The chains of one container: iptables takes 28 characters. */
export function chainsOf({ network, containerId }: Pick<ContainerKey, 'network' | 'containerId'>): string[] {
  const hash = sha512(network + containerId)
  return ['CNI-DN-', 'CNI-SN-', 'CNI-'].map((prefix) => `${prefix}${hash}`.slice(0, 28))
}

const isThere = (reply: Reply | undefined): boolean => (reply?.messages.length ?? 0) > 0

export class ReferenceRules {
  readonly #socket: NetlinkSocket

  /** In the caller's network namespace. */
  static open(): ReferenceRules {
    return new ReferenceRules(NetlinkSocket.open({ protocol: NETLINK_NETFILTER }))
  }

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  close(): Promise<void> {
    return this.#socket.close()
  }

  /** The hostPorts that the iptables backend's rules hold. Starts iptables-save, and only where there is such a chain.
   * @throws {TwillError} ERR_REFERENCE_RULES where that tool is missing */
  async list(): Promise<ReferencePorts[]> {
    const replies = await this.#socket.request(natTables.map(({ family, table }) => nft.getChain(family, table, 'CNI-HOSTPORT-DNAT')))
    const nftTools = replies.some(isThere) ? ['iptables-nft-save', 'ip6tables-nft-save'] : []
    const oldTools = legacyTools.filter(isLoaded).map(({ tool }) => `${tool}-save`)
    const all: ReferencePorts[] = []
    for (const tools of [nftTools, oldTools]) {
      const saved: string[] = []
      for (const tool of tools) saved.push(await run('any', tool, ['-t', 'nat']))
      all.push(...savedPorts(...saved))
    }
    return all
  }

  /** Removes what is there for `key`; nothing is a success.
   * @returns How many chains and rules it found.
   * @throws {TwillError} ERR_REFERENCE_RULES */
  async remove(key: ContainerKey): Promise<number> {
    return (await this.#removeNft(key)) + (await removeLegacy(key))
  }

  async #removeNft(key: ContainerKey): Promise<number> {
    const names = chainsOf(key)
    const chains = natTables.flatMap((table) => names.map((name) => ({ ...table, name })))
    const replies = await this.#socket.request([
      ...chains.map(({ family, table, name }) => nft.getChain(family, table, name)),
      ...commentTables.map(({ family, table }) => nft.getTable(family, table)),
    ])
    const found = chains.filter((_, i) => isThere(replies[i]))
    const tables = commentTables.filter((_, i) => isThere(replies[chains.length + i]))
    const rules = await this.#rulesOf([...natTables.filter(({ family }) => found.some((chain) => chain.family === family)), ...tables])
    const masquerade = `${sha512(key.network).slice(0, 16)}-${sha512(`${key.ifname}:${key.containerId}`).slice(0, 16)}`
    const theirs = ({ table, jumps, comment = '' }: ForeignRule): boolean =>
      table === 'nat' ? jumps.some((chain) => names.includes(chain)) : comment === key.containerId || comment.startsWith(masquerade)
    const changes: Request[] = [
      ...rules.filter(theirs).map(deleteRule),
      ...found.flatMap((chain) => [nft.flushChain(chain), nft.delChain(chain)]),
    ]
    if (changes.length > 0) await this.#commit(changes, key)
    return changes.length
  }

  async #rulesOf(tables: readonly ForeignTable[]): Promise<ForeignRule[]> {
    const rules: ForeignRule[] = []
    for (const { family, table } of tables) {
      rules.push(...(await this.#socket.dump(nft.getRules(family, table))).flatMap((message) => decodeForeignRule(message) ?? []))
    }
    return rules
  }

  async #commit(changes: readonly Request[], { containerId }: ContainerKey): Promise<void> {
    const replies = await this.#socket.request(nft.batch(changes.map((change) => ({ ...change, flags: change.flags | NLM_F_ACK }))))
    const failed = replies.find(({ errno }) => errno !== 0)
    if (failed) throw kernelError.ERR_REFERENCE_RULES({ containerId, reason: failed.message ?? `errno ${failed.errno}` })
  }
}

/** The same in xtables' own tables, where the node has them. */
async function removeLegacy(key: ContainerKey): Promise<number> {
  let removed = 0
  for (const each of legacyTools) {
    const { tool } = each
    if (!isLoaded(each)) continue
    const saved = await run(key.containerId, `${tool}-save`, ['-t', 'nat'])
    const lines = removalOf(saved, chainsOf(key))
    if (lines.length === 0) continue
    await run(key.containerId, `${tool}-restore`, ['--noflush', '--wait'], ['*nat', ...lines, 'COMMIT', ''].join('\n'))
    removed += lines.length
  }
  return removed
}

/** The lines for iptables-restore that take `chains` and what jumps to them out of a saved table. */
export function removalOf(saved: string, chains: readonly string[]): string[] {
  const lines = saved.split('\n')
  const there = chains.filter((name) => lines.some((line) => line.startsWith(`:${name} `)))
  const jumps = lines.filter((line) => line.startsWith('-A ') && there.some((name) => line.endsWith(` -j ${name}`)))
  return [...jumps.map((line) => line.replace('-A ', '-D ')), ...there.map((name) => `-F ${name}`), ...there.map((name) => `-X ${name}`)]
}

const isLoaded = ({ loaded }: (typeof legacyTools)[number]): boolean => readOrEmpty(loaded).split('\n').includes('nat')

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function run(containerId: string, file: string, argv: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(file, argv, { encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error) reject(kernelError.ERR_REFERENCE_RULES({ containerId, reason: `${file}: ${stderr.trim() || error.message}` }, error))
      else resolve(stdout)
    })
    child.stdin!.on('error', () => {}).end(input) // a tool that refuses its input says why in its exit
  })
}
