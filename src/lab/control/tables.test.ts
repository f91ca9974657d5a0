import assert from 'node:assert/strict'
import { test } from 'node:test'
import { humanDuration } from '#lab/control/columns.ts'
import { resourceById } from '#lab/control/resources.ts'
import type { KubeObject } from '#lab/control/store.ts'
import { tableOf } from '#lab/control/tables.ts'

const ages: [seconds: number, want: string][] = [
  [-5, '<invalid>'],
  [0, '0s'],
  [119, '119s'],
  [120, '2m'],
  [125, '2m5s'],
  [600, '10m'],
  [3 * 3600 - 1, '179m'],
  [3 * 3600, '3h'],
  [3 * 3600 + 60, '3h1m'],
  [9 * 3600, '9h'],
  [49 * 3600, '2d1h'],
  [10 * 86400, '10d'],
  [730 * 86400, '2y'],
]
for (const [seconds, want] of ages) test(`${seconds} s is shown as ${want}`, () => assert.equal(humanDuration(seconds * 1000), want))

const pod = (status: object, spec: object = {}, metadata: object = {}): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'x', uid: 'u', resourceVersion: '1', creationTimestamp: '1970-01-01T00:00:00Z', ...metadata },
  spec: { containers: [{ name: 'c' }], ...spec },
  status,
})
const cells = (object: KubeObject, resource = 'pods') => {
  const table = tableOf(resourceById(resource)!, [object], {}, { include: 'None', now: 60_000, headers: true, view: (each) => each })
  return (table.rows as { cells: unknown[] }[])[0]!.cells
}
const pods: [name: string, pod: KubeObject, want: string][] = [
  ['just created', pod({ phase: 'Pending' }), 'p 0/1 Pending 0 60s'],
  [
    'waiting',
    pod({ phase: 'Pending', containerStatuses: [{ state: { waiting: { reason: 'ErrImagePull' } } }] }),
    'p 0/1 ErrImagePull 0 60s',
  ],
  [
    'running',
    pod({ phase: 'Running', containerStatuses: [{ ready: true, restartCount: 0, state: { running: {} } }] }),
    'p 1/1 Running 0 60s',
  ],
  [
    'restarted',
    pod({
      phase: 'Running',
      containerStatuses: [
        { ready: true, restartCount: 2, state: { running: {} }, lastState: { terminated: { finishedAt: '1970-01-01T00:00:30Z' } } },
      ],
    }),
    'p 1/1 Running 2 (30s ago) 60s',
  ],
  [
    'ended',
    pod({ phase: 'Succeeded', containerStatuses: [{ state: { terminated: { reason: 'Completed', exitCode: 0 } } }] }),
    'p 0/1 Completed 0 60s',
  ],
  ['going', pod({ phase: 'Running' }, {}, { deletionTimestamp: '1970-01-01T00:00:40Z' }), 'p 0/1 Terminating 0 60s'],
  [
    'in its init containers',
    pod(
      { phase: 'Pending', initContainerStatuses: [{ state: { terminated: { exitCode: 0 } } }, { state: { running: {} } }] },
      { initContainers: [{}, {}] },
    ),
    'p 0/1 Init:1/2 0 60s',
  ],
]
for (const [name, object, want] of pods) test(`a pod that is ${name}`, () => assert.equal(cells(object).slice(0, 5).join(' '), want))

test('endpoints: three are shown, the rest counted', () => {
  const addresses = [1, 2, 3, 4].map((i) => ({ ip: `10.244.0.${i}` }))
  const object = { ...pod({}), subsets: [{ addresses, ports: [{ port: 80 }] }] }
  assert.equal(cells(object, 'endpoints')[1], '10.244.0.1:80,10.244.0.2:80,10.244.0.3:80 + 1 more...')
})
