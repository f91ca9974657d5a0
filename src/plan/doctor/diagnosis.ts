/** A finding of the doctor, made of its id and what was seen. */
import type { Finding } from '#model/cluster.ts'
import type { Diagnosis } from '#model/doctor.ts'
import { type FindingId, findingTable } from '#model/findings.ts'

export function diagnosis(
  id: FindingId,
  o: {
    readonly severity?: Finding['severity']
    readonly subject: string
    readonly where: string
    readonly text: string
    readonly remedy: string
    readonly fix?: readonly string[]
  },
): Diagnosis {
  return { id, severity: 'error', ...o, why: findingTable[id].why, fix: o.fix ?? [] }
}

/** A word of a shell command: as it is where that is safe, else in single quotes. */
export const word = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)
