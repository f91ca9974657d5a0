/**
 * Plugins of other makers that this agent has run: delegates and address managers that are not ours, and the plugin whose place ours took. The shim runs them on the
 * host, as it was called itself (CNI_PATH, environment, namespaces, stderr): one step of an errand (shim/exec.h). Where no shim
 * waits (a DEL out of the delete queue, an ADD that is taken back because the runtime went away) they are run from here.
 * @module
 */
import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { constants } from 'node:os'
import type { JsonObject } from '#cni/decode.ts'
import { CniError, cniCode } from '#cni/failure.ts'
import { goJson, parseJson } from '#cni/json.ts'
import type { Caller } from '#cni/kernel.ts'
import type { CniCall } from '#cni/request.ts'
import { decodeReport, encodeProgram, STEP } from '#wire/errand.ts'

/** What of a call its plugins are told. */
export type Calling = Pick<CniCall, 'containerId' | 'netns' | 'ifname' | 'args' | 'path' | 'depth'>

interface Order {
  /** Name of its file. */
  readonly file: string
  /** What it is called by: one file may be many plugins. */
  readonly plugin: string
  /** In place of the request's own. */
  readonly env: Readonly<Record<string, string>>
  readonly stdin: string
}
interface Ended {
  /** In Go's words; absent: exit status 0. */
  readonly failure?: string
  readonly stdout: string
}

/** How deep plugins may call each other through us. The count travels in the environment. */
const DEEPEST = 4
export const DEPTH = 'CNI_TWILL_DEPTH'
const { ENOENT } = constants.errno

/** Has `plugin` do `command` with `conf` on stdin, in the name of `call`.
 * @returns what it wrote to stdout.
 * @throws {CniError} the plugin's own error, word for word; that it is not there; that the calls go in a circle. */
export async function callOther(
  call: Calling,
  caller: Caller,
  plugin: string,
  command: CniCall['command'],
  conf: JsonObject,
): Promise<string> {
  const stdout = await callIfThere(call, caller, { file: plugin, plugin }, command, goJson(conf))
  if (stdout !== undefined) return stdout
  throw new CniError(cniCode.generic, `failed to find plugin ${JSON.stringify(plugin)} in path [${call.path.replaceAll(':', ' ')}]`)
}

/** As `callOther`; undefined if there is no such plugin. */
export async function callIfThere(
  call: Calling,
  caller: Caller,
  { file, plugin }: Pick<Order, 'file' | 'plugin'>,
  command: CniCall['command'],
  stdin: string,
): Promise<string | undefined> {
  const depth = call.depth + 1
  if (depth > DEEPEST) {
    const why = `plugins call each other more than ${DEEPEST} deep; the configuration goes in a circle`
    throw new CniError(cniCode.generic, `plugin ${JSON.stringify(plugin)}: ${why}`)
  }
  const order = { file, plugin, env: { CNI_COMMAND: command, [DEPTH]: String(depth) }, stdin }
  const ended = await (caller.courier && !caller.gone.aborted ? runByShim(order, caller.courier) : runHere(order, call))
  if (ended?.failure !== undefined) throw errorOf(ended.failure, ended.stdout)
  return ended?.stdout
}

/** What a plugin says of its failure, as it said it; else in libcni's words. */
function errorOf(failure: string, stdout: string): CniError {
  if (stdout === '') return new CniError(cniCode.generic, `netplugin failed with no error message: ${failure}`)
  const parsed = parseJson(stdout)
  const said = 'value' in parsed ? (parsed.value as { code?: unknown; msg?: unknown; details?: unknown } | null) : undefined
  if (typeof said?.msg !== 'string') {
    const why = 'problem' in parsed ? parsed.problem : 'it is no error result'
    return new CniError(cniCode.generic, `netplugin failed but error parsing its diagnostic message ${JSON.stringify(stdout)}: ${why}`)
  }
  const code = typeof said.code === 'number' ? said.code : cniCode.generic
  return new CniError(code, said.msg, typeof said.details === 'string' && said.details !== '' ? said.details : undefined)
}

/** @returns undefined if there is no such plugin. */
async function runByShim({ file, plugin, env, stdin }: Order, courier: NonNullable<Caller['courier']>): Promise<Ended | undefined> {
  const texts = [file, plugin, ...Object.entries(env).map(([name, value]) => `${name}=${value}`), '']
  const bytes = Buffer.from(`${texts.map((text) => `${text}\0`).join('')}${stdin}`)
  const report = await courier(encodeProgram([{ kind: STEP.exec, bytes }]))
  if (report === undefined) throw new CniError(cniCode.tryAgainLater, `the runtime went away while plugin ${JSON.stringify(plugin)} ran`)
  const done = decodeReport(report)?.[0]
  if (done?.errno === ENOENT) return undefined
  if (done?.errno !== 0 || done.bytes.length < 4) {
    throw new CniError(cniCode.generic, `plugin ${JSON.stringify(plugin)} could not be run: error ${done?.errno}`)
  }
  const result = Buffer.from(done.bytes)
  return { ...failureOf(result.readUInt32BE(0)), stdout: result.toString('utf8', 4) }
}

/** @param status  As wait(2) gives it. */
function failureOf(status: number): { failure?: string } {
  if (status === 0) return {}
  const signal = status & 0x7f
  return { failure: signal === 0 ? `exit status ${status >> 8}` : `signal: ${signal}` }
}

/** @returns undefined if there is no such plugin. */
async function runHere({ file, plugin, env, stdin }: Order, call: Calling): Promise<Ended | undefined> {
  const path = file.includes('/') ? undefined : findIn(call.path, file)
  if (path === undefined) return undefined
  const { containerId, netns, ifname, args } = call
  const own = { CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: ifname, CNI_ARGS: args, CNI_PATH: call.path }
  const child = spawn(path, [], { env: { PATH: process.env.PATH, ...own, ...env }, stdio: ['pipe', 'pipe', 'ignore'], argv0: plugin })
  child.stdin.on('error', () => {}) // it may end before it has read
  child.stdin.end(stdin)
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    stdout += part
  })
  return new Promise((resolve) => {
    child.once('error', ({ message }) => resolve({ failure: message, stdout: '' }))
    child.once('close', (status, signal) =>
      resolve({ ...(signal ? failureOf(constants.signals[signal]) : failureOf((status ?? 0) << 8)), stdout }),
    )
  })
}

const findIn = (paths: string, name: string): string | undefined =>
  paths
    .split(':')
    .map((dir) => `${dir}/${name}`)
    .find((path) => name !== '' && statSync(path, { throwIfNoEntry: false })?.isFile())
