/** The mounts this process sees. Source: proc_pid_mountinfo(5). */
import { readFileSync } from 'node:fs'

export interface Mount {
  readonly target: string
  readonly type: string
  /** Options of the mount itself, such as ro or noexec. */
  readonly options: readonly string[]
  /** Options of the file system, such as a cgroup tree's controllers. */
  readonly superOptions: readonly string[]
}

/** Parses mountinfo: `36 35 98:0 /root /target options [optional fields] - type source superOptions`. */
export function parseMounts(text: string): Mount[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [left, right] = line.split(' - ') as [string, string]
      const [, , , , target, options] = left.split(' ') as [string, string, string, string, string, string]
      const [type, , superOptions] = right.split(' ') as [string, string, string]
      return { target: plainText(target), type, options: options.split(','), superOptions: superOptions.split(',') }
    })
}

export function readMounts(): Mount[] {
  return parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'))
}

/** Space, tab, newline and backslash stand as three octal digits. */
function plainText(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

const diskTypes = [
  'ext2',
  'ext3',
  'ext4',
  'xfs',
  'btrfs',
  'zfs',
  'f2fs',
  'overlay',
  'virtiofs',
  '9p',
  'nfs',
  'nfs4',
  'squashfs',
  'fuse.sshfs',
]

/**
 * Directories of the machine that an overlay over / does not show: other file systems mounted below it (a separate /usr or /home),
 * without those that a node has its own of.
 */
export function mountsBesideRoot(mounts: readonly Mount[]): string[] {
  const own = /^\/(proc|sys|dev|run|tmp|boot|media|mnt|var\/lib\/(kubelet|containerd|docker|cni))(\/|$)/
  return mounts.filter((m) => m.target !== '/' && diskTypes.includes(m.type) && !own.test(m.target)).map((m) => m.target)
}
