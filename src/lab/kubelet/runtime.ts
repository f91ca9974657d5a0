/**
 * The container runtime of the stand-in: sandboxes and containers of one pod, by podrun (lab/podrun.c).
 *
 * Everything it knows lies on disk, so that a kubelet that was killed finds its pods running:
 *     <kubelet>/pods/<uid>/pod.json                       the pod as last seen: enough to tear it down without the API
 *     <kubelet>/pods/<uid>/sandboxes/<id>.json            written before the namespaces are made, removed after they are gone
 *     <kubelet>/pods/<uid>/containers/<name>/<attempt>/   container.json; pid and exit, left by the shim
 * @module
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { argvOf, type Image, environmentOf as imageEnvironment, podrun } from '#lab/images/table.ts'
import { type Attachment, type Cni, podIpsOf } from '#lab/kubelet/cni.ts'
import type { KubeletConfig } from '#lab/kubelet/config.ts'
import { expand } from '#lab/kubelet/env.ts'
import { capabilitiesForPorts, dnsOf, hostsFile, resolvConf } from '#lab/kubelet/pod-files.ts'
import { type Instance, readJson, readText, refreshInstance, type Sandbox, writeJson } from '#lab/kubelet/records.ts'
import { identityOptions } from '#lab/kubelet/security.ts'
import type { Container, Pod } from '#lab/kubelet/types.ts'
import { namespaceOf } from '#lab/kubelet/types.ts'
import { type Ran, tryRun } from '#lab/nodes/run.ts'
import { until } from '#lab/nodes/until.ts'
import { repo } from '#lab/repo.ts'
import { identify, isAlive, type ProcessId } from '#lab/state.ts'

export interface StartOptions {
  readonly container: Container
  readonly image: Image
  readonly env: ReadonlyMap<string, string>
  /** Volume name to path on the node. */
  readonly volumes: ReadonlyMap<string, string>
}

export class PodRuntime {
  readonly pod: Pod
  readonly dir: string
  sandbox: Sandbox | undefined
  /** Sandboxes that ended or never came up, whose DEL is still owed. */
  readonly dead: Sandbox[] = []
  /** By container name, oldest first; the last is the current one. */
  readonly instances = new Map<string, Instance[]>()
  readonly #config: KubeletConfig
  readonly #cni: Cni

  constructor(pod: Pod, config: KubeletConfig, cni: Cni) {
    this.pod = pod
    this.#config = config
    this.#cni = cni
    this.dir = join(config.paths.kubelet, 'pods', pod.metadata.uid!)
    mkdirSync(join(this.dir, 'sandboxes'), { recursive: true, mode: 0o750 })
    mkdirSync(join(this.dir, 'containers'), { recursive: true, mode: 0o750 })
    writeJson(join(this.dir, 'pod.json'), pod)
    this.#recover()
  }

  /** Pods that have a directory on this node, as they were last seen. */
  static left(config: KubeletConfig): Pod[] {
    const pods = join(config.paths.kubelet, 'pods')
    if (!existsSync(pods)) return []
    return readdirSync(pods).flatMap((uid) => readJson<Pod>(join(pods, uid, 'pod.json')) ?? [])
  }

  current(name: string): Instance | undefined {
    return this.instances.get(name)?.at(-1)
  }

  /** Reads what the shims have left since the last look: ends of containers, and of the sandbox. */
  refresh(): void {
    for (const list of this.instances.values()) for (const instance of list) if (!instance.end) refreshInstance(instance)
    if (this.sandbox && !(this.sandbox.process && isAlive(this.sandbox.process))) {
      this.dead.push(this.sandbox)
      this.sandbox = undefined
    }
  }

  /** Makes namespaces and attaches them to the network. After a failure the remains are in `dead`, and the next try is a new sandbox.
   * @throws {Error} with the text that FailedCreatePodSandBox shows. */
  async start(): Promise<void> {
    const { pod } = this
    const id = randomBytes(32).toString('hex')
    const netns = pod.spec.hostNetwork ? '' : join(this.#config.paths.netns, `cni-${randomUUID()}`)
    const sandbox: Sandbox = { id, netns, attempt: this.dead.length, createdAt: new Date().toISOString(), attached: false, ips: [] }
    this.#save(sandbox)
    try {
      mkdirSync(this.#config.paths.netns, { recursive: true })
      const names = netns === '' ? [] : ['--netns', netns, '--hostname', hostnameOf(pod)]
      const made = await tryRun([podrun, 'sandbox', ...names, ...this.#cgroupOption(), '--', `${namespaceOf(pod)}/${pod.metadata.name}`])
      if (made.status !== 0) throw new Error(`failed to create the namespaces of sandbox "${id}": ${made.stderr}`)
      const process = identify(Number(made.stdout))
      if (process) sandbox.process = process
      this.#save(sandbox)
      if (netns !== '') {
        try {
          sandbox.ips = podIpsOf(await this.#cni.add(this.#attachment(sandbox)))
        } catch (error) {
          throw new Error(`failed to setup network for sandbox "${id}": ${(error as Error).message}`)
        }
        sandbox.attached = true
        this.#save(sandbox)
      }
      this.sandbox = sandbox
    } catch (error) {
      this.dead.push(sandbox)
      await this.clearDead().catch(() => {}) // owed still; it is tried again before the next sandbox and at the pod's end
      throw error
    }
  }

  /** Ends the sandbox (its containers must have ended): pause, CNI DEL, namespaces, in containerd's order.
   * @throws {Error} if a DEL fails; it is owed then, and a repeated call tries again. */
  async stop(): Promise<void> {
    if (this.sandbox) this.dead.push(this.sandbox)
    this.sandbox = undefined
    await this.clearDead()
  }

  async clearDead(): Promise<void> {
    for (let sandbox = this.dead[0]; sandbox; sandbox = this.dead[0]) {
      if (sandbox.process && isAlive(sandbox.process)) kill(sandbox.process, 'SIGKILL')
      const netns = sandbox.netns !== '' && existsSync(sandbox.netns) ? sandbox.netns : ''
      if (sandbox.netns !== '') {
        try {
          await this.#cni.remove(this.#attachment({ ...sandbox, netns }))
        } catch (error) {
          if (sandbox.attached) throw new Error(`failed to destroy network for sandbox "${sandbox.id}": ${(error as Error).message}`)
        }
      }
      if (netns !== '') {
        await tryRun(['umount', netns])
        rmSync(netns, { force: true })
      }
      rmSync(this.#sandboxFile(sandbox.id), { force: true })
      this.dead.shift()
    }
  }

  /** Starts the next run of a container in the sandbox. What fails in the start itself is an ended instance, reason StartError. */
  async run(o: StartOptions): Promise<Instance> {
    const { container } = o
    const list = this.instances.get(container.name) ?? []
    this.instances.set(container.name, list)
    const attempt = (list.at(-1)?.attempt ?? -1) + 1
    const dir = join(this.dir, 'containers', container.name, String(attempt))
    const instance: Instance = { id: randomBytes(32).toString('hex'), attempt, image: container.image, sandbox: this.sandbox!.id, dir }
    mkdirSync(join(dir, 'root'), { recursive: true })
    list.push(instance)
    writeJson(join(dir, 'container.json'), { id: instance.id, image: instance.image, sandbox: instance.sandbox })
    const log = this.logFile(container.name, attempt)
    mkdirSync(dirname(log), { recursive: true })

    const known = new Map(o.env)
    const argv = argvOf(
      o.image,
      container.command?.map((word) => expand(word, known)),
      container.args?.map((word) => expand(word, known)),
    )
    const started = await tryRun([podrun, 'run', ...this.#runOptions(o, instance, log), '--', ...argv], {
      env: { ...imageEnvironment(o.image), HOSTNAME: hostnameOf(this.pod), ...Object.fromEntries(known) },
    })
    if (started.status !== 0) {
      const message = `failed to create containerd task: failed to create shim task: OCI runtime create failed: unable to start container process: ${started.stderr}: unknown`
      writeFileSync(join(dir, 'exit'), `128 0 ${new Date().toISOString()} StartError ${message}`)
    } else this.#link(container.name, instance, log)
    refreshInstance(instance)
    for (const old of list.splice(0, Math.max(0, list.length - 2))) {
      rmSync(old.dir, { recursive: true, force: true })
      rmSync(this.logFile(container.name, old.attempt), { force: true })
    }
    return instance
  }

  /** argv for a command in a running container. */
  execArgv(container: Container, instance: Instance, command: readonly string[], tty: boolean): string[] {
    const where = container.workingDir === undefined ? [] : ['--workdir', container.workingDir]
    const who = [...identityOptions(this.pod, container), ...where, ...this.#cgroupOption(), ...(tty ? ['--tty'] : [])]
    return [podrun, 'exec', '--pid', String(instance.process?.pid), ...who, '--', ...command]
  }

  exec(container: Container, instance: Instance, command: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
    return tryRun(this.execArgv(container, instance, command, false), { env: env as Record<string, string> })
  }

  /** The environment the container's process was started with, from /proc: kept by the kernel, so a restarted kubelet has it too. */
  environment(name: string): Record<string, string> {
    const text = readText(`/proc/${this.current(name)?.process?.pid}/environ`) ?? ''
    const pairs = text.split('\0').filter((pair) => pair.includes('='))
    return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]))
  }

  signal(instance: Instance, signal: NodeJS.Signals): void {
    if (!instance.end && instance.process) kill(instance.process, signal)
  }

  logFile(name: string, attempt: number): string {
    return join(this.#logDir(), name, `${attempt}.log`)
  }

  /** Removes every trace on disk; nothing of the pod may run any more. */
  async clean(): Promise<void> {
    for (const list of this.instances.values()) for (const instance of list) rmSync(this.#linkPath(instance), { force: true })
    for (const volume of this.#memoryVolumes()) await tryRun(['umount', volume])
    rmSync(this.dir, { recursive: true, force: true })
    rmSync(this.#logDir(), { recursive: true, force: true })
    const cgroup = this.#cgroup()
    if (cgroup === undefined || !existsSync(cgroup)) return
    writeFileSync(join(cgroup, 'cgroup.kill'), '1') // a command of kubectl exec, or a container whose start no kubelet saw the end of
    await until(() => /^populated 0$/m.test(readFileSync(join(cgroup, 'cgroup.events'), 'utf8')), { everyMs: 5, deadlineMs: 5000 })
    rmdirSync(cgroup)
  }

  #recover(): void {
    for (const file of readdirSync(join(this.dir, 'sandboxes')).filter((name) => name.endsWith('.json'))) {
      const sandbox = readJson<Sandbox>(join(this.dir, 'sandboxes', file))
      if (!sandbox) continue
      const whole = sandbox.process && isAlive(sandbox.process) && (sandbox.netns === '' || sandbox.attached)
      if (whole && !this.sandbox) this.sandbox = sandbox
      else this.dead.push(sandbox)
    }
    for (const name of readdirSync(join(this.dir, 'containers'))) {
      const attempts = readdirSync(join(this.dir, 'containers', name)).map(Number)
      const list = attempts
        .toSorted((a, b) => a - b)
        .flatMap((attempt): Instance[] => {
          const dir = join(this.dir, 'containers', name, String(attempt))
          const known = readJson<Pick<Instance, 'id' | 'image' | 'sandbox'>>(join(dir, 'container.json'))
          return known ? [{ ...known, attempt, dir }] : []
        })
      for (const instance of list) refreshInstance(instance)
      this.instances.set(name, list)
    }
  }

  #runOptions(o: StartOptions, instance: Instance, log: string): string[] {
    const { container } = o
    const { spec } = this.pod
    const pause = this.sandbox!.process!.pid
    const security = container.securityContext ?? {}
    const namespaces = spec.hostNetwork ? [] : [this.sandbox!.netns, `/proc/${pause}/ns/uts`]
    if (!spec.hostIPC) namespaces.push(`/proc/${pause}/ns/ipc`)
    return [
      ...[
        '--log',
        log,
        '--exit',
        join(instance.dir, 'exit'),
        '--pid-file',
        join(instance.dir, 'pid'),
        '--root',
        join(instance.dir, 'root'),
      ],
      ...namespaces.flatMap((path) => ['--ns', path]),
      ...this.#cgroupOption(),
      ...identityOptions(this.pod, container),
      ...(container.workingDir === undefined ? [] : ['--workdir', container.workingDir]),
      ...(spec.hostPID ? ['--host-pid'] : []),
      ...(security.privileged ? ['--privileged'] : []),
      ...(security.readOnlyRootFilesystem ? ['--read-only'] : []),
      ...(container.stdin ? ['--stdin'] : []),
      ...this.#mounts(o).flatMap(({ from, to, mode }) => ['--mount', from, to, mode]),
    ]
  }

  /** Outer mount points first, so that a mount below another one is not hidden by it. */
  #mounts(o: StartOptions): { from: string; to: string; mode: string }[] {
    const ownMounts = (o.container.volumeMounts ?? []).map((m) => {
      const source = o.volumes.get(m.name)
      if (source === undefined) throw new Error(`volumeMounts: there is no volume "${m.name}"`)
      const spread = m.mountPropagation === 'Bidirectional' ? 'b' : m.mountPropagation === 'HostToContainer' ? 's' : 'p'
      const from = m.subPath ? join(source, m.subPath) : source
      if (m.subPath && !existsSync(from)) mkdirSync(from, { recursive: true })
      return { from, to: m.mountPath.replace(/(.)\/+$/, '$1'), mode: `${spread}${m.readOnly ? 'r' : ''}` }
    })
    const files = this.#writeFiles().map(([name, to]) => ({ from: join(this.dir, name), to, mode: 'p' }))
    const taken = new Set(ownMounts.map((m) => m.to))
    return [{ from: repo, to: repo, mode: 'pr' }, ...files, ...ownMounts]
      .filter((m, i, every) => !taken.has(m.to) || every.findLastIndex((other) => other.to === m.to) === i)
      .toSorted((a, b) => a.to.split('/').length - b.to.split('/').length)
  }

  /** /etc/hosts, /etc/resolv.conf and /etc/hostname of the pod. */
  #writeFiles(): [string, string][] {
    const { pod } = this
    const files: [string, string, string][] = [
      ['etc-hosts', '/etc/hosts', hostsFile(pod, this.sandbox!.ips, hostnameOf(pod))],
      ['resolv.conf', '/etc/resolv.conf', resolvConf(dnsOf(pod, this.#config))],
    ]
    if (!pod.spec.hostNetwork) files.push(['hostname', '/etc/hostname', `${hostnameOf(pod)}\n`])
    for (const [name, , text] of files) writeFileSync(join(this.dir, name), text)
    return files.map(([name, to]) => [name, to])
  }

  #attachment(sandbox: Sandbox): Attachment {
    const { pod } = this
    const dns = dnsOf(pod, this.#config)
    return {
      id: sandbox.id,
      netns: sandbox.netns,
      namespace: namespaceOf(pod),
      pod: pod.metadata.name,
      uid: pod.metadata.uid!,
      capabilities: {
        ...capabilitiesForPorts(pod),
        dns: { Servers: dns.nameservers, Searches: dns.searches, Options: dns.options },
        'io.kubernetes.cri.pod-annotations': pod.metadata.annotations ?? {},
      },
    }
  }

  #cgroup(): string | undefined {
    return this.#config.cgroup && join(this.#config.cgroup, 'kubepods', `pod${this.pod.metadata.uid}`)
  }
  #cgroupOption(): string[] {
    const cgroup = this.#cgroup()
    if (cgroup === undefined) return []
    mkdirSync(cgroup, { recursive: true })
    return ['--cgroup', cgroup]
  }

  #logDir = (): string => join(this.#config.paths.podLogs, `${namespaceOf(this.pod)}_${this.pod.metadata.name}_${this.pod.metadata.uid}`)
  #sandboxFile = (id: string): string => join(this.dir, 'sandboxes', `${id}.json`)
  #save(sandbox: Sandbox): void {
    writeJson(this.#sandboxFile(sandbox.id), sandbox)
  }

  #memoryVolumes(): string[] {
    return (this.pod.spec.volumes ?? [])
      .filter((v) => v.emptyDir?.medium === 'Memory')
      .map((v) => join(this.dir, 'volumes', 'kubernetes.io~empty-dir', v.name))
  }

  /** /var/log/containers/<pod>_<namespace>_<container>-<id>.log, where log collectors look. */
  #link(name: string, instance: Instance, log: string): void {
    mkdirSync(this.#config.paths.containerLogs, { recursive: true })
    const path = join(this.#config.paths.containerLogs, `${this.pod.metadata.name}_${namespaceOf(this.pod)}_${name}-${instance.id}.log`)
    if (existsSync(path)) unlinkSync(path)
    symlinkSync(log, path)
  }
  #linkPath(instance: Instance): string {
    const name = [...this.instances].find(([, list]) => list.includes(instance))?.[0]
    return join(this.#config.paths.containerLogs, `${this.pod.metadata.name}_${namespaceOf(this.pod)}_${name}-${instance.id}.log`)
  }
}

/** The pod's name for itself: at most 63 bytes, as a host name may have. */
export const hostnameOf = (pod: Pod): string => (pod.spec.hostname ?? pod.metadata.name).slice(0, 63).replace(/[-.]+$/, '')

function kill(process: ProcessId, signal: NodeJS.Signals): void {
  if (!isAlive(process)) return
  try {
    globalThis.process.kill(process.pid, signal)
  } catch {
    // it ended in between
  }
}
