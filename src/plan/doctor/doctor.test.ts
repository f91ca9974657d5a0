import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FdbItem, NeighborItem } from '#model/kernel.ts'
import type { StatusDocument } from '#model/status.ts'
import { examine } from '#plan/doctor/checks.ts'
import { word } from '#plan/doctor/diagnosis.ts'
import type { AgentSet, ClusterNode, Culprit, Facts, PeerProbe } from '#plan/doctor/facts.ts'
import { vagrantHost } from '#plan/testing.ts'

const mac = '16:e4:eb:80:b9:7e'
const status: StatusDocument = {
  kind: 'TwillStatus',
  version: 1,
  agent: { version: '1.0.0', pid: 42, phase: 'serving', uptimeSeconds: 90 },
  node: { name: 'k8s-w1', internalIPs: ['192.168.10.101'] },
  lease: { network: '10.244.0.0/16', subnet: '10.244.1.0/24', publicIp: '192.168.10.101', announced: true },
  interface: { name: 'eth1', address: '192.168.10.101', mtu: 1500, why: '--iface=eth1' },
  backend: { type: 'vxlan', device: 'flannel.1', mac: '8a:75:43:39:9c:7b', mtu: 1450 },
  peers: [],
  findings: [],
  objects: {},
  pods: 1,
  services: true,
  repairs: { total: 0, byKind: {}, recent: [], contested: [] },
  kernel: { release: '6.18', mutations: 0, features: [], refused: [] },
  api: { server: 'https://192.168.10.100:6443', connected: true },
}
const node = (o: Partial<ClusterNode> = {}, annotations: Readonly<Record<string, string>> = {}): ClusterNode => ({
  name: 'k8s-w1',
  uid: '1',
  podCIDRs: ['10.244.1.0/24'],
  internalIPs: ['192.168.10.101'],
  ready: true,
  createdAt: '2026-11-23T00:00:00Z',
  ...o,
  annotations: {
    'kube-subnet-manager': 'true',
    'backend-type': 'vxlan',
    'backend-data': '{"VtepMAC":"8a:75:43:39:9c:7b"}',
    'public-ip': '192.168.10.101',
    ...annotations,
  },
})
const peer = (o: Partial<ClusterNode> = {}, annotations: Readonly<Record<string, string>> = {}): ClusterNode =>
  node(
    { name: 'k8s-w2', uid: '2', podCIDRs: ['10.244.2.0/24'], internalIPs: ['192.168.10.102'], ...o },
    { 'public-ip': '192.168.10.102', 'backend-data': `{"VtepMAC":"${mac}"}`, ...annotations },
  )
const agents: AgentSet = {
  namespace: 'kube-flannel',
  name: 'kube-flannel-ds',
  image: 'twill:1',
  args: ['--ip-masq', '--kube-subnet-mgr'],
  onDelete: false,
  pods: [{ name: 'ds-a', node: 'k8s-w1', image: 'twill:1' }],
  config: { name: 'kube-flannel-cfg', netConf: '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}' },
}
const cluster = (o: Partial<Facts['cluster'] & object> = {}): NonNullable<Facts['cluster']> => ({
  nodes: [node(), peer()],
  agents,
  others: [],
  policies: [],
  clockSkewMs: 400,
  ...o,
})
const probe = (o: Partial<PeerProbe> = {}): PeerProbe => ({
  node: 'k8s-w2',
  publicIp: '192.168.10.102',
  vtep: '10.244.2.0',
  underlay: true,
  tunnel: true,
  checksum: true,
  culprits: [],
  ...o,
})
const neighbor: NeighborItem = { kind: 'neighbor', dev: 'flannel.1', ip: '10.244.2.0', mac }
const fdb: FdbItem = { kind: 'fdb', dev: 'flannel.1', mac, vtep: '192.168.10.102' }
const kernel: Facts['kernel'] = {
  links: [
    {
      kind: 'link',
      name: 'flannel.1',
      type: 'vxlan',
      up: true,
      mac: '8a:75:43:39:9c:7b',
      mtu: 1450,
      vxlan: { vni: 1, port: 8472, local: '192.168.10.101', uplink: 'eth1', learning: false, gbp: false },
    },
    { kind: 'link', name: 'cni0', type: 'bridge', up: true, mtu: 1450 },
  ],
  neighbors: [neighbor],
  fdb: [fdb],
  sysctls: { 'net/ipv4/ip_forward': '1', 'net/bridge/bridge-nf-call-iptables': '1', 'net/ipv4/conf/all/rp_filter': '0' },
  routes: { '192.168.10.102': { dev: 'eth1' }, '10.244.2.254': { dev: 'flannel.1', via: '10.244.2.0' }, '10.244.1.254': { dev: 'cni0' } },
}
const files: Facts['files'] = {
  subnetEnv: { path: '/run/flannel/subnet.env', network: '10.244.0.0/16', subnet: '10.244.1.1/24', mtu: 1450 },
  confDir: '/etc/cni/net.d',
  confs: [{ name: '10-flannel.conflist', network: 'cbr0', plugins: ['flannel', 'portmap'] }],
  binDir: '/opt/cni/bin',
  plugins: ['bridge', 'flannel', 'host-local', 'loopback', 'portmap'],
  addresses: [{ path: '/var/lib/cni/networks/cbr0/10.244.1.2', address: '10.244.1.2', containerId: 'abc', live: true }],
  kubelet: { path: '/var/lib/kubelet/kubeadm-flags.env', nodeIp: '192.168.10.101' },
  programs: ['iptables', 'iptables-nft', 'nft'],
}
const healthy: Facts = {
  hostname: 'k8s-w1',
  version: '1.0.0',
  host: vagrantHost,
  agent: { state: 'answers' },
  status,
  kernel,
  files,
  cluster: cluster(),
  probes: [probe()],
  forwarding: { dropped: [] },
}
const silent: Facts['agent'] = { state: 'silent', process: { pid: 7, stopped: true } }
const { status: _, ...withoutAgent } = healthy
const { cluster: __, ...withoutCluster } = healthy
const sysctl = (values: Readonly<Record<string, string>>): Facts => ({
  ...healthy,
  kernel: { ...kernel, sysctls: { ...kernel.sysctls, ...values } },
})
const inChain = (o: Partial<Culprit> = {}): Culprit => ({
  ...{ tool: 'iptables', family: 'ip', table: 'filter', chain: 'FORWARD', base: 'FORWARD', hook: 'forward' },
  ...o,
})
const rejects: Culprit = inChain({
  tool: 'nft',
  family: 'inet',
  table: 'firewalld',
  chain: 'filter_FORWARD',
  base: 'filter_FORWARD',
  handle: 5,
})

const cases: { name: string; facts: Facts; want: readonly (readonly [id: string, text: RegExp, ...fix: string[]])[] }[] = [
  { name: 'a healthy node', facts: healthy, want: [] },
  { name: 'a healthy node without a kubeconfig', facts: withoutCluster, want: [] },
  {
    name: 'no agent, no process',
    facts: { ...withoutAgent, agent: { state: 'absent' } },
    want: [['agent-not-running', /pod kube-flannel\/ds-a/, 'kubectl -n kube-flannel delete pod ds-a']],
  },
  { name: 'a stopped agent', facts: { ...withoutAgent, agent: silent }, want: [['agent-stopped', /stopped by a signal/, 'kill -CONT 7']] },
  {
    name: 'an agent that hangs',
    facts: { ...withoutAgent, agent: { state: 'silent', process: { pid: 7, stopped: false } } },
    want: [['agent-stopped', /does not answer/, 'kill -KILL 7']],
  },
  {
    name: 'an agent that waits and says why',
    facts: {
      ...healthy,
      status: {
        ...status,
        agent: { ...status.agent, phase: 'waiting' },
        findings: [{ id: 'no-interface', severity: 'error', subject: 'node k8s-w1', text: 'none', remedy: 'Name one that exists.' }],
      },
    },
    want: [['no-interface', /none/]],
  },
  {
    name: 'an agent that waits and does not say why',
    facts: { ...healthy, status: { ...status, agent: { ...status.agent, phase: 'starting' } } },
    want: [['agent-waiting', /starting/]],
  },
  {
    name: 'what the agent says is not said twice',
    facts: {
      ...healthy,
      status: {
        ...status,
        findings: [{ id: 'duplicate-podcidr', severity: 'error', subject: 'node k8s-w1', text: 'said', remedy: 'Delete one.' }],
      },
      cluster: cluster({ nodes: [node(), peer({ podCIDRs: ['10.244.1.0/24'], ready: false })] }),
      kernel: { ...kernel, fdb: [{ ...fdb }], neighbors: [{ ...neighbor, ip: '10.244.1.0' }] },
    },
    want: [['duplicate-podcidr', /^k8s-w1, k8s-w2 all have/, 'kubectl delete node k8s-w2']],
  },
  {
    name: 'the other agents are of an older image',
    facts: { ...healthy, cluster: cluster({ agents: { ...agents, image: 'twill:2' } }) },
    want: [['agent-version-skew', /k8s-w1 runs twill:1; the DaemonSet says twill:2/, 'kubectl -n kube-flannel delete pod ds-a']],
  },
  {
    name: 'an agent older than the command',
    facts: { ...healthy, version: '1.1.0' },
    want: [['agent-version-skew', /1\.0\.0, this command 1\.1\.0/]],
  },
  {
    name: 'the NAT trap',
    facts: {
      ...healthy,
      status: {
        ...status,
        lease: { ...status.lease!, publicIp: '10.0.2.15' },
        interface: { name: 'eth0', address: '10.0.2.15', mtu: 1500, why: 'the default route uses it' },
      },
      kernel: { ...kernel, fdb: [{ ...fdb, vtep: '10.0.2.15' }] },
      cluster: cluster({ nodes: [node({}, { 'public-ip': '10.0.2.15' }), peer({}, { 'public-ip': '10.0.2.15' })] }),
    },
    want: [
      [
        'duplicate-public-ip',
        /k8s-w1, k8s-w2 all announce the public IP 10\.0\.2\.15/,
        `kubectl -n kube-flannel patch ds kube-flannel-ds --type=json -p '[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--iface=eth1"}]'`,
        'kubectl -n kube-flannel rollout status ds kube-flannel-ds --timeout=180s',
      ],
      [
        'wrong-interface',
        /took eth0 \(10\.0\.2\.15\) by this rule: the default route/,
        `kubectl -n kube-flannel patch ds kube-flannel-ds --type=json -p '[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--iface=eth1"}]'`,
        'kubectl -n kube-flannel rollout status ds kube-flannel-ds --timeout=180s',
      ],
    ],
  },
  {
    name: 'a public IP annotated on two nodes',
    facts: {
      ...healthy,
      kernel: { ...kernel, fdb: [{ ...fdb, vtep: '192.168.10.101' }] },
      cluster: cluster({
        nodes: [node(), peer({}, { 'public-ip': '192.168.10.101', 'public-ip-overwrite': '192.168.10.101' })],
      }),
    },
    want: [['duplicate-public-ip', /all announce/, 'kubectl annotate node k8s-w2 flannel.alpha.coreos.com/public-ip-overwrite-']],
  },
  {
    name: 'a kubelet without --node-ip',
    facts: {
      ...withoutCluster,
      status: { ...status, node: { name: 'k8s-w1', internalIPs: ['10.0.2.15'] } },
      files: { ...files, kubelet: { path: '/var/lib/kubelet/kubeadm-flags.env' } },
    },
    want: [
      [
        'wrong-node-ip',
        /announces 10\.0\.2\.15 \(eth0\)/,
        `sed -i 's/^KUBELET_KUBEADM_ARGS="/&--node-ip=192.168.10.101 /' /var/lib/kubelet/kubeadm-flags.env`,
        'systemctl restart kubelet',
      ],
    ],
  },
  {
    name: 'a kubelet with the wrong --node-ip',
    facts: { ...withoutCluster, status: { ...status, node: { name: 'k8s-w1', internalIPs: ['203.0.113.7'] } } },
    want: [
      [
        'wrong-node-ip',
        /203\.0\.113\.7, which no interface has/,
        `sed -i 's/--node-ip=[^ "]*/--node-ip=192.168.10.101/' /var/lib/kubelet/kubeadm-flags.env`,
        'systemctl restart kubelet',
      ],
    ],
  },
  {
    name: 'two kubelets of other nodes that announce one address',
    facts: {
      ...healthy,
      cluster: cluster({
        nodes: [
          node(),
          peer({ internalIPs: ['10.0.2.15'] }),
          peer({ name: 'k8s-w3', podCIDRs: ['10.244.3.0/24'], internalIPs: ['10.0.2.15'] }, { 'kube-subnet-manager': 'false' }),
        ],
      }),
    },
    want: [['wrong-node-ip', /kubelets of k8s-w2, k8s-w3 all announce 10\.0\.2\.15/]],
  },
  {
    name: 'no pod CIDR: the first free one',
    facts: {
      ...healthy,
      cluster: cluster({
        nodes: [node(), peer(), peer({ name: 'k8s-w3', podCIDRs: [], internalIPs: ['192.168.10.103'] }, { 'kube-subnet-manager': '' })],
      }),
    },
    want: [
      [
        'missing-podcidr',
        /k8s-w3 has no IPv4 pod CIDR/,
        `kubectl patch node k8s-w3 -p '{"spec":{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24"]}}'`,
      ],
    ],
  },
  {
    name: 'a pod CIDR outside',
    facts: {
      ...healthy,
      cluster: cluster({
        nodes: [node(), peer(), peer({ name: 'k8s-w3', podCIDRs: ['10.9.0.0/24'], internalIPs: [] }, { 'kube-subnet-manager': '' })],
      }),
    },
    want: [['podcidr-outside-network', /10\.9\.0\.0\/24/, 'kubectl delete node k8s-w3']],
  },
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
      files: { ...files, addresses: [...files.addresses, { path: '/n/10.244.1.9', address: '10.244.1.9', containerId: '', live: false }] },
    },
    want: [['leaked-address', /^1 of 2 reserved addresses .* 10\.244\.1\.9 \(container none\)/, 'rm /n/10.244.1.9']],
  },
  {
    name: 'another pod network',
    facts: { ...healthy, cluster: cluster({ others: [{ namespace: 'kube-system', name: 'cilium', what: 'Cilium' }] }) },
    want: [['two-cnis', /Cilium/, 'kubectl -n kube-system delete ds cilium']],
  },
  {
    name: 'policies, one of them acknowledged',
    facts: {
      ...healthy,
      cluster: cluster({
        policies: [
          { namespace: 'a', name: 'deny', acknowledged: false },
          { namespace: 'b', name: 'known', acknowledged: true },
        ],
      }),
    },
    want: [['networkpolicy-unenforced', /NetworkPolicy a\/deny:/, 'kubectl -n a annotate networkpolicy deny twill.dev/unenforced=known']],
  },
  {
    name: 'a clock that is behind',
    facts: { ...healthy, cluster: cluster({ clockSkewMs: 90_000 }) },
    want: [['clock-skew', /90 s behind/, 'timedatectl set-ntp true']],
  },
  {
    name: "another cluster's CA",
    facts: {
      ...withoutCluster,
      trouble: {
        ...{ kind: 'certificate', text: 'self-signed', remedy: 'See.', kubeconfig: '/root/.kube/config' },
        ...{ clusterName: 'kubernetes', otherCa: '/etc/kubernetes/pki/ca.crt' },
      },
    },
    want: [
      [
        'api-certificate',
        /self-signed/,
        'kubectl config set-cluster kubernetes --kubeconfig=/root/.kube/config --certificate-authority=/etc/kubernetes/pki/ca.crt --embed-certs=true',
      ],
    ],
  },
  {
    name: 'an expired client certificate',
    facts: {
      ...withoutCluster,
      trouble: { kind: 'certificate', text: '401', remedy: 'See.', kubeconfig: '/k', expired: '2026-01-01T00:00:00Z' },
    },
    want: [['api-certificate', /401; the client certificate ended at 2026-01-01/]],
  },
  {
    name: 'no answer from the API',
    facts: { ...withoutCluster, trouble: { kind: 'unreachable', text: 'ECONNREFUSED', remedy: 'See.', kubeconfig: '/k' } },
    want: [['api-unreachable', /ECONNREFUSED/]],
  },
  {
    name: 'FORWARD drops by policy, in both directions: one finding',
    facts: {
      ...healthy,
      forwarding: {
        dropped: [
          { ...inChain(), direction: 'in' },
          { ...inChain(), direction: 'out' },
        ],
      },
    },
    want: [
      [
        'forward-drop',
        /from and to pods are dropped by the policy of chain FORWARD \(iptables, table filter\)/,
        'iptables-nft -t filter -I FORWARD 1 -s 10.244.0.0/16 -j ACCEPT',
        'iptables-nft -t filter -I FORWARD 1 -d 10.244.0.0/16 -j ACCEPT',
      ],
    ],
  },
  {
    name: 'ufw, with ufw at hand',
    facts: {
      ...healthy,
      files: { ...files, programs: ['ufw'] },
      forwarding: { dropped: [{ ...inChain({ chain: 'ufw-reject-forward', handle: 3 }), direction: 'in' }] },
    },
    want: [['forward-drop', /to pods .* a rule of chain ufw-reject-forward, called by FORWARD/, 'ufw route allow from 10.244.0.0/16']],
  },
  {
    name: 'firewalld, with and without its command',
    facts: { ...healthy, forwarding: { dropped: [{ ...rejects, direction: 'out' }] } },
    want: [
      [
        'forward-drop',
        /from pods .*nft, table inet firewalld/,
        'nft insert rule inet firewalld filter_FORWARD ip saddr 10.244.0.0/16 accept',
        'nft insert rule inet firewalld filter_FORWARD ip daddr 10.244.0.0/16 accept',
      ],
    ],
  },
  {
    name: 'firewalld, with firewall-cmd',
    facts: { ...healthy, files: { ...files, programs: ['firewall-cmd'] }, forwarding: { dropped: [{ ...rejects, direction: 'out' }] } },
    want: [
      [
        'forward-drop',
        /firewalld/,
        'firewall-cmd --zone=trusted --add-source=10.244.0.0/16',
        'firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16',
      ],
    ],
  },
  {
    name: 'a peer that is gone',
    facts: { ...healthy, probes: [probe({ underlay: false, tunnel: false })] },
    want: [['peer-unreachable', /k8s-w2/]],
  },
  {
    name: 'two peers whose tunnel packets one rule drops: one finding',
    facts: {
      ...healthy,
      probes: ['k8s-w2', 'k8s-w3'].map((name) =>
        probe({
          node: name,
          tunnel: false,
          out: true,
          in: false,
          culprits: [inChain({ chain: 'INPUT', base: 'INPUT', hook: 'input', handle: 9 })],
        }),
      ),
    },
    want: [
      [
        'vxlan-blocked-in',
        /does not pass from there.*chain INPUT/,
        'iptables-nft -t filter -I INPUT 1 -i eth1 -p udp --dport 8472 -j ACCEPT',
      ],
    ],
  },
  {
    name: 'tunnel packets that do not leave',
    facts: {
      ...healthy,
      probes: [
        probe({
          ...{ tunnel: false, out: false, in: true },
          culprits: [inChain({ tool: 'nft', family: 'inet', table: 'site', chain: 'out', base: 'out', hook: 'output', handle: 2 })],
        }),
      ],
    },
    want: [['vxlan-blocked-out', /to there/, 'nft insert rule inet site out oifname eth1 udp dport 8472 accept']],
  },
  {
    name: 'blocked both ways, by nobody here',
    facts: { ...healthy, probes: [probe({ tunnel: false, out: false, in: false })] },
    want: [['vxlan-blocked', /neither there nor back$/]],
  },
  {
    name: 'a black hole',
    facts: { ...healthy, probes: [probe({ largest: 1350 })] },
    want: [
      [
        'mtu-black-hole',
        /1450 bytes get lost .* such of 1350 pass/,
        `kubectl -n kube-flannel patch configmap kube-flannel-cfg --type=merge -p '${JSON.stringify({
          data: { 'net-conf.json': JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan', MTU: 1400 } }, null, 2) },
        })}'`,
        'kubectl -n kube-flannel rollout restart ds kube-flannel-ds',
        'kubectl -n kube-flannel rollout status ds kube-flannel-ds --timeout=180s',
      ],
    ],
  },
  {
    name: 'a checksum that a device spoils',
    facts: { ...healthy, probes: [probe({ checksum: false })] },
    want: [['inner-checksum', /k8s-w2 is dropped there for its checksum/, 'twill offload flannel.1 off']],
  },
  {
    name: 'the same, with ethtool at hand',
    facts: { ...healthy, files: { ...files, programs: ['ethtool'] }, probes: [probe({ checksum: false })] },
    want: [['inner-checksum', /k8s-w2/, 'ethtool -K flannel.1 tx-checksum-ip-generic off']],
  },
]
for (const { name, facts, want } of cases) {
  test(`doctor: ${name}`, () => {
    const found = examine(facts)
    assert.deepEqual(
      found.map(({ id, fix }) => [id, ...fix]),
      want.map(([id, , ...fix]) => [id, ...fix]),
    )
    for (const [i, [, text]] of want.entries()) assert.match(found[i]!.text, text)
    for (const { why, remedy, where, subject } of found) assert.ok(why.length > 20 && remedy.length > 3 && where !== '' && subject !== '')
  })
}

test('a device whose name means something to a shell is quoted', () => {
  const name = 'e;reboot'
  const rename = <T extends { dev?: string; name?: string }>(one: T): T => ({
    ...one,
    ...(one.dev === 'eth1' && { dev: name }),
    ...(one.name === 'eth1' && { name, up: false }),
  })
  const host = { ...vagrantHost, links: vagrantHost.links.map(rename), addresses: vagrantHost.addresses.map(rename) }
  const facts = { ...healthy, host, status: { ...status, interface: { ...status.interface!, name } } }
  const sysctls = { ...kernel.sysctls, [`net/ipv4/conf/${name}/forwarding`]: '0' }
  const found = examine({
    ...facts,
    kernel: { ...kernel, sysctls },
    probes: [probe({ tunnel: false, out: true, culprits: [inChain({ hook: 'input' })] })],
  })
  const commands = found.flatMap(({ fix }) => fix).filter((command) => command.includes('reboot'))
  assert.equal(commands.length, 3)
  for (const command of commands) assert.match(command, /'[^']*e;reboot[^']*'/)
})

test('errors come before warnings', () => {
  const facts = { ...healthy, version: '2', files: { ...files, plugins: [] } }
  assert.deepEqual(
    examine(facts).map(({ severity }) => severity),
    ['error', 'warning'],
  )
})

test('words of a command are quoted when the shell would take them apart', () => {
  assert.equal(word('plain-1.2/x:y=z,@%+'), 'plain-1.2/x:y=z,@%+')
  assert.equal(word('a b'), "'a b'")
  assert.equal(word("it's; rm -rf /"), "'it'\\''s; rm -rf /'")
})
