/**
 * The delete queue: DELs that the shim took while no agent ran, one file each, a whole request frame. They are done before
 * the first ADD, oldest first.
 * @module
 */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import type { Log } from '#base/log.ts'
import { decodeRequest, frameLength, type RawRequest } from '#cni/protocol.ts'
import type { CniAnswer } from '#model/pod.ts'

/** Carries out what is queued in `dir`. A DEL that fails stays queued.
 * @returns how many are left. */
export async function replayDeletes(dir: string, log: Log, run: (request: RawRequest) => Promise<CniAnswer>): Promise<number> {
  let left = 0
  for (const path of queued(dir)) {
    const request = readRequest(path)
    if (request === undefined) log.warn({ path }, 'dropped a torn request from the delete queue')
    else {
      const answer = await run(request)
      if (answer.exit !== 0) {
        left++
        log.error({ path, answer: answer.stdout }, 'a queued DEL failed and stays queued')
        continue
      }
    }
    rmSync(path, { force: true })
  }
  return left
}

/** Oldest first. Temporary files are still being written, or their writer died before it answered: not ours to read. */
function queued(dir: string): string[] {
  let names: string[]
  try {
    names = readdirSync(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return names
    .filter((name) => !name.startsWith('.'))
    .map((name) => ({ path: `${dir}/${name}`, at: statSync(`${dir}/${name}`).mtimeMs }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ path }) => path)
}

function readRequest(path: string): RawRequest | undefined {
  const frame = readFileSync(path)
  const header = frameLength(frame)
  if (header === undefined || 'problem' in header || header.length !== frame.length) return undefined
  const request = decodeRequest(frame)
  return request?.env.get('CNI_COMMAND') === 'DEL' ? request : undefined
}
