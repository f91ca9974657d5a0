/** The backends there are, by Backend.Type. */
import type { Backend } from '#plan/backends/backend.ts'
import { vxlan } from '#plan/backends/vxlan.ts'

export const backends: ReadonlyMap<string, Backend> = new Map([vxlan].map((backend) => [backend.type, backend]))
