/**
 * The module br_netfilter, which Kubernetes asks of every node: packets between two ports of a bridge meet nftables too, so a service also
 * answers a pod on its endpoint's own node. Many machines have it as a module that nobody has loaded yet.
 * @module
 */
import { existsSync, writeFileSync } from 'node:fs'
import { tryRun } from '#lab/nodes/run.ts'

const DIRECTORY = '/proc/sys/net/bridge'
const tables = ['iptables', 'ip6tables', 'arptables']

/** Loads the module for the lab's nodes, each of which switches it on for itself. The machine's own bridges stay as they were without it.
 * Where it cannot be had the lab goes on: `twill status` in the lab says what does not work. */
export async function loadBridgeFilter(): Promise<void> {
  if (existsSync(DIRECTORY)) return
  await tryRun(['modprobe', 'br_netfilter']).catch(() => {}) // a kernel without modules has no modprobe either
  for (const table of existsSync(DIRECTORY) ? tables : []) writeFileSync(`${DIRECTORY}/bridge-nf-call-${table}`, '0')
}
