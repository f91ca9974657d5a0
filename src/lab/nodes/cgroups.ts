/**
 * The lab's cgroup directories: one a node, in the cgroup2 tree and, where the machine has version 1 trees too, in each of
 * those a kubelet wants. Everything the lab starts lives below `<tree>/twill-lab-<lab>`, which is how a lab whose state
 * was lost is still found and ended whole.
 *
 *     <tree>/twill-lab-<lab>/<node>/system      the node's pid 1 and its daemons (pods get directories beside `system`)
 * @module
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { labError } from '#lab/errors.ts'
import { type Mount, readMounts } from '#lab/nodes/mounts.ts'
import { until } from '#lab/nodes/until.ts'

/** Version 1 controllers that a kubelet and runc write to. */
const kubeletControllers = ['cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'freezer', 'devices', 'blkio', 'name=systemd']

export interface CgroupTrees {
  /** Where the cgroup2 tree is mounted: /sys/fs/cgroup (unified) or /sys/fs/cgroup/unified (hybrid). */
  readonly v2: string
  /** Mount points of the version 1 trees with a controller a kubelet wants; none on a unified machine. */
  readonly v1: readonly string[]
}

/** @throws {TwillError} ERR_LAB_CGROUP if there is no cgroup2 tree. */
export function cgroupTrees(mounts: readonly Mount[] = readMounts()): CgroupTrees {
  const v2 = mounts.find((m) => m.type === 'cgroup2')
  if (!v2) throw labError.ERR_LAB_CGROUP({})
  const v1 = mounts.filter((m) => m.type === 'cgroup' && m.superOptions.some((o) => kubeletControllers.includes(o)))
  return { v2: v2.target, v1: [...new Set(v1.map((m) => m.target))] }
}

export const labCgroup = (lab: string): string => `twill-lab-${lab}`

/** Makes `<tree>/<lab>/<owner>/system` in every tree and returns the cgroup.procs files that a process of `owner` joins. */
export function makeCgroup(trees: CgroupTrees, lab: string, owner: string): string[] {
  return [trees.v2, ...trees.v1].map((tree) => {
    const steps = [`${tree}/${labCgroup(lab)}`, `${tree}/${labCgroup(lab)}/${owner}`, `${tree}/${labCgroup(lab)}/${owner}/system`]
    for (const step of steps) {
      mkdirSync(step, { recursive: true })
      if (tree !== trees.v2) fillCpuset(step)
    }
    return `${steps.at(-1)}/cgroup.procs`
  })
}

/** A new version 1 cpuset is empty and takes no process: it gets its parent's processors and memory. */
function fillCpuset(dir: string): void {
  if (!existsSync(`${dir}/cpuset.cpus`)) return
  for (const file of ['cpuset.cpus', 'cpuset.mems']) writeFileSync(`${dir}/${file}`, readFileSync(`${dir}/../${file}`))
}

/** Kills every process of the lab at once (cgroup.kill, Linux 5.14) and returns when none is left.
 * @throws {TwillError} ERR_LAB_STUCK after 10 s. */
export async function killCgroup(trees: CgroupTrees, lab: string): Promise<void> {
  const dir = `${trees.v2}/${labCgroup(lab)}`
  if (!existsSync(dir)) return
  writeFileSync(`${dir}/cgroup.kill`, '1')
  const empty = (): boolean => /^populated 0$/m.test(readFileSync(`${dir}/cgroup.events`, 'utf8'))
  if (!(await until(empty, { everyMs: 5, deadlineMs: 10_000 }))) {
    const pids = procsBelow(dir)
    throw labError.ERR_LAB_STUCK({ lab, what: `process ${pids.join(', ')}` })
  }
}

/** Removes the lab's directories from every tree; there must be no process in them. */
export function removeCgroups(trees: CgroupTrees, lab: string): void {
  for (const tree of [trees.v2, ...trees.v1]) removeTree(`${tree}/${labCgroup(lab)}`)
}

function removeTree(dir: string): void {
  if (!existsSync(dir)) return
  for (const child of subdirectories(dir)) removeTree(`${dir}/${child}`)
  rmdirSync(dir)
}

function procsBelow(dir: string): number[] {
  const here = readFileSync(`${dir}/cgroup.procs`, 'utf8').split('\n').filter(Boolean).map(Number)
  return [...here, ...subdirectories(dir).flatMap((child) => procsBelow(`${dir}/${child}`))]
}

function subdirectories(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
}
