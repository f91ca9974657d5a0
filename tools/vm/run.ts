/**
 * The kernel tests and a two-node lab on another kernel: a distribution's own, with its systemd and the unified cgroup tree, in QEMU.
 *
 *     node tools/vm/run.ts [--kernel 6.1|5.15] [--lab-nodes N] [--tests none] [PATTERN…]
 *
 * PATTERN chooses test files, as in tools/test.ts. Kept in dist/vm/<kernel>/: the machine's disk (made once, some minutes), console.log.
 * A run changes neither the disk nor this clone. Where KVM cannot run the machine, QEMU translates every instruction,
 * and the machine's clock counts instructions instead of seconds (-icount), so that the tests' deadlines mean the same on a slow host.
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { files, type Machine, machines, packages, unit } from './machines.ts'

process.chdir(join(import.meta.dirname, '../..'))

const MEMORY_MIB = 2560
const LIMIT_MS = 60 * 60_000
/** After so much silence of the machine we say that it is still at work. */
const SILENCE_MS = 60_000
/** Tests of what the kernel takes and gives back, without long-lived programs: what emulation is fast enough for. */
const nearest = ['rtnetlink', 'conntrack', 'kernel/linux', 'kernel/flows', 'kernel/probing', 'lab/nodes']
const DISK = { root: '4G', twill: '2G' } as const

const started = performance.now()
const say = (text: string): void => console.log(`vm: ${Math.round((performance.now() - started) / 1000)} s: ${text}`)
const stop = (text: string): never => {
  console.error(`vm: ${text}`)
  process.exit(2)
}

function run(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) stop(`${command} failed: ${error?.message ?? stderr.split('\n').slice(-5).join('\n')}`)
}

/** What of this must be installed, by Debian package. */
function requireTools({ keyring }: Machine): void {
  const paths = `${process.env.PATH}:/usr/sbin:/sbin`.split(':')
  const needs = { 'qemu-system-x86_64': 'qemu-system-x86', mmdebstrap: 'mmdebstrap', mke2fs: 'e2fsprogs' }
  const missing = Object.entries(needs).flatMap(([program, from]) => (paths.some((dir) => existsSync(`${dir}/${program}`)) ? [] : [from]))
  if (keyring && !existsSync(keyring.path)) missing.push(`${keyring.package} (${keyring.path})`)
  if (missing.length > 0) stop(`these Debian packages are missing: ${missing.join(', ')}`)
  if (process.getuid?.() !== 0) stop('only root can make a machine’s disk (device files, owners)')
  process.env.PATH = paths.join(':')
}

/** The disk, kernel and initrd of `machine` in `dir`, unless they are there already, made of the same things. */
function install(machine: Machine, dir: string): void {
  const made = JSON.stringify([machine, packages, files, DISK.root])
  if (existsSync(`${dir}/made`) && readFileSync(`${dir}/made`, 'utf8') === made) return
  say(`installing ${machine.what} (${packages.length} packages and a kernel; a few minutes)`)
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true })
  const root = `${dir}/root`
  const { keyring } = machine
  run(
    'mmdebstrap',
    '--quiet',
    '--variant=minbase',
    `--components=${machine.components}`,
    `--include=${[machine.kernelPackage, ...packages].join(',')}`,
    ...(keyring ? [`--keyring=${keyring.path}`] : []),
    machine.suite,
    root,
  )
  for (const [path, text] of Object.entries(files)) writeFileSync(`${root}/${path}`, text)
  const wants = `${root}/etc/systemd/system/multi-user.target.wants`
  mkdirSync(wants, { recursive: true })
  mkdirSync(`${root}/twill`)
  symlinkSync(`../${unit}`, `${wants}/${unit}`)
  for (const file of ['vmlinuz', 'initrd.img']) {
    const [found = stop(`${machine.kernelPackage} brought no ${file}`)] = globSync(`${root}/boot/${file}-*`)
    renameSync(found, `${dir}/${file}`)
  }
  run('mke2fs', '-q', '-t', 'ext4', '-L', 'root', '-d', root, `${dir}/root.img`, DISK.root)
  rmSync(root, { recursive: true })
  writeFileSync(`${dir}/made`, made)
}

/** This clone, without what is no part of a run, as a second disk. */
function packClone(dir: string, env: Readonly<Record<string, string>>): void {
  const tree = `${dir}/tree`
  rmSync(tree, { recursive: true, force: true })
  mkdirSync(`${tree}/dist`, { recursive: true })
  const inside = (from: string, without: readonly string[]): string[] =>
    readdirSync(from).flatMap((name) => (without.includes(name) ? [] : [join(from, name)]))
  for (const path of [...inside('.', ['.git', 'dist', 'bench']), ...inside('dist', ['vm'])]) {
    cpSync(path, `${tree}/${path}`, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true })
  }
  writeFileSync(
    `${tree}/vm.env`,
    Object.entries(env)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(''),
  )
  rmSync(`${dir}/twill.img`, { force: true })
  run('mke2fs', '-q', '-t', 'ext4', '-L', 'twill', '-d', tree, `${dir}/twill.img`, DISK.twill)
  rmSync(tree, { recursive: true })
}

/** QEMU with the machine's serial lines: the kernel's in a file, the tests' on our standard output. */
function start(dir: string, accel: 'kvm' | 'tcg'): ChildProcess {
  const drive = (name: string): string[] => ['-drive', `file=${dir}/${name}.img,if=virtio,format=raw,snapshot=on`]
  const speed =
    accel === 'kvm'
      ? ['-accel', 'kvm', '-cpu', 'host', '-smp', '2']
      : ['-accel', 'tcg,thread=single,tb-size=512', '-cpu', 'Nehalem', '-smp', '1', '-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm']
  const machine = ['-machine', 'q35', '-m', String(MEMORY_MIB), '-nodefaults', '-no-reboot', '-display', 'none', '-nic', 'none']
  const serial = ['-serial', `file:${dir}/console.log`, '-serial', 'stdio']
  const kernel = ['-kernel', `${dir}/vmlinuz`, '-initrd', `${dir}/initrd.img`, '-append', 'console=ttyS0 root=LABEL=root rw panic=-1']
  const args = [...machine, ...speed, ...serial, ...drive('root'), ...drive('twill'), ...kernel]
  return spawn('nice', ['-n', '19', 'qemu-system-x86_64', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
}

/** True if QEMU can run this machine's kernel on /dev/kvm: where the host is a virtual machine itself, the device may be there and not work.
 * A kernel without a root panics, which turns the machine off (panic=-1); one that hangs is stopped. */
function kvmWorks(dir: string): boolean {
  if (!existsSync('/dev/kvm')) return false
  const quiet = ['-nodefaults', '-display', 'none', '-no-reboot', '-m', '512', '-kernel', `${dir}/vmlinuz`, '-append', 'panic=-1']
  return spawnSync('qemu-system-x86_64', ['-accel', 'kvm', '-cpu', 'host', ...quiet], { timeout: 15_000, stdio: 'ignore' }).status === 0
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string', default: '6.1' },
    tests: { type: 'string', default: 'kernel' },
    'lab-nodes': { type: 'string', default: '2' },
  },
})
const machine = machines[values.kernel] ?? stop(`--kernel ${values.kernel}: one of ${Object.keys(machines).join(', ')}`)
if (values.tests !== 'none' && values.tests !== 'kernel') stop(`--tests ${values.tests}: kernel or none`)
if (!/^[0-9]$/.test(values['lab-nodes'])) stop(`--lab-nodes ${values['lab-nodes']}: 0 (no lab) to 9`)
requireTools(machine)
const dir = `dist/vm/${values.kernel}`
install(machine, dir)
const accel = kvmWorks(dir) ? 'kvm' : 'tcg'
const chosen = positionals.length > 0 || accel === 'kvm' ? positionals : nearest
if (chosen === nearest && values.tests !== 'none') say(`emulation is slow: only ${nearest.join(' ')}; the pattern "ktest" chooses all`)
packClone(dir, { TESTS: values.tests === 'none' ? 'none' : chosen.join(' '), LAB_NODES: values['lab-nodes'] })
say(`starting ${machine.what} (${accel === 'kvm' ? 'KVM' : 'no usable /dev/kvm: emulated, the machine’s clock counts instructions'})`)
say(`the kernel’s console: ${dir}/console.log`)

let verdict: string | undefined
const qemu = start(dir, accel)
const silence = setTimeout(() => {
  say('still at work')
  silence.refresh()
}, SILENCE_MS)
const limit = setTimeout(() => {
  say(`stopped: not done after ${LIMIT_MS / 60_000} minutes`)
  qemu.kill()
}, LIMIT_MS)
createInterface({ input: qemu.stdout! }).on('line', (line) => {
  verdict = /^vm: (\d+)$/.exec(line)?.[1] ?? verdict
  console.log(line)
  silence.refresh()
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => qemu.kill())
qemu.on('close', () => {
  clearTimeout(limit)
  clearTimeout(silence)
  say(verdict === '0' ? 'all passed' : verdict === undefined ? `no verdict: see ${dir}/console.log` : 'something failed')
  process.exitCode = verdict === '0' ? 0 : 1
})
