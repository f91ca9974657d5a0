/**
 * Removes a lab: by its name and its cgroup, not by what its state file remembers, so that a run which was killed
 * at any point leaves nothing that the next one does not clear.
 * @module
 */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { cgroupTrees, killCgroup, removeCgroups } from '#lab/nodes/cgroups.ts'
import { readMounts } from '#lab/nodes/mounts.ts'
import { run } from '#lab/nodes/run.ts'
import { isNetnsOf } from '#lab/nodes/topology.ts'
import { stateDir } from '#lab/state.ts'

/** Ends the lab's processes, then removes its namespaces, cgroups and files.
 * @throws {TwillError} ERR_LAB_STUCK if a process does not die. */
export async function sweep(lab: string): Promise<void> {
  const trees = cgroupTrees()
  await killCgroup(trees, lab)
  const names = existsSync('/run/netns') ? readdirSync('/run/netns').filter((name) => isNetnsOf(lab, name)) : []
  if (names.length > 0) await run(['ip', '-batch', '-'], { input: names.map((name) => `netns delete ${name}\n`).join('') })
  removeCgroups(trees, lab)
  // Mounts of a node live in its own mount namespace and went with it. One that shows here would be emptied by rm.
  const dir = stateDir(lab)
  for (const mount of readMounts()
    .filter((m) => m.target.startsWith(`${dir}/`))
    .toReversed())
    await run(['umount', '--lazy', mount.target])
  rmSync(dir, { recursive: true, force: true })
}
