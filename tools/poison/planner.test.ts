/** Objects that are hostile or invalid, among healthy ones: those are planned as if they were alone, and the one is named. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printableValue, quoted } from '#base/printable.ts'
import type { Finding } from '#model/cluster.ts'
import { type Poison, poison, VICTIM } from './objects.ts'
import { type BackendKeys, Planner } from './planner.ts'
import { every, seedsOf } from './seeds.ts'

/** No object takes so long, nor a finding so many letters. */
const LIMITS = { ms: 5000, letters: 12_000 }
const vxlan: BackendKeys = { Type: 'vxlan' }
const backends: readonly BackendKeys[] = [vxlan, { Type: 'vxlan', DirectRouting: true }, { Type: 'host-gw' }]

/** By its own name, or by its service's if it is one of its slices; an object without a legible name by its kind. */
function isNamed({ kind, object }: Poison, findings: readonly Finding[]): boolean {
  const { name, namespace } = object.metadata as { name: string; namespace?: unknown }
  const noun = { nodes: 'node', services: 'service', endpointSlices: 'endpointslice' }[kind]
  const subjects = [
    `node ${name}`,
    `peer ${name}`,
    `${noun} ${namespace}/${name}`,
    `${noun} ?`,
    ...(kind === 'endpointSlices' ? [`service default/${VICTIM}`] : []),
  ]
  return findings.some(({ subject, text }) => subjects.includes(subject) || text.includes(name) || text.includes(quoted(name).slice(0, 40)))
}

for (const form of ['hostile', 'invalid'] as const) {
  test(`${form} objects, one after another: the healthy are untouched, the one is named, and nothing stays`, () => {
    const rig = (backend: BackendKeys) => {
      const planner = new Planner(backend)
      return { planner, healthy: planner.healthy(), findings: planner.findings }
    }
    const planners = backends.map(rig)
    every(
      2000,
      (seed) => {
        const one = poison(seed, form)
        const at = seed % backends.length
        const { planner, healthy, findings } = planners[at]!
        const began = performance.now()
        try {
          planner.put(one.kind, one.object)
          assert.deepEqual(planner.healthy(), healthy)
          const told = planner.findings
          const isFaulty = one.isFaulty && !(one.isOfTunnel && backends[at] !== vxlan)
          if (isFaulty) assert.ok(isNamed(one, told), `not named in ${JSON.stringify(told).slice(0, 600)}`)
          for (const finding of told) {
            assert.ok(finding.text.length < LIMITS.letters, `a text of ${finding.text.length} letters`)
            assert.doesNotMatch(Object.values(printableValue(finding)).join(' '), /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u)
          }
        } finally {
          planner.delete(one.kind, one.object)
        }
        assert.deepEqual(planner.healthy(), healthy, 'after it')
        assert.deepEqual(planner.findings, findings, 'findings after it')
        // Chains for many endpoints stay; a new planner is quicker.
        if (one.how.includes('thousands')) planners[at] = rig(backends[at]!)
        assert.ok(performance.now() - began < LIMITS.ms, `took ${performance.now() - began} ms`)
      },
      (seed) => poison(seed, form).how,
    )
  })

  test(`${form} objects, all at once: the healthy are untouched`, () => {
    const planner = new Planner({ Type: 'vxlan' })
    const healthy = planner.healthy()
    for (const seed of seedsOf(300)) {
      const { kind, object } = poison(seed, form)
      planner.put(kind, object)
    }
    assert.deepEqual(planner.healthy(), healthy)
  })
}
