/**
 * What a container's process may do: the capabilities containerd gives by default, more and fewer by securityContext.
 * Source: linux/capability.h (numbers); containerd's oci.DefaultUnixCaps.
 * @module
 */
import type { Container, Pod } from '#lab/kubelet/types.ts'

const names = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE'],
  ...['NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT'],
  ...['SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE'],
  ...['AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ'],
  ...['PERFMON', 'BPF', 'CHECKPOINT_RESTORE'],
]
const byDefault = [
  ...['CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP'],
  ...['NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL', 'AUDIT_WRITE'],
]
const all = (1n << BigInt(names.length)) - 1n

const bit = (name: string): bigint => {
  const at = names.indexOf(name.toUpperCase().replace(/^CAP_/, ''))
  if (at < 0) throw new Error(`securityContext.capabilities: there is no capability ${name}`)
  return 1n << BigInt(at)
}

/** The capability set as hexadecimal, as /proc/<pid>/status shows it. */
export function capabilitiesOf(container: Container): string {
  const { privileged, capabilities } = container.securityContext ?? {}
  if (privileged) return all.toString(16)
  const has = (list: readonly string[] | undefined, word: string): boolean => list?.some((name) => name.toUpperCase() === word) === true
  let set = has(capabilities?.drop, 'ALL') ? 0n : byDefault.map(bit).reduce((a, b) => a | b)
  if (has(capabilities?.add, 'ALL')) set = all
  for (const name of capabilities?.drop ?? []) if (name.toUpperCase() !== 'ALL') set &= ~bit(name)
  for (const name of capabilities?.add ?? []) if (name.toUpperCase() !== 'ALL') set |= bit(name)
  return set.toString(16)
}

/** Options of podrun (run, exec) for who the process is and what it may do. */
export function identityOptions(pod: Pod, container: Container): string[] {
  const uid = container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser ?? 0
  const gid = container.securityContext?.runAsGroup ?? pod.spec.securityContext?.runAsGroup ?? 0
  return ['--uid', String(uid), '--gid', String(gid), '--caps', capabilitiesOf(container)]
}
