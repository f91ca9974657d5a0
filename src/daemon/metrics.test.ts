import assert from 'node:assert/strict'
import { test } from 'node:test'
import { metricsOf } from '#daemon/metrics.ts'
import type { Finding } from '#model/cluster.ts'
import type { StatusDocument } from '#model/status.ts'

const status = (findings: readonly Finding[]): StatusDocument => ({
  kind: 'TwillStatus',
  version: 1,
  agent: { version: '1.2.3', pid: 7, phase: 'serving', uptimeSeconds: 60 },
  peers: [],
  findings,
  objects: { route: 2, 'nft-element': 5 },
  pods: 3,
  services: true,
  repairs: { total: 1, byKind: { route: 1 }, recent: [], contested: [] },
  kernel: { release: '6.1', mutations: 9, features: [], refused: [] },
  api: { connected: true },
})
const bad = (subject: string): Finding => ({ id: 'bad-object', severity: 'warning', subject, text: '', remedy: '' })

test('every line is a comment or a sample; each family has its help and type once', () => {
  const lines = metricsOf(status([bad('node a'), bad('node b')]))
    .trimEnd()
    .split('\n')
  for (const line of lines)
    assert.match(line, /^(# (HELP|TYPE) twill_[a-z_]+ .+|twill_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? \d+)$/)
  for (const want of [
    'twill_build_info{version="1.2.3"} 1',
    'twill_ready 1',
    'twill_objects{kind="nft-element"} 5',
    'twill_repairs_total{kind="route"} 1',
    'twill_findings{id="bad-object",severity="warning"} 2',
    'twill_faulty_object{id="bad-object",subject="node b"} 1',
  ])
    assert.ok(lines.includes(want), `${want} in\n${lines.join('\n')}`)
})

test('names of others end no label and no line, and there is an end to them', () => {
  const text = metricsOf(
    status([bad('service a"} 9\nx{y="\\\u001b[1m'), ...Array.from({ length: 500 }, (_, i) => bad(`node ${i}${'x'.repeat(999)}`))]),
  )
  assert.ok(text.includes(String.raw`subject="service a\"} 9\\nx{y=\"\\\\u001b[1m"} 1`), text.slice(0, 2000))
  assert.equal(text.match(/^twill_faulty_object\{/gm)?.length, 100)
  assert.ok(text.length < 30_000)
  assert.match(text, /twill_findings\{[^}]*\} 501/)
})
