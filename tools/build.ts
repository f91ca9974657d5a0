/**
 * Bundles the programs into dist/, one .mjs each, and only those whose sources changed.
 * A bundle is fresh while every file it was made of has the size and time that its stamp (dist/.stamps/) names.
 *
 *     node tools/build.ts [--force]
 *
 * @module
 */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Plugin } from 'esbuild'

process.chdir(join(import.meta.dirname, '..'))

const programs: Readonly<Record<string, string>> = {
  'dist/twill.mjs': 'src/cli/main.ts',
  'dist/agent.mjs': 'src/daemon/entry.ts',
  'dist/lab.mjs': 'src/lab/entry.ts',
  ...Object.fromEntries(globSync('src/lab/images/*-main.ts').map((path) => [`dist/images/${basename(path, '-main.ts')}.mjs`, path])),
}

/** What decides about every bundle besides its sources. */
const always = ['tools/build.ts', 'package-lock.json']

type Stamp = Readonly<Record<string, string>>
const stampPath = (out: string): string => `dist/.stamps/${basename(out)}.json`
const mark = (path: string): string => {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat ? `${stat.size} ${stat.mtimeMs}` : 'absent'
}

function isFresh(out: string): boolean {
  if (!existsSync(out) || !existsSync(stampPath(out))) return false
  const stamp = JSON.parse(readFileSync(stampPath(out), 'utf8')) as Stamp
  return Object.entries(stamp).every(([path, was]) => mark(path) === was)
}

/**
 * Importing node:http as a module reads every export, and that of the lazy ones (WebSocket …) loads all of undici: 35 ms and some
 * megabytes for nothing. As a CommonJS object its members are read when they are used.
 */
const lazyHttp: Plugin = {
  name: 'lazy-http',
  setup(build) {
    build.onResolve({ filter: /^node:https?$/ }, ({ path }) => ({ path, namespace: 'builtin' }))
    build.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)})`,
      loader: 'js',
    }))
  },
}

async function bundle(out: string, entry: string): Promise<void> {
  const { build } = await import('esbuild')
  const { metafile } = await build({
    entryPoints: [entry],
    outfile: out,
    bundle: true,
    platform: 'node',
    target: 'node26',
    format: 'esm',
    external: ['koffi'], // brings its own binary, found in node_modules
    metafile: true,
    plugins: [lazyHttp],
    legalComments: 'none',
    logLevel: 'warning',
    // Packages in CommonJS ask for Node's modules with require().
    banner: { js: "import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)" },
  })
  const inputs = [...Object.keys(metafile.inputs).filter((path) => !path.startsWith('builtin:')), ...always]
  mkdirSync(dirname(stampPath(out)), { recursive: true })
  writeFileSync(stampPath(out), JSON.stringify(Object.fromEntries(inputs.map((path) => [path, mark(path)]))))
}

const force = process.argv.includes('--force')
const stale = Object.entries(programs).filter(([out, entry]) => existsSync(entry) && (force || !isFresh(out)))
await Promise.all(stale.map(([out, entry]) => bundle(out, entry)))
// The nodes of a lab see dist/ read-only: compiled code that bin/twill looks for (NODE_COMPILE_CACHE) must be there already.
if (stale.length > 0) {
  rmSync('dist/.cache', { recursive: true, force: true })
  const env = { ...process.env, NODE_COMPILE_CACHE: 'dist/.cache' }
  for (const out of Object.keys(programs).filter((out) => dirname(out) === 'dist' && existsSync(out))) {
    spawnSync(process.execPath, [out, '--version'], { env, stdio: 'ignore' })
  }
}
if (stale.length > 0) console.log(`built ${stale.map(([out]) => out).join(', ')}`)
