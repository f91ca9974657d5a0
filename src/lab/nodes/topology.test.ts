import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cgroupTrees } from '#lab/nodes/cgroups.ts'
import { cables, wirings } from '#lab/nodes/links.ts'
import { mountsBesideRoot, parseMounts } from '#lab/nodes/mounts.ts'
import { isLabName, isNetnsOf, netnsOf, topology } from '#lab/nodes/topology.ts'

const lan = topology('twill')

test('the lab knows its own namespaces, and no other lab’s or foreign ones', () => {
  for (const name of netnsOf(lan)) assert.ok(isNetnsOf('twill', name), name)
  for (const name of ['twill2-k8s-ctr', 'twill-test-16034', 'twill', 'other-switch']) assert.ok(!isNetnsOf('twill', name), name)
})

const sizes = [
  { nodes: 1, segments: 1, ips: ['192.168.10.100'] },
  { nodes: 2, segments: 2, ips: ['192.168.10.100', '192.168.20.101'] },
  { nodes: 3, segments: 2, ips: ['192.168.10.100', '192.168.10.101', '192.168.20.102'] },
  { nodes: 5, segments: 1, ips: [100, 101, 102, 103, 104].map((i) => `192.168.10.${i}`) },
]
for (const { ips, ...size } of sizes) {
  test(`${size.nodes} nodes on ${size.segments} segments: addresses, and a cable from each to its own switch`, () => {
    const lab = topology('a', size)
    assert.deepEqual(
      lab.nodes.map(({ ip }) => ip),
      ips,
    )
    assert.equal(lab.nodes.at(-1)!.name, size.nodes === 1 ? 'k8s-ctr' : `k8s-w${size.nodes - 1}`)
    for (const { name, segment } of lab.nodes) {
      const cable = cables(lab).find((line) => line.startsWith(`link add eth1 netns a-${name} `))
      assert.match(cable!, segment === 0 ? / netns a-switch$/ : / netns a-switch2$/)
    }
    assert.ok(netnsOf(lab).every((name) => isNetnsOf('a', name) && !isNetnsOf('b', name)))
    assert.deepEqual(netnsOf(lab).includes('a-router'), size.segments === 2)
  })
}

test('labs beside each other share no namespace', () => {
  const other = new Set(netnsOf(topology('b')))
  assert.deepEqual(
    netnsOf(topology('a')).filter((name) => other.has(name)),
    [],
  )
})

const names = { twill: true, t1: true, 'a-b': false, '1a': false, '': false, 'a/../b': false, averylongname: false }
for (const [name, fits] of Object.entries(names))
  test(`"${name}" ${fits ? 'is' : 'is not'} a lab's name`, () => assert.equal(isLabName(name), fits))

test('every link is made inside of a namespace: none shows in the machine’s own', () => {
  const links = cables(lan).filter((line) => line.startsWith('link add'))
  assert.equal(links.length, 9)
  for (const line of links) assert.match(line, / netns \S+ .*type veth peer name \S+ netns \S+$/)
})

test('NAT boxes translate the machine’s own address alone: a pod’s would be seen outside', () => {
  const boxes = wirings(lan).filter((w) => w.netns.endsWith('-nat'))
  assert.equal(boxes.length, 3)
  for (const { nft } of boxes) assert.match(nft, /ip saddr 10\.0\.2\.15 snat to 198\.51\.100\.\d+$/m)
})

const hybrid = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
50 27 254:1 / /usr rw - ext4 /dev/vdb rw
51 27 254:2 / /with\\040space rw - xfs /dev/vdc rw
52 27 254:3 / /var/lib/docker/overlay2/x rw - overlay overlay rw
`
test('cgroup trees of a hybrid machine: the controllers a kubelet wants, and cgroup2', () => {
  assert.deepEqual(cgroupTrees(parseMounts(hybrid)), { v2: '/sys/fs/cgroup/unified', v1: ['/sys/fs/cgroup/cpu,cpuacct'] })
})

test('cgroup trees of a unified machine', () => {
  const unified = parseMounts('41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n')
  assert.deepEqual(cgroupTrees(unified), { v2: '/sys/fs/cgroup', v1: [] })
})

test('a machine without cgroup2 is told how to mount it', () => {
  assert.throws(() => cgroupTrees([]), { code: 'ERR_LAB_CGROUP' })
})

test('file systems beside the root are seen in a node, what a node has of its own is not', () => {
  assert.deepEqual(mountsBesideRoot(parseMounts(hybrid)), ['/usr', '/with space'])
})
