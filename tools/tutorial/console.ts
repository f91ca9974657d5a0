/**
 * Reads the console blocks of a walkthrough (docs/tutorial.md), so that each command in it is a test.
 *
 *     ```console
 *     root@k8s-ctr:~# kubectl get node
 *     NAME      STATUS   ROLES           AGE   VERSION
 *     k8s-ctr   Ready    control-plane   52s   v1.33.2+twill-lab
 *     …
 *     ```
 * A line with a prompt is a command: `root@NODE:~#` runs on that node, `host#` in the clone's folder. The lines below it
 * are what a person is told to expect. A line of `…` stands for any lines. What differs from run to run (ages, MACs,
 * name suffixes, pod addresses, ports, times) is folded on both sides before they are compared, and so is white space.
 * ```console wait``` says that the cluster needs a moment: the command is repeated until its output fits.
 * @module
 */
export interface Step {
  /** 1-based line of the command in the document. */
  readonly line: number
  /** `host`, or a node's name. */
  readonly where: string
  readonly command: string
  readonly expected: readonly string[]
  readonly wait: boolean
}

const prompt = /^(?:(host)|root@([\w-]+):~)# (.*)$/

export function parseConsole(markdown: string): Step[] {
  const steps: Step[] = []
  let wait = false
  let inside = false
  let open: { line: number; where: string; command: string; expected: string[]; wait: boolean } | undefined
  const lines = markdown.split('\n')
  for (let at = 0; at < lines.length; at++) {
    const text = lines[at]!
    const fence = /^```(\w*) ?(\w*)/.exec(text)
    if (fence) {
      inside = !inside && fence[1] === 'console'
      wait = fence[2] === 'wait'
      open = undefined
      continue
    }
    if (!inside) continue
    const found = prompt.exec(text)
    if (!found) {
      open?.expected.push(text)
      continue
    }
    let command = found[3]!
    while (command.endsWith('\\')) command = `${command.slice(0, -1)}${lines[++at]!.replace(/^> ?/, '')}`
    open = { line: at + 1, where: found[1] ?? found[2]!, command, expected: [], wait }
    steps.push(open)
  }
  return steps
}

/** What varies from run to run, most specific first. */
const folds: readonly [RegExp, string][] = [
  [/\x1b\[[0-9;]*m/g, ''],
  [/\b\d{4}-\d\d-\d\dT[\d:.]+Z?\b/g, '<time>'],
  [/\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]+ (GMT|[+-]\d{4})/g, '<time>'],
  [/\b\d\d:\d\d:\d\d\.\d+/g, '<time>'],
  [/\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b/g, '<mac>'],
  [/\bfe80::[0-9a-f:]+/g, '<link-local>'],
  [/\bveth[0-9a-f]{8}\b/g, '<veth>'],
  [/-[a-z0-9]{6,10}-[a-z0-9]{5}\b/g, '-<hash>'],
  [/(?<=^(daemonset|deployment|pod|kube-flannel-ds)\S*)-[a-z0-9]{5}\b/g, '-<hash>'],
  [/\bkube-flannel-ds-[a-z0-9]{5}\b/g, 'kube-flannel-ds-<hash>'],
  [/\b[0-9a-f]{64}\b/g, '<id>'],
  [/\b10\.244\.\d+\.(?!0\b|1\b)\d+\b/g, '<pod-ip>'],
  [/(<pod-ip>|\b\d+\.\d+\.\d+\.\d+)\.\d{4,5} >/g, '$1.<port> >'],
  [/\b(seq|TS val) \d+/g, '$1 <n>'],
  [/^rtt min.*/, '<rtt>'],
  [/(<pod-ip>|\d\.\d+\.\d+\.\d+):\d{4,5}\b/g, '$1:<port>'],
  [/(@if)\d+/g, '$1<n>'],
  [/^\d+: /g, '<n>: '],
  [/\b(link-netnsid) \d+/g, '$1 <n>'],
  [/\btime=[\d.]+ ?ms/g, '<ms>'],
  [/\b\d+\.\d+\.\d+-[\w.-]+/g, '<kernel>'],
  [/(?<![\w.:/-])(\d+d)?(\d+h)?(\d+m)?(\d+s)?(?<=\d[dhms])(?![\w.:/-])/g, '<age>'],
]

/** One line with what varies folded and white space collapsed. */
export function fold(line: string): string {
  let out = line
  for (const [pattern, to] of folds) out = out.replace(pattern, to)
  return out.replace(/\s+/g, ' ').trim()
}

/** Undefined if `actual` fits; else one sentence about the first line that does not. */
export function mismatch(expected: readonly string[], actual: string): string | undefined {
  const want = trimEnd(expected.map(fold))
  const have = trimEnd(actual.split('\n').map(fold))
  return fits(want, have, 0, 0) ? undefined : firstDifference(want, have)
}

function fits(want: readonly string[], have: readonly string[], i: number, j: number): boolean {
  if (i === want.length) return j === have.length
  if (want[i] === '…') {
    for (let k = j; k <= have.length; k++) if (fits(want, have, i + 1, k)) return true
    return false
  }
  return j < have.length && want[i] === have[j] && fits(want, have, i + 1, j + 1)
}

function firstDifference(want: readonly string[], have: readonly string[]): string {
  let j = 0
  for (const line of want) {
    if (line === '…') continue
    const found = have.indexOf(line, j)
    if (found < 0) return `expected the line\n    ${line}\nin\n${have.map((l) => `    ${l}`).join('\n')}`
    j = found + 1
  }
  return `there is more, or in another order, than expected:\n${have.map((l) => `    ${l}`).join('\n')}`
}

function trimEnd(lines: readonly string[]): string[] {
  const out = lines.slice()
  while (out.length > 0 && out.at(-1) === '') out.pop()
  return out
}
