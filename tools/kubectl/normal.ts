/**
 * What a command printed, with everything folded that differs from run to run and from machine to machine: what is left is what an
 * API server decides. Two servers are compared by this form.
 * @module
 */
import { fold } from '../tutorial/console.ts'

/** Beside the walkthrough's own folds, most specific first. */
const folds: readonly [RegExp, string][] = [
  [/\b\d{4}-\d\d-\d\dT[\d:.]+Z\b/g, '<time>'],
  [/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<uid>'],
  [/\b[0-9a-f]{32}\b/g, '<machine>'],
  [/("?resourceVersion"?: )"\d+"/g, '$1<version>'],
  [/\b10\.96\.(?!0\.1\b|0\.10\b)\d+\.\d+\b/g, '<cluster-ip>'],
  [/(Kernel Version:\s+|OS Image:\s+).*/, '$1<machine>'],
  [/\b(Debian|Ubuntu|Fedora)[\w /().]*?(?=\s{2,})/, '<os>'],
  [/(cpu|memory|ephemeral-storage|pods):(\s+)\d+\w*$/g, '$1:$2<amount>'],
  [/(\bGo Version: |goVersion: ).*/, '$1<go>'],
  [/(Client Version|Kustomize Version): v[\d.]+\S*/, '$1: <version>'],
  [/\b127\.0\.0\.1:\d{4,5}\b/g, '127.0.0.1:<port>'],
  [/(?<=\[::1\]:)\d{4,5}\b/g, '<port>'],
  [/\b(pod-template-hash=)\S+/g, '$1<hash>'],
  [/\/tmp\/(LIVE|MERGED)-\d+/g, '/tmp/$1-<n>'],
  [/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}/g, '<time>'],
  [/\b\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d\b/g, '<time>'],
  [/\b(debugger|endpointslice\.discovery\.k8s\.io\/\w+)-[a-z0-9]{5}\b/g, '$1-<hash>'],
  [/(does not serve .*); it serves .*/, '$1; it serves <list>'],
  [/[IWE]\d{4} [\d:.]+ +\d+ (\S+?):\d+\]/g, '<klog> $1]'],
  [/(twill-lab|containerd):\/\/[0-9a-f]{64}/g, '<runtime>://<id>'],
]

/** Lines that come or do not come as things take their time. */
const passing = /^(Waiting for (deployment|daemon set) |If you don't see a command prompt)/

/** The lines that count: folded, without empty ones at either end. @param unordered  Sorted: random names had decided their order. */
export function normal(output: string, { unordered = false }: { unordered?: boolean | undefined } = {}): string[] {
  const told = output.split('\n').filter((line) => !passing.test(line))
  const lines = told.map((line) => {
    let out = line
    for (const [pattern, to] of folds) out = out.replace(pattern, to)
    return fold(out)
  })
  while (lines.at(-1) === '') lines.pop()
  while (lines[0] === '') lines.shift()
  return unordered ? lines.toSorted() : lines
}
