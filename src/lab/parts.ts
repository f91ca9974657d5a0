/**
 * The lab's long-running programs, one process each: `node <entry> part NAME ARGUMENTS`. Started by `up`, inside a node or beside them.
 * Each is loaded only when it is the one to run.
 * @module
 */
import { readFileSync } from 'node:fs'
import { labError } from '#lab/errors.ts'

type Part = (args: readonly string[]) => Promise<void>

const parts: Readonly<Record<string, Part>> = {
  /** control-plane OPTIONS.json: API server, controllers and scheduler. */
  async 'control-plane'([options]) {
    const { runControlPlane } = await import('#lab/control/main.ts')
    const plane = await runControlPlane(JSON.parse(readFileSync(options!, 'utf8')))
    process.once('SIGTERM', () => void plane.stop().then(() => process.exit(0)))
  },
  /** internet TOPOLOGY.json: the web server and resolver behind the NAT boxes. */
  async internet([topology]) {
    const { runInternet } = await import('#lab/internet/main.ts')
    await runInternet(JSON.parse(readFileSync(topology!, 'utf8')))
  },
  /** kubelet: the stand-in for kubelet and container runtime, on a node. */
  async kubelet(args) {
    const { runKubelet } = await import('#lab/kubelet/main.ts')
    await runKubelet(args)
    process.exit(0)
  },
  /** kubectl ARGUMENTS: the little kubectl of a lab whose machine has none. */
  async kubectl(args) {
    const { miniKubectl } = await import('#lab/mini-kubectl.ts')
    process.exitCode = await miniKubectl(args)
  },
}

/** Runs one part for as long as the process lives.
 * @throws {TwillError} ERR_LAB_PART for another name. */
export async function runPart([name = '', ...args]: readonly string[]): Promise<void> {
  const part = parts[name]
  if (!part) throw labError.ERR_LAB_PART({ part: name, parts: Object.keys(parts) })
  await part(args)
}
