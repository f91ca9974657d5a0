/**
 * Waiting for descriptors that libuv will not poll (netlink sockets): one pool thread sits in poll(2) for all of them, woken
 * by an eventfd when the set changes or the process ends. With nothing to watch, no thread is taken.
 * @module
 */
import { readSync, writeSync } from 'node:fs'
import { blocking, sys } from '#kernel/ffi.ts'

const POLLIN = 0x001
const POLLFD_BYTES = 8

class Poller {
  #readers = new Map<number, () => void>()
  #eventfd: number | undefined
  #running = false

  /** Calls `onReadable` whenever `fd` has something to read (it must read until EAGAIN), until the returned function is called. */
  add(fd: number, onReadable: () => void): () => Promise<void> {
    this.#readers.set(fd, onReadable)
    if (this.#running) this.#wake()
    else void this.#run()
    return () => this.#remove(fd)
  }

  /** Resolves when no thread looks at `fd` any more, so that it may be closed. */
  async #remove(fd: number): Promise<void> {
    this.#readers.delete(fd)
    this.#wake()
    await this.#turned
  }

  #turned: Promise<unknown> = Promise.resolve()

  async #run(): Promise<void> {
    this.#running = true
    this.#eventfd ??= sys.eventfd()
    // Node joins its pool threads at exit: one that nobody wakes would hang the process.
    process.on('exit', this.#wake)
    while (this.#readers.size > 0) {
      const fds: number[] = [this.#eventfd, ...this.#readers.keys()]
      const bytes = new Uint8Array(fds.length * POLLFD_BYTES)
      const view = new DataView(bytes.buffer)
      for (const [i, fd] of fds.entries()) {
        view.setInt32(i * POLLFD_BYTES, fd, true)
        view.setInt16(i * POLLFD_BYTES + 4, POLLIN, true)
      }
      const turn = blocking.poll(bytes, fds.length, -1)
      this.#turned = turn
      await turn
      for (const [i, fd] of fds.entries()) {
        if (view.getInt16(i * POLLFD_BYTES + 6, true) === 0) continue
        if (fd === this.#eventfd) readSync(fd, new Uint8Array(8))
        else this.#readers.get(fd)?.()
      }
    }
    process.off('exit', this.#wake)
    this.#running = false
  }

  #wake = (): void => {
    if (this.#eventfd !== undefined) writeSync(this.#eventfd, new Uint8Array(BigUint64Array.of(1n).buffer))
  }
}

export const poller = new Poller()
