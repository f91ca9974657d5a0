/** The doctor's cases about this node's kernel and files. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Case, files, healthy, kernel, mac, neighbor, outcome, status, sysctl, withoutCluster } from '#plan/doctor/testing.ts'
import { vagrantHost } from '#plan/testing.ts'

const cases: readonly Case[] = [
  {
    name: 'forwarding off, all of it or for one device',
    facts: sysctl({ 'net/ipv4/ip_forward': '0', 'net/ipv4/conf/cni0/forwarding': '0' }),
    want: [['ip-forward-off', /net\/ipv4\/ip_forward is 0/, 'sysctl -w net/ipv4/ip_forward=1']],
  },
  {
    name: 'forwarding off for the tunnel, whose name has a dot',
    facts: sysctl({ 'net/ipv4/conf/flannel.1/forwarding': '0' }),
    want: [['ip-forward-off', /flannel\.1/, 'sysctl -w net/ipv4/conf/flannel.1/forwarding=1']],
  },
  {
    name: 'br_netfilter not loaded',
    facts: { ...healthy, kernel: { ...kernel, sysctls: { 'net/ipv4/ip_forward': '1' } } },
    want: [['br-netfilter-missing', /not loaded/, 'modprobe br_netfilter']],
  },
  { name: 'strict filtering on the way that packets leave by too', facts: sysctl({ 'net/ipv4/conf/all/rp_filter': '1' }), want: [] },
  {
    name: 'strict filtering, and the way back is another',
    facts: {
      ...sysctl({ 'net/ipv4/conf/all/rp_filter': '1', 'net/ipv4/conf/eth1/rp_filter': '0' }),
      kernel: {
        ...kernel,
        sysctls: { ...kernel.sysctls, 'net/ipv4/conf/all/rp_filter': '1' },
        routes: { ...kernel.routes, '192.168.10.102': { dev: 'eth0', via: '10.0.2.2' } },
      },
    },
    want: [['rp-filter-strict', /come in by eth1, the route back to it leaves by eth0/, 'sysctl -w net/ipv4/conf/eth1/rp_filter=2']],
  },
  {
    name: 'an uplink that carries less than pods send',
    facts: { ...withoutCluster, host: { ...vagrantHost, links: vagrantHost.links.map((link) => ({ ...link, mtu: 1400 })) } },
    want: [
      ['mtu-mismatch', /flannel\.1 has MTU 1450/, 'ip link set dev flannel.1 mtu 1350'],
      ['mtu-mismatch', /New pods are told MTU 1450/, 'sed -i s/^FLANNEL_MTU=.*/FLANNEL_MTU=1350/ /run/flannel/subnet.env'],
    ],
  },
  {
    name: 'the uplink is down',
    facts: { ...healthy, host: { ...vagrantHost, links: vagrantHost.links.map((link) => ({ ...link, up: link.name !== 'eth1' })) } },
    want: [['interface-down', /eth1/, 'ip link set dev eth1 up']],
  },
  {
    name: 'a route that is gone: the default route takes its packets',
    facts: { ...healthy, kernel: { ...kernel, routes: { ...kernel.routes, '10.244.2.254': { dev: 'eth0', via: '10.0.2.2' } } } },
    want: [
      ['missing-route', /leaves by eth0 via 10\.0\.2\.2/, 'ip route replace 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink proto 84'],
    ],
  },
  {
    name: 'the tunnel device came after the links were read: the route by it is right',
    facts: { ...healthy, kernel: { ...kernel, links: [], neighbors: [], fdb: [] } },
    want: [],
  },
  {
    name: 'no tunnel device and no route: no command leads beside the tunnel',
    facts: {
      ...healthy,
      kernel: {
        ...{ ...kernel, links: [], neighbors: [], fdb: [] },
        routes: { ...kernel.routes, '10.244.2.254': { dev: 'eth0', via: '10.0.2.2' } },
      },
    },
    want: [['missing-route', /leaves by eth0 via 10\.0\.2\.2/]],
  },
  {
    name: 'host-gw beside a tunnel device of before, and the route is gone',
    facts: {
      ...healthy,
      status: { ...status, backend: { type: 'host-gw', mtu: 1500 } },
      kernel: {
        ...kernel,
        links: [],
        neighbors: [],
        fdb: [],
        routes: { ...kernel.routes, '10.244.2.254': { dev: 'eth0', via: '10.0.2.2' } },
      },
    },
    want: [['missing-route', /k8s-w2/, 'ip route replace 10.244.2.0/24 via 192.168.10.102 dev eth1 proto 84']],
  },
  {
    name: 'a peer that is routed to directly has no entries of the tunnel, and needs none',
    facts: {
      ...healthy,
      kernel: { ...kernel, neighbors: [], fdb: [], routes: { ...kernel.routes, '10.244.2.254': { dev: 'eth1', via: '192.168.10.102' } } },
    },
    want: [],
  },
  {
    name: 'a VTEP that moved',
    facts: { ...healthy, kernel: { ...kernel, neighbors: [{ ...neighbor, mac: '02:00:00:00:00:09' }], fdb: [] } },
    want: [
      [
        'stale-vtep',
        /neighbor 10\.244\.2\.0 has 02:00:00:00:00:09.*leads to nowhere/,
        `ip neigh replace 10.244.2.0 lladdr ${mac} dev flannel.1 nud permanent`,
        `bridge fdb replace ${mac} dev flannel.1 dst 192.168.10.102 self permanent`,
      ],
    ],
  },
  { name: 'no conflist', facts: { ...healthy, files: { ...files, confs: [] } }, want: [['missing-conflist', /holds no configuration/]] },
  {
    name: 'a conflist of another network first; one behind ours is none of ours to judge',
    facts: {
      ...healthy,
      files: {
        ...files,
        confs: [
          { name: "05 it's.conf", network: 'x', plugins: ['calico'] },
          ...files.confs,
          { name: '99-loop.conf', network: 'l', plugins: ['loopback'] },
        ],
      },
    },
    want: [['stale-conflist', /05 it's\.conf/, `mv '/etc/cni/net.d/05 it'\\''s.conf' '/etc/cni/net.d/05 it'\\''s.conf.saved-by-twill'`]],
  },
  {
    name: 'plugins that are not there',
    facts: { ...healthy, files: { ...files, plugins: ['flannel', 'loopback', 'host-local'] } },
    want: [['missing-plugin', /portmap, bridge/, 'twill install-cni']],
  },
  {
    name: 'leaked addresses',
    facts: {
      ...healthy,
      files: {
        ...files,
        addresses: {
          pods: [],
          reservations: [
            ...files.addresses.reservations,
            { network: 'cbr0', path: '/n/10.244.1.9', address: '10.244.1.9', containerId: '', ours: true, live: false },
            { network: 'other', path: '/o/10.9.0.2', address: '10.9.0.2', containerId: 'x', ours: false, live: false },
          ],
        },
      },
    },
    want: [['leaked-address', /^1 of 3 reserved addresses .* 10\.244\.1\.9 \(container none\)/, 'twill ipam free --yes']],
  },
]
for (const one of cases) {
  test(`doctor: ${one.name}`, () => {
    const { found, wanted } = outcome(one)
    assert.deepEqual(found, wanted)
  })
}
