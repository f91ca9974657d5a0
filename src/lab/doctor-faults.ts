/** For tests: faults that `twill doctor` must find, each as the shell lines that make it. */

const ghost = (spec: object, metadata: object = {}): string =>
  `echo '${JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'ghost', ...metadata }, spec })}' | kubectl create -f -`
const managed = {
  annotations: {
    'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
    'flannel.alpha.coreos.com/backend-type': 'vxlan',
    'flannel.alpha.coreos.com/backend-data': '{"VNI":1,"VtepMAC":"9e:45:de:3a:28:99"}',
    'flannel.alpha.coreos.com/public-ip': '192.168.10.109',
  },
}
export const noRules = 'iptables -P FORWARD ACCEPT; iptables -F; iptables -X'
const stopAgent = `kill -STOP $(pgrep -f '/agent[.]mjs')`

export interface Fault {
  readonly name: string
  /** What doctor must find, in the order to mend it. */
  readonly ids: readonly string[]
  readonly node: string
  /** Shell lines that make the fault. */
  readonly broken: readonly string[]
  /** What is left to tidy up after the cure. */
  readonly after?: readonly string[]
}
export const faults: readonly Fault[] = [
  {
    name: 'an address annotated twice',
    ids: ['duplicate-public-ip'],
    node: 'k8s-ctr',
    broken: ['kubectl annotate node k8s-w1 flannel.alpha.coreos.com/public-ip-overwrite=192.168.10.102'],
  },
  {
    name: 'a node without a pod CIDR',
    ids: ['missing-podcidr'],
    node: 'k8s-ctr',
    broken: [ghost({}, { annotations: { 'lab.twill.dev/no-pod-cidr': 'true' } })],
    after: ['kubectl delete node ghost'],
  },
  {
    name: 'one pod CIDR on two nodes',
    ids: ['duplicate-podcidr'],
    node: 'k8s-ctr',
    broken: [ghost({ podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] }, managed)],
  },
  {
    name: 'a pod CIDR outside of Network',
    ids: ['podcidr-outside-network'],
    node: 'k8s-ctr',
    broken: [ghost({ podCIDR: '10.99.0.0/24', podCIDRs: ['10.99.0.0/24'] }, managed)],
  },
  {
    name: 'br_netfilter is there and off (agent stopped: it would set it itself)',
    ids: ['bridge-nf-off', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'sysctl -w net.bridge.bridge-nf-call-iptables=0'],
  },
  {
    name: 'forwarding off for the node (agent stopped: it would set it itself)',
    ids: ['ip-forward-off', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'sysctl -w net.ipv4.ip_forward=0'],
  },
  {
    name: 'forwarding off for one interface',
    ids: ['ip-forward-off'],
    node: 'k8s-w1',
    broken: ['sysctl -w net.ipv4.conf.eth1.forwarding=0'],
  },
  {
    name: 'strict reverse path, and another way back',
    ids: ['rp-filter-strict'],
    node: 'k8s-w1',
    broken: [
      // Without ARP: whoever asks for 192.168.10.101 must not learn a MAC that is soon gone.
      'ip link add eth2 link eth1 type macvlan && ip link set eth2 arp off up',
      'ip neigh add 192.168.10.102 lladdr 08:00:27:00:01:66 dev eth2 && ip route add 192.168.10.102/32 dev eth2',
      'sysctl -w net.ipv4.conf.eth1.rp_filter=1',
    ],
    after: ['ip link del eth2', 'sysctl -w net.ipv4.conf.eth1.rp_filter=0'],
  },
  {
    name: 'the tunnel is larger than its uplink (agent stopped: it would repair it)',
    ids: ['mtu-mismatch', 'agent-stopped'],
    node: 'k8s-w1',
    broken: [stopAgent, 'ip link set dev flannel.1 mtu 1500; sed -i s/1450/1500/ /run/flannel/subnet.env'],
  },
  {
    name: 'neighbor and FDB entry of a peer that moved (agent stopped: it would repair them)',
    ids: ['stale-vtep', 'agent-stopped'],
    node: 'k8s-ctr',
    broken: [
      stopAgent,
      'ip neigh replace 10.244.1.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent',
      `mac=$(bridge fdb show dev flannel.1 | grep 'dst 192.168.10.102' | cut -d' ' -f1); bridge fdb replace $mac dev flannel.1 dst 192.168.10.77 self permanent`,
    ],
  },
  {
    name: 'a route deleted (agent stopped: it would repair it)',
    ids: ['missing-route', 'agent-stopped'],
    node: 'k8s-ctr',
    broken: [stopAgent, 'ip route del 10.244.1.0/24'],
  },
  {
    name: 'Docker drops by the policy of FORWARD',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER
       iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
       iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
       iptables -P FORWARD DROP`,
    ],
    after: [noRules],
  },
  {
    name: 'ufw rejects in a chain of its own',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `iptables -N ufw-before-forward; iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
       iptables -N ufw-reject-forward; iptables -A ufw-reject-forward -j REJECT --reject-with icmp-port-unreachable
       iptables -A FORWARD -j ufw-before-forward; iptables -A FORWARD -j ufw-reject-forward`,
    ],
    after: [noRules],
  },
  {
    name: 'firewalld rejects in nftables',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: [
      `nft -f - << 'EOF'
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    jump filter_FORWARD_POLICIES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_POLICIES { iifname "virbr0" accept; }
}
EOF`,
    ],
    after: ['nft delete table inet firewalld'],
  },
  {
    name: 'the old iptables drops, which no trace shows',
    ids: ['forward-drop'],
    node: 'k8s-w1',
    broken: ['iptables-legacy -P FORWARD DROP'],
    after: ['iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F'],
  },
  {
    name: 'iptables drops what comes in',
    ids: ['vxlan-blocked-in'],
    node: 'k8s-w1',
    broken: ['iptables -A INPUT -p udp --dport 8472 -j DROP'],
    after: [noRules],
  },
  {
    name: 'nftables drops what goes out',
    ids: ['vxlan-blocked-out'],
    node: 'k8s-w1',
    broken: [`nft 'table inet site { chain out { type filter hook output priority 0; udp dport 8472 counter drop; }; }'`],
    after: ['nft delete table inet site'],
  },
  {
    name: 'both',
    ids: ['vxlan-blocked'],
    node: 'k8s-w1',
    broken: ['iptables -A INPUT -p udp --dport 8472 -j DROP; iptables -A OUTPUT -p udp --dport 8472 -j DROP'],
    after: [noRules],
  },
  { name: 'eth1', ids: ['interface-down'], node: 'k8s-w1', broken: ['ip link set eth1 down'] },
  {
    name: 'an agent whose socket was deleted',
    ids: ['agent-stopped'],
    node: 'k8s-w2',
    broken: ['rm /run/twill/agent.sock'],
  },
  {
    name: 'the conflist of another pod network sorts first',
    ids: ['stale-conflist'],
    node: 'k8s-w1',
    broken: [`echo '{"name":"old","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}' > /etc/cni/net.d/05-calico.conflist`],
    after: ['rm /etc/cni/net.d/05-calico.conflist.saved-by-twill'],
  },
  { name: 'plugins deleted', ids: ['missing-plugin'], node: 'k8s-w1', broken: ['rm /opt/cni/bin/portmap /opt/cni/bin/bridge'] },
  {
    name: 'addresses of containers that are gone',
    ids: ['leaked-address'],
    node: 'k8s-w1',
    broken: [`for i in 77 78; do printf 'deadbeef%s\\r\\neth0' $i > /var/lib/cni/networks/cbr0/10.244.1.$i; done`],
  },
  {
    name: 'a roll-out that stopped half way',
    ids: ['agent-version-skew'],
    node: 'k8s-ctr',
    broken: [
      `kubectl -n kube-flannel patch ds kube-flannel-ds -p '${JSON.stringify({
        spec: {
          updateStrategy: { type: 'OnDelete', rollingUpdate: null },
          template: { spec: { containers: [{ name: 'kube-flannel', image: 'ghcr.io/twill-net/twill:9.9.9' }] } },
        },
      })}'`,
    ],
    after: [`kubectl -n kube-flannel patch ds kube-flannel-ds -p '{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}'`],
  },
  {
    name: 'a second pod network',
    ids: ['two-cnis'],
    node: 'k8s-ctr',
    broken: [
      `echo '${JSON.stringify({
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        metadata: { name: 'calico-node', namespace: 'kube-system' },
        spec: {
          selector: { matchLabels: { app: 'calico' } },
          template: {
            metadata: { labels: { app: 'calico' } },
            spec: { hostNetwork: true, containers: [{ name: 'pause', image: 'registry.k8s.io/pause:3.10' }] },
          },
        },
      })}' | kubectl apply -f -`,
    ],
  },
  {
    name: 'a NetworkPolicy',
    ids: ['networkpolicy-unenforced'],
    node: 'k8s-ctr',
    broken: [
      `echo '${JSON.stringify({
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { name: 'deny-all', namespace: 'default' },
        spec: { podSelector: {}, policyTypes: ['Ingress'] },
      })}' | kubectl apply -f -`,
    ],
    after: ['kubectl delete networkpolicy deny-all'],
  },
  {
    name: 'a kubeconfig with the CA of another cluster',
    ids: ['api-certificate'],
    node: 'k8s-ctr',
    broken: [
      'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -out /tmp/other.crt -subj /CN=other -days 1',
      'kubectl config set-cluster $(kubectl config get-clusters | tail -1) --certificate-authority=/tmp/other.crt --embed-certs=true',
    ],
  },
]
