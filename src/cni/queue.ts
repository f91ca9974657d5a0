/**
 * The delete queue: DELs that the shim took while no agent ran, one file each, a whole request frame. They are done before
 * the first ADD, oldest first.
 * @module
 */
import { readFileSync, rmSync, statSync } from 'node:fs'
import type { Log } from '#base/log.ts'
import { decodeRequest, frameLength, type RawRequest } from '#cni/protocol.ts'
import { sweepHalfWritten, wholeFiles } from '#cni/whole-file.ts'
import type { CniAnswer } from '#model/pod.ts'

/** Longer than a shim takes for its file, by far. */
const SHIM_MS = 60_000

/** Carries out what is queued in `dir`. A DEL that fails stays queued.
 * @returns how many are left. */
export async function replayDeletes(dir: string, log: Log, run: (request: RawRequest) => Promise<CniAnswer>): Promise<number> {
  // A shim that found the socket closed may still write its file: it is done within a second, or it was killed and no one waits for it.
  sweepHalfWritten(dir, SHIM_MS)
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

/** Oldest first. */
function queued(dir: string): string[] {
  return wholeFiles(dir)
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
