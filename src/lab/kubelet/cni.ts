/**
 * Calls CNI plugins as containerd does (go-cni over libcni): one directory of configurations of which the first counts, the
 * loopback network beside it, plugins by exec, results cached in libcni's format.
 *
 * Sources: CNI spec 1.1.0; libcni/{api,conf}.go; go-cni cni.go; containerd CRI sandbox_run, sandbox_stop. What they do in passing
 * is kept where a plugin can tell: keys sorted and escaped as Go does, `capabilities` left in, HostPort spelled with capitals,
 * lo and eth0 set up in parallel, DEL with the file's *current* content, errors with `not found` swallowed on DEL.
 * @module
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface PluginConfig {
  type: string
  name?: string
  capabilities?: Record<string, boolean>
  [key: string]: unknown
}

export interface Network {
  readonly name: string
  readonly cniVersion: string
  readonly ifname: string
  /** The file as it is, for the cache. */
  readonly raw: string
  readonly plugins: readonly PluginConfig[]
}

export interface CniResult {
  cniVersion?: string
  interfaces?: { name: string; mac?: string; sandbox?: string }[]
  ips?: { address: string; gateway?: string; interface?: number }[]
  [key: string]: unknown
}

/** What a sandbox tells its plugins. */
export interface Attachment {
  readonly id: string
  /** Path of the namespace; '' once it is gone. */
  readonly netns: string
  readonly namespace: string
  readonly pod: string
  readonly uid: string
  /** By capability name; a plugin gets those that its `capabilities` set true. */
  readonly capabilities: Readonly<Record<string, unknown>>
}

export class CniError extends Error {
  readonly code: number | undefined
  constructor(message: string, code?: number) {
    super(message)
    this.name = 'CniError'
    this.code = code
  }
}

const loopbackRaw = `{
"cniVersion": "0.3.1",
"name": "cni-loopback",
"plugins": [{
  "type": "loopback"
}]
}`
const loopback: Network = { name: 'cni-loopback', cniVersion: '0.3.1', ifname: 'lo', raw: loopbackRaw, plugins: [{ type: 'loopback' }] }

/** The network in a .conflist, or a .conf or .json with one plugin, which libcni wraps into a list of one.
 * @throws {Error} if it is no JSON, has no name or no plugins. */
export function parseNetwork(file: string, raw: string): Network {
  const config = JSON.parse(raw) as PluginConfig & { plugins?: PluginConfig[]; cniVersion?: string; cniVersions?: string[] }
  const plugins = file.endsWith('.conflist') ? config.plugins : [config]
  if (typeof config.name !== 'string' || config.name === '') throw new Error(`${file}: name is missing`)
  if (!Array.isArray(plugins) || plugins.length === 0) throw new Error(`${file}: no plugins in list`)
  for (const plugin of plugins) if (typeof plugin.type !== 'string') throw new Error(`${file}: a plugin has no type`)
  const known = ['1.1.0', '1.0.0', '0.4.0', '0.3.1', '0.3.0', '0.2.0', '0.1.0']
  const cniVersion = known.find((v) => config.cniVersions?.includes(v)) ?? config.cniVersion ?? '0.1.0'
  return { name: config.name, cniVersion, ifname: 'eth0', raw, plugins }
}

/** JSON as Go's encoding/json writes a map: keys sorted, no blanks, `<` `>` `&` escaped. */
export function goJson(value: unknown): string {
  const sorted = (v: unknown): unknown =>
    Array.isArray(v)
      ? v.map(sorted)
      : typeof v === 'object' && v !== null
        ? Object.fromEntries(
            Object.entries(v)
              .toSorted(([a], [b]) => (a < b ? -1 : 1))
              .map(([k, x]) => [k, sorted(x)]),
          )
        : v
  return JSON.stringify(sorted(value)).replace(/[<>&]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)
}

/** The JSON on a plugin's stdin: its object with name, cniVersion, prevResult and the capabilities it asked for. */
export function pluginInput(
  network: Network,
  plugin: PluginConfig,
  prevResult: CniResult | undefined,
  capabilities: Readonly<Record<string, unknown>>,
): string {
  const wanted = Object.entries(capabilities).filter(([name]) => plugin.capabilities?.[name] === true)
  return goJson({
    ...plugin,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(prevResult ? { prevResult } : {}),
    ...(wanted.length > 0 ? { runtimeConfig: Object.fromEntries(wanted) } : {}),
  })
}

const atLeast = (version: string, floor: string): boolean => version.localeCompare(floor, 'en', { numeric: true }) >= 0

export class Cni {
  #network: Network | undefined
  /** Why there is no network: for the log. */
  #trouble = 'no configuration yet'
  #statusTrouble: string | undefined
  readonly #o: { confDir: string; binDir: string; cacheDir: string }

  constructor(o: { confDir: string; binDir: string; cacheDir: string }) {
    this.#o = o
  }

  /** Why pods cannot get a network now, in the words of the kubelet's Ready condition; undefined if they can. */
  notReady(): string | undefined {
    const because = this.#network ? this.#statusTrouble : 'cni plugin not initialized'
    return (
      because &&
      `container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: ${because}`
    )
  }

  get trouble(): string {
    return this.#trouble
  }
  get network(): Network | undefined {
    return this.#network
  }

  /** Reads the directory: the first of .conf, .conflist, .json by byte order is the network; if it cannot be read there is none. */
  load(): void {
    this.#network = undefined
    try {
      const file = readdirSync(this.#o.confDir)
        .filter((name) => /\.(conf|conflist|json)$/.test(name))
        .toSorted((a, b) => (a < b ? -1 : 1))[0]
      if (file === undefined) throw new Error(`no network config found in ${this.#o.confDir}`)
      this.#network = parseNetwork(file, readFileSync(join(this.#o.confDir, file), 'utf8'))
      this.#trouble = ''
    } catch (error) {
      this.#trouble = error instanceof Error ? error.message : String(error)
    }
  }

  /** Loads now and after each change of the directory. containerd misses files that are moved in from elsewhere; this does not. */
  watch(onChange: () => void): () => void {
    mkdirSync(this.#o.confDir, { recursive: true })
    const watcher = watch(this.#o.confDir, () => {
      this.load()
      onChange()
    })
    this.load()
    return () => watcher.close()
  }

  /** STATUS of all plugins, for lists of 1.1.0 and later; containerd asks with each poll of the kubelet (5 s). */
  async status(): Promise<void> {
    const network = this.#network
    this.#statusTrouble = undefined
    if (!network || !atLeast(network.cniVersion, '1.1.0')) return
    for (const plugin of network.plugins) {
      try {
        await this.#exec('STATUS', network, plugin, { id: '', netns: '', namespace: '', pod: '', uid: '', capabilities: {} }, undefined)
      } catch (error) {
        this.#statusTrouble = (error as Error).message
        return
      }
    }
  }

  /** Sets up lo and eth0 in parallel; returns eth0's result. After a failure the caller must `remove`.
   * @throws {CniError} the first failure, prefixed as libcni does: plugin type="flannel" failed (add): … */
  async add(a: Attachment): Promise<CniResult> {
    const networks = this.#networks()
    const outcomes = await Promise.allSettled(networks.map((network) => this.#addNetwork(network, a)))
    const failed = outcomes.find((o) => o.status === 'rejected')
    if (failed) throw failed.reason
    const result = (outcomes[1] as PromiseFulfilledResult<CniResult>).value
    if (podIpsOf(result).length === 0) throw new CniError(`failed to find network info for sandbox "${a.id}"`)
    return result
  }

  /** Undoes `add`, one network after the other. May be repeated.
   * @throws {CniError} the first failure that is not swallowed (see module comment). */
  async remove(a: Attachment): Promise<void> {
    for (const network of this.#networks()) {
      try {
        await this.#removeNetwork(network, a)
      } catch (error) {
        const text = (error as Error).message
        if (text.includes('not found') || (a.netns === '' && text.includes('no such file or directory'))) continue
        throw error
      }
    }
  }

  /** Whether a result of an ADD is cached for this sandbox: without one, a failing DEL does not hold the pod. */
  hasResult(id: string): boolean {
    return this.#network !== undefined && existsSync(this.#cacheFile(this.#network, id))
  }

  #networks(): Network[] {
    if (!this.#network) throw new CniError('cni plugin not initialized')
    return [loopback, this.#network]
  }

  async #addNetwork(network: Network, a: Attachment): Promise<CniResult> {
    let result: CniResult | undefined
    for (const plugin of network.plugins) {
      const out = await this.#exec('ADD', network, plugin, a, result)
      result = JSON.parse(out) as CniResult
      result.cniVersion ??= network.cniVersion
    }
    const entry = {
      kind: 'cniCacheV1',
      containerId: a.id,
      config: Buffer.from(network.raw).toString('base64'),
      ifName: network.ifname,
      networkName: network.name,
      netns: a.netns,
      cniArgs: argsOf(a),
      ...(Object.keys(a.capabilities).length > 0 ? { capabilityArgs: a.capabilities } : {}),
      result,
    }
    mkdirSync(this.#o.cacheDir, { recursive: true, mode: 0o700 })
    writeFileSync(this.#cacheFile(network, a.id), JSON.stringify(entry), { mode: 0o600 })
    return result!
  }

  async #removeNetwork(network: Network, a: Attachment): Promise<void> {
    const prevResult = atLeast(network.cniVersion, '0.4.0') ? this.#cached(network, a.id) : undefined
    for (const plugin of network.plugins.toReversed()) await this.#exec('DEL', network, plugin, a, prevResult)
    rmSync(this.#cacheFile(network, a.id), { force: true })
  }

  #cacheFile = (network: Network, id: string): string => join(this.#o.cacheDir, `${network.name}-${id}-${network.ifname}`)

  #cached(network: Network, id: string): CniResult | undefined {
    try {
      return (JSON.parse(readFileSync(this.#cacheFile(network, id), 'utf8')) as { result?: CniResult }).result
    } catch {
      return undefined // no file, or one torn by a crash: newer libcni drops it too
    }
  }

  async #exec(command: string, network: Network, plugin: PluginConfig, a: Attachment, prevResult: CniResult | undefined): Promise<string> {
    const program = this.#find(plugin.type)
    const status = command === 'STATUS'
    const env = {
      ...process.env,
      CNI_COMMAND: command,
      CNI_CONTAINERID: a.id,
      CNI_NETNS: a.netns,
      CNI_IFNAME: status ? '' : network.ifname,
      CNI_ARGS: status
        ? ''
        : argsOf(a)
            .map((pair) => pair.join('='))
            .join(';'),
      CNI_PATH: this.#o.binDir,
    }
    const input = pluginInput(network, plugin, prevResult, a.capabilities)
    for (let attempt = 0; ; attempt++) {
      try {
        return await execPlugin(program, env, input, command, plugin)
      } catch (error) {
        // ETXTBSY: an installer is writing the file; libcni tries five times more, a second apart
        if ((error as NodeJS.ErrnoException).code !== 'ETXTBSY' || attempt === 5) throw error
        await new Promise((resolve) => setTimeout(resolve, 1000))
      }
    }
  }

  #find(type: string): string {
    for (const dir of this.#o.binDir.split(':')) {
      const path = join(dir, type)
      if (!type.includes('/') && existsSync(path) && statSync(path).isFile()) return path
    }
    throw new CniError(`failed to find plugin "${type}" in path [${this.#o.binDir.split(':').join(' ')}]`)
  }
}

const argsOf = (a: Attachment): [string, string][] => [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_NAMESPACE', a.namespace],
  ['K8S_POD_NAME', a.pod],
  ['K8S_POD_INFRA_CONTAINER_ID', a.id],
  ['K8S_POD_UID', a.uid],
]

function execPlugin(program: string, env: NodeJS.ProcessEnv, input: string, command: string, plugin: PluginConfig): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const child = spawn(program, [], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.once('error', reject)
  child.once('close', (code, signal) => {
    if (code === 0) return resolve(stdout)
    const name = plugin.name === undefined ? '' : ` name="${plugin.name}"`
    const fail = (text: string, errorCode?: number): void =>
      reject(new CniError(`plugin type="${plugin.type}"${name} failed (${command.toLowerCase()}): ${text}`, errorCode))
    const how = signal === null ? `exit status ${code}` : `signal: ${signal}`
    if (stdout === '')
      return fail(stderr === '' ? `netplugin failed with no error message: ${how}` : `netplugin failed: ${JSON.stringify(stderr)}`)
    try {
      const said = JSON.parse(stdout) as { code?: number; msg?: string; details?: string }
      fail(`${said.msg ?? ''}${said.details ? `; ${said.details}` : ''}`, said.code)
    } catch {
      fail(`netplugin failed but error parsing its diagnostic message ${JSON.stringify(stdout)}`)
    }
  })
  child.stdin.on('error', () => {}).end(input)
  return promise
}

/** Addresses of eth0, IPv4 first, without prefix. A result of 0.3 and later: ips point at interfaces by index; one without index is eth0's. */
export function podIpsOf(result: CniResult): string[] {
  const eth0 = (result.interfaces ?? []).findIndex((i) => i.name === 'eth0' && i.sandbox)
  const mine = (result.ips ?? []).filter((ip) => ip.interface === undefined || ip.interface === eth0)
  const addresses = eth0 < 0 && result.interfaces ? [] : mine.map((ip) => ip.address.replace(/\/.*$/, ''))
  return [...addresses.filter((a) => !a.includes(':')), ...addresses.filter((a) => a.includes(':'))]
}
