/**
 * Files that are contracts with others (subnet.env, the conflist): a reader finds the old one or the new one, whole, also
 * after a power cut: temp file in the same directory, fsync, rename, fsync of the directory.
 * @module
 */
import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { kernelError } from '#kernel/errors.ts'
import type { FileItem } from '#model/kernel.ts'

/** @throws {TwillError} ERR_FILE */
export async function writeFileItem({ path, content, mode }: FileItem): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await mkdir(dirname(path), { recursive: true })
    const file = await open(temporary, 'w', mode)
    try {
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await chmod(temporary, mode) // the umask took bits from open's
    await rename(temporary, path)
    const directory = await open(dirname(path))
    await directory.sync().finally(() => directory.close())
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw kernelError.ERR_FILE({ verb: 'write', path }, error)
  }
}

/** @throws {TwillError} ERR_FILE. A file that is not there is deleted already. */
export async function deleteFile(path: string): Promise<void> {
  try {
    await rm(path, { force: true })
  } catch (error) {
    throw kernelError.ERR_FILE({ verb: 'delete', path }, error)
  }
}

/** The file as an item; undefined if it is not there. @throws {TwillError} ERR_FILE */
export async function readFileItem(path: string): Promise<FileItem | undefined> {
  try {
    const [content, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    return { kind: 'file', path, content, mode: mode & 0o7777 }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw kernelError.ERR_FILE({ verb: 'read', path }, error)
  }
}
