import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { NodeRecord } from '#model/cluster.ts'
import { announcement, announcementPatch, networkAvailablePatch } from '#plan/annotations.ts'
import { STOCK_CONFLIST, subnetEnv } from '#plan/files.ts'
import { selfOf, vxlan } from '#plan/testing.ts'

const prefix = 'flannel.alpha.coreos.com/'
const bare: NodeRecord = { name: 'k8s-w1', uid: 'u', podCIDRs: ['10.244.2.0/24'], annotations: {}, internalIPs: [] }

test('the annotations of the golden node, byte for byte, and no patch once they are there', () => {
  const wanted = announcement(selfOf(), vxlan, bare)
  assert.deepEqual(announcementPatch(bare, wanted, prefix), {
    metadata: {
      annotations: {
        'flannel.alpha.coreos.com/backend-data': '{"VNI":1,"VtepMAC":"8a:75:43:39:9c:7b"}',
        'flannel.alpha.coreos.com/backend-type': 'vxlan',
        'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
        'flannel.alpha.coreos.com/public-ip': '192.168.10.101',
      },
    },
  })
  assert.equal(announcementPatch({ ...bare, annotations: wanted }, wanted, prefix), undefined)
  const stale = { ...bare, annotations: { ...wanted, 'public-ip': '10.0.2.15', other: 'x' } }
  assert.deepEqual(announcementPatch(stale, wanted, prefix), { metadata: { annotations: { [`${prefix}public-ip`]: '192.168.10.101' } } })
})

test('public-ip-overwrite is published in place of the public IP; one that is no address is not', () => {
  const over = (value: string): string | undefined =>
    announcement(selfOf(), vxlan, { ...bare, annotations: { 'public-ip-overwrite': value } })['public-ip']
  assert.equal(over('203.0.113.9'), '203.0.113.9')
  assert.equal(over('nonsense'), '192.168.10.101')
})

test('NetworkUnavailable as Flannel says it', () => {
  assert.deepEqual(networkAvailablePatch(new Date('2026-11-23T03:07:34.567Z')), {
    status: {
      conditions: [
        {
          type: 'NetworkUnavailable',
          status: 'False',
          reason: 'FlannelIsUp',
          message: 'Flannel is running on this node',
          lastHeartbeatTime: '2026-11-23T03:07:34Z',
          lastTransitionTime: '2026-11-23T03:07:34Z',
        },
      ],
    },
  })
})

test('subnet.env', () => {
  assert.equal(
    subnetEnv({ network: '10.244.0.0/16', subnet: '10.244.2.0/24', mtu: 1450, ipMasq: true }),
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
})

test('the stock conflist is what the manifest carries', () => {
  const manifest = readFileSync('deploy/kube-flannel.yml', 'utf8')
  const block = /cni-conf\.json: \|\n((?: {4}.*\n)+?)(?= {2}\S)/.exec(manifest)![1]!
  assert.equal(STOCK_CONFLIST, block.replaceAll(/^ {4}/gm, ''))
})
