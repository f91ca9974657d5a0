/**
 * The programs of the machine that a lab starts, named all at once before it builds anything. tools/setup.sh installs them for `make lab`;
 * whoever runs `twill lab up` by itself is told here.
 * @module
 */
import { onPath } from '#lab/kubectl.ts'

/** Program, and the Debian package that brings it. */
export const needs: readonly (readonly [program: string, debianPackage: string])[] = [
  ['ip', 'iproute2'],
  ['bridge', 'iproute2'],
  ['nft', 'nftables'],
  ['tcpdump', 'tcpdump'],
  ['ping', 'iputils-ping'],
  ['ps', 'procps'],
  ['sysctl', 'procps'],
  ['openssl', 'openssl'],
  ['curl', 'curl'],
  ['nsenter', 'util-linux'],
  ['unshare', 'util-linux'],
  ['mount', 'mount'],
  ['script', 'bsdutils'],
]

/** Those of them that are not on PATH, and the packages to install; undefined if all are there. */
export function lacking(
  env: Readonly<Record<string, string | undefined>> = process.env,
): { missing: string[]; packages: string[] } | undefined {
  const all = needs.filter(([program]) => onPath(program, env) === undefined)
  if (all.length === 0) return undefined
  return { missing: all.map(([program]) => program), packages: [...new Set(all.map(([, debianPackage]) => debianPackage))] }
}
