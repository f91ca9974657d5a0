/**
 * One change to a lab at a time: whoever listens on the lab's abstract unix socket holds the lock, and says who it is.
 * The kernel takes the socket away with its process, however that ends, so a lock is never stale.
 * @module
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { labError } from '#lab/errors.ts'

const address = (lab: string): string => `\0twill-lab/${lab}`

/** Takes the lab's lock for this process.
 * @param purpose  What the holder does, for whoever is refused.
 * @throws {TwillError} ERR_LAB_BUSY if another process has it. */
export async function lockLab(lab: string, purpose: string): Promise<Disposable> {
  for (;;) {
    const server = createServer((socket) => socket.end(`${purpose}, pid ${process.pid}`))
    try {
      server.listen(address(lab))
      await once(server, 'listening')
      server.unref()
      return { [Symbol.dispose]: () => void server.close() }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    }
    const holder = await askHolder(lab)
    if (holder !== undefined) throw labError.ERR_LAB_BUSY({ lab, holder })
  }
}

/** What the holder says of itself; undefined if it ended meanwhile. */
async function askHolder(lab: string): Promise<string | undefined> {
  try {
    return await text(connect(address(lab)))
  } catch {
    return undefined
  }
}
