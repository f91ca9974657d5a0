/** Where the repository lies, and how the lab starts programs of it. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository this file belongs to, run from source or from dist/. */
export const repo: string = findRepo(dirname(fileURLToPath(import.meta.url)))

function findRepo(dir: string): string {
  return existsSync(`${dir}/package.json`) && existsSync(`${dir}/lab/node-init.sh`) ? dir : findRepo(dirname(dir))
}

/** This very lab program: the bundle if it is what runs, else the source. */
export const labEntry: string = import.meta.filename.endsWith('.mjs') ? import.meta.filename : `${repo}/src/lab/entry.ts`

/** The pinned Node that `npm ci` brings (the lab may have been started by another one). */
export const nodeBinary: string = `${repo}/node_modules/node-linux-${process.arch}/bin/node`

/** PATH inside a node: its own /usr/local/bin first (systemctl, kubectl), the repository's commands last. */
export const nodePath: string = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${repo}/bin`
