/** The doctor's cases about the agent, the cluster and the way to the API. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  agents,
  type Case,
  cluster,
  fdb,
  files,
  healthy,
  kernel,
  neighbor,
  node,
  outcome,
  peer,
  silent,
  status,
  withoutAgent,
  withoutCluster,
} from '#plan/doctor/testing.ts'

const cases: readonly Case[] = [
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
]
for (const one of cases) {
  test(`doctor: ${one.name}`, () => {
    const { found, wanted } = outcome(one)
    assert.deepEqual(found, wanted)
  })
}
