/** The hash in `webpod-6d4cf56db6`: of a pod template, in letters that make no words. */
import type { PodTemplate } from '#lab/controllers/objects.ts'

const alphabet = 'bcdfghjklmnpqrstvwxz2456789'

/** FNV-1a of the template's data, spelled as k8s.io/apimachinery/pkg/util/rand.SafeEncodeString does. */
export function templateHash(template: PodTemplate): string {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(stableText(template))) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  return [...String(hash)].map((digit) => alphabet[digit.charCodeAt(0) % alphabet.length]).join('')
}

/** JSON with sorted keys, so that equal data has equal text. */
function stableText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stableText).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
  return `{${fields
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${stableText(field)}`)
    .join(',')}}`
}
