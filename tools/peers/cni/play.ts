/**
 * Plays a case on one side, and says where two sides differ. The differences that are meant stand here, each with its reason.
 * @module
 */
import { isDeepStrictEqual } from 'node:util'
import { systemClock } from '#base/clock.ts'
import type { Case, Step } from './cases.ts'
import type { Peer } from './peers.ts'
import { type Answer, type Json, run, type Side, type View } from './world.ts'

/** One side's part of a case under way. */
export class Play {
  readonly side: Side
  readonly answers: { readonly step: Step; readonly answer: Answer }[] = []
  readonly #case: Case
  /** What ADD gave, by container. */
  readonly #results = new Map<string, Json>()

  get plugin(): string {
    return this.#case.plugin
  }

  constructor(one: Case, side: Side) {
    this.#case = one
    this.side = side
  }

  async run(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      if (step.do === 'tamper') await this.#tamper(step)
      else if (step.do !== 'CHECK' || this.#results.has(step.id)) await this.#call(step)
    }
  }

  async #call(step: Step & { id: string }): Promise<void> {
    const { plugin, ifname, args, env } = this.#case
    const answer = await this.side.call({
      ...{ plugin, ifname, command: step.do, id: step.id, conf: this.#stdin(step) },
      ...(args === undefined ? {} : { args }),
      ...(env === undefined ? {} : { env }),
    })
    this.answers.push({ step, answer: { exit: answer.exit, text: this.side.mask(answer.text) } })
    if (step.do === 'ADD' && answer.exit === 0) this.#results.set(step.id, JSON.parse(answer.text) as Json)
  }

  #stdin(step: Step & { id: string }): string {
    const { conf } = this.#case
    if (typeof conf === 'string') return conf
    const more: Json = {}
    if (step.do === 'CHECK') more.prevResult = this.#results.get(step.id)
    if (step.do === 'GC') more['cni.dev/valid-attachments'] = [{ containerID: 'a', ifname: 'eth0' }]
    return JSON.stringify({ ...conf, ...more })
  }

  /** The reference waits until the host end is up; ours answers at once. */
  async #settled(): Promise<void> {
    const deadline = systemClock.now() + SETTLE_MS
    const down = async (): Promise<boolean> => (await this.side.view()).node.links.some(({ operstate }) => operstate === 'DOWN')
    while ((await down()) && systemClock.now() < deadline) await systemClock.sleep(20)
  }

  async #tamper(step: Step & { do: 'tamper' }): Promise<void> {
    if (this.#results.size === 0) return
    const interfaces = ([...this.#results.values()][0]!.interfaces ?? []) as { name: string }[]
    const veth = interfaces.find(({ name }) => name.startsWith('veth'))?.name ?? 'none'
    await this.#settled()
    const netns = step.at === 'node' ? this.side.node.path : this.side.pod(step.at)
    await run(
      netns,
      step.argv.map((word) => (word === 'VETH' ? veth : word)),
    )
  }
}

/** The kernel tells of a lost carrier once a second at most (linkwatch). */
const SETTLE_MS = 2500

/** What ours refuses by name and the reference lets through: bridges with VLANs and the MAC filter; a range that never ends. */
const stricter =
  /"msg": "(unsupported field (vlan|vlanTrunk|macspoofchk): |invalid range set \d+: RangeStart \S+ is after the last address |invalid CIDR address: ")/

/** Where `ours` differs from `theirs` now, each line headed by `name`. State is waited for: links come up, addresses settle. */
export async function problems(ours: Play, theirs: Play, name: string, peer: Peer): Promise<string[]> {
  if (ours.answers.some(({ answer }) => answer.exit !== 0 && stricter.test(answer.text))) return []
  const found = theirs.answers.flatMap(({ step, answer }, i) => {
    const mine = ours.answers[i]
    const where = `${step.do} ${'id' in step ? step.id : ''}`
    if (mine === undefined) return [`${where}: ours gave no answer`]
    return isMeant(ours.plugin, step, mine.answer, answer, peer)
      ? []
      : differences(readable(mine.answer, peer), readable(answer, peer), where)
  })
  const failed = theirs.answers.some(({ step, answer }) => step.do === 'ADD' && answer.exit !== 0)
  const views = async (): Promise<[unknown, unknown]> => {
    const [mine, other] = await Promise.all([ours.side.view(), theirs.side.view()])
    if (peer.name === 'debian') for (const pod of [...mine.pods, ...other.pods]) forgetKeepAddress(pod)
    return failed ? [afterFailure(mine), afterFailure(other)] : [mine, other]
  }
  const deadline = systemClock.now() + SETTLE_MS
  let seen = await views()
  while (!isDeepStrictEqual(seen[0], seen[1]) && systemClock.now() < deadline) {
    await systemClock.sleep(200)
    seen = await views()
  }
  found.push(...differences(seen[0], seen[1], 'state'))
  return found.map((line) => `${peer.name} ${name} ${line}`)
}

/** Debian's plugins do not set it; later ones do, and ours. */
function forgetKeepAddress({ sysctls }: View): void {
  for (const conf of Object.values(sysctls)) if (typeof conf === 'object') delete (conf as Json).keep_addr_on_down
}

/** What an ADD that failed must have left as it was, before and after DEL: the addresses. The reference leaves the pair it made for
 * DEL to remove, and both leave the bridge, which other pods may be on by now. */
function afterFailure({ files }: Awaited<ReturnType<Side['view']>>): unknown {
  return Object.entries(files).filter(([path]) => !/\/(lock|last_reserved_ip\.\d)$/.test(path))
}

/** Answers that differ and are meant to. */
function isMeant(plugin: string, step: Step, mine: Answer, other: Answer, peer: Peer): boolean {
  // DEL of ours gives back what it knows of even where the configuration is one that the reference refuses.
  if (step.do === 'DEL' && mine.exit === 0 && mine.text === '' && other.exit !== 0) return true
  // Debian's look for a route without a gateway by its gateway.
  if (peer.name === 'debian' && step.do === 'CHECK' && mine.exit === 0 && /Expected Route .* GW:<nil>/.test(other.text)) return true
  // The MAC of the reference's bridge follows its ports unless it has an address; CHECK then fails for the pods before. Ours stays.
  if (step.do === 'CHECK' && /Bridge interface \S+ Mac doesn't match/.test(other.text)) return true
  // The reference loopback leaves out what versions below 1.0.0 demand (dns, version), and prints no old form.
  if (plugin === 'loopback' && step.do === 'ADD' && mine.exit === 0 && other.exit === 0) return !/"cniVersion": "1/.test(mine.text)
  // Plugins older than 1.1.0 do not know the commands at all.
  return (step.do === 'STATUS' || step.do === 'GC') && !peer.versions.includes('1.1.0') && mine.exit === other.exit
}

function readable({ exit, text }: Answer, peer: Peer): unknown {
  if (text === '') return { exit, text }
  const { msg, dns, details, ...rest } = JSON.parse(text) as Json
  const version = String(rest.cniVersion)
  return {
    exit,
    ...rest,
    ...(details === undefined ? {} : { details: String(details).replace(/plugin supports .*/, 'plugin supports …') }),
    ...(msg === undefined ? {} : { msg: plainMessage(String(msg)) }),
    // Debian's print an empty dns at 1.0.0 too, and lose what resolvConf gave.
    ...(peer.name === 'debian' || (/^1/.test(version) && isDeepStrictEqual(dns, {})) ? {} : { dns }),
    form: { indent: /^\{\n(?= {4}")/.test(text), end: text.endsWith('}') },
  }
}

/** Faults that each decoder, and each version of the reference, says in words of its own. */
const plainMessage = (message: string): string =>
  message
    .replace(/^(error unmarshall network config): (?!json: cannot unmarshal).*/s, '$1: …')
    .replace(/(json: cannot unmarshal \w+).*/s, '$1 …')
    .replace(/^failed to load netconf: (?=json: )/, '')
    // Of two faults at once, the reference meets the pod's before the bridge's.
    .replace(/^failed to (add route|set bridge addr: \S+ already has) .*/s, 'failed to add route or address …')
    .replace(/^(failed to create bridge \S+ could not add \S+) .*/s, '$1 …')
    .replace(/^(Expected Route) .*( not found in routing table)/s, '$1 …$2')

/** The leaves in which two values differ, one line each. */
export function differences(a: unknown, b: unknown, where: string): string[] {
  if (isDeepStrictEqual(a, b)) return []
  const both = [a, b]
  if (both.every((one) => one !== null && typeof one === 'object') && Array.isArray(a) === Array.isArray(b)) {
    const keys = new Set(both.flatMap((one) => Object.keys(one as Json)))
    return [...keys].flatMap((key) => differences((a as Json)[key], (b as Json)[key], `${where}.${key}`))
  }
  return [`${where}: ours ${JSON.stringify(a)}, theirs ${JSON.stringify(b)}`]
}
