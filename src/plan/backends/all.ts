/** The backends there are, by Backend.Type. */
import type { BackendType } from '#plan/backends/backend.ts'
import { hostGw } from '#plan/backends/host-gw.ts'
import { vxlan } from '#plan/backends/vxlan.ts'

export const backends: ReadonlyMap<string, BackendType> = new Map([vxlan, hostGw].map((backend) => [backend.type, backend]))
