/**
 * What the cells of `kubectl get` are made of: columns, ages, lists of labels.
 * Source: k8s.io/kubernetes/pkg/printers/internalversion/printers.go.
 * @module
 */
import { type LabelSelector, showSelector } from '#lab/control/selectors.ts'
import type { KubeObject } from '#lab/control/store.ts'
import { at, textAt, treesAt } from '#lab/control/tree.ts'

/** `wide` columns show with -owide only. */
export interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date'
  readonly wide: boolean
}

export interface Printer {
  readonly columns: readonly Column[]
  cells(object: KubeObject, now: number): (string | number)[]
}

/** `Name|Ready|*IP` → columns; a star marks a wide one, a hash an integer. */
export function columns(text: string): Column[] {
  return text.split('|').map((part) => {
    const name = part.replace(/^[*#]+/, '')
    const mark = part.slice(0, part.length - name.length)
    return { name, type: mark.includes('#') ? 'integer' : 'string', wide: mark.includes('*') }
  })
}

/** k8s.io/apimachinery/pkg/util/duration.HumanDuration: two units while the first one is small. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000)
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  const two = (a: number, unitA: string, b: number, unitB: string) => (b === 0 ? `${a}${unitA}` : `${a}${unitA}${b}${unitB}`)
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.trunc(seconds / 60)
  if (minutes < 10) return two(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.trunc(minutes / 60)
  if (hours < 8) return two(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.trunc(hours / 24)
  if (hours < 192) return two(days, 'd', hours % 24, 'h')
  if (days < 730) return `${days}d`
  const years = Math.trunc(days / 365)
  return days < 2920 ? two(years, 'y', days % 365, 'd') : `${years}y`
}

export const since = (time: unknown, now: number) => (typeof time === 'string' ? humanDuration(now - Date.parse(time)) : '<unknown>')
export const age = (o: KubeObject, now: number) => since(o.metadata.creationTimestamp, now)
export const name = (o: KubeObject) => o.metadata.name
export const orNone = (text: string) => text || '<none>'
export const labelsText = (labels: Record<string, string>) =>
  orNone(
    Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .toSorted()
      .join(','),
  )
export const selectorText = (o: KubeObject) => showSelector(at(o, 'spec.selector') as LabelSelector | undefined)
export const containerCells = (o: KubeObject) => {
  const containers = treesAt(o, 'spec.template.spec.containers')
  return [containers.map((c) => textAt(c, 'name')).join(','), containers.map((c) => textAt(c, 'image')).join(',')]
}
