/**
 * Every finding there is: the one list of ids for the agent's status, its Events and `twill doctor`. An id never changes its meaning.
 * docs/doctor.md is made from it (`node tools/docs/doctor.ts`), and a test holds the page to it.
 * @module
 */

/** `what` was found, and `why` it matters. */
interface Entry {
  readonly what: string
  readonly why: string
}

export const findingTable = {
  // The cluster: facts that two nodes share, and each Node's own.
  'duplicate-public-ip': {
    what: 'two nodes announce one public IP',
    why: 'Tunnels to that address cannot tell the nodes apart: their pods do not reach each other, or reach the wrong ones.',
  },
  'wrong-interface': {
    what: 'the agent took an interface that does not lead to the other nodes',
    why: 'Tunnel packets leave where no node answers: pods on other nodes are not reached.',
  },
  'wrong-node-ip': {
    what: "the kubelet announces an address that is not the node's own on the nodes' network",
    why: 'The API server uses it for logs, exec and port-forward, services for NodePorts, and host-network pods are known by it.',
  },
  'missing-podcidr': {
    what: 'a node has no pod CIDR',
    why: 'Its agent waits and its pods stay in ContainerCreating: there is nothing to give them addresses from.',
  },
  'bad-podcidr': { what: 'a pod CIDR that is none', why: 'The node gets no route: its pods are not reached.' },
  'duplicate-podcidr': {
    what: 'two nodes have one pod CIDR',
    why: 'Only one of the two can have the route; pods of both get the same addresses.',
  },
  'podcidr-outside-network': {
    what: 'a pod CIDR outside of Network in net-conf.json',
    why: 'The agent refuses it: no route goes there, and masquerade would take its pods for the world outside.',
  },
  'podcidr-overlap': {
    what: "a peer's pod CIDR overlaps this node's, or that of an older peer",
    why: 'A route to it would take packets that are meant for other pods.',
  },
  'bad-annotation': { what: "a node's annotation cannot be read", why: 'No peer can reach its pods.' },
  'bad-object': { what: 'an object of the API cannot be read', why: 'It is skipped; what was known of it before is kept.' },
  'other-backend': {
    what: 'a peer speaks another backend',
    why: 'The two nodes do not understand each other: no traffic between their pods.',
  },
  'peer-not-on-link': {
    what: 'a peer is behind a router, and the backend (host-gw) routes to neighbors only',
    why: 'Its pods are not reached: the kernel refuses a next hop that is not on a network of its own.',
  },
  'host-gw-behind-nat': {
    what: 'host-gw announces an address that this node does not hold',
    why: 'Peers route to an address on which nobody forwards packets: pods here are not reached.',
  },
  'agent-version-skew': {
    what: 'agents of different versions, or an agent of another version than this command',
    why: 'What one version programs the other may not know; a roll-out that stopped half way is usually forgotten.',
  },
  'two-cnis': {
    what: 'a second pod network is installed in the cluster',
    why: 'Both write /etc/cni/net.d, routes and firewall rules: pods come up on either, and do not reach each other.',
  },
  'networkpolicy-unenforced': {
    what: 'NetworkPolicy objects that nobody enforces',
    why: 'They read as if traffic were denied, while every packet passes.',
  },
  'service-part-unserved': {
    what: 'a service asks for something that Twill does not serve: external IPs, load balancer addresses, a health check port',
    why: 'Connections to that address or port are not answered; the cluster address and node ports are.',
  },
  'service-part-refused': {
    what: "a service has an address, port or endpoint that cannot be served: loopback, multicast, the node's own, one number twice",
    why: 'It would catch packets that are not meant for the service. The rest of the service works.',
  },
  // The way to the API.
  'api-unreachable': {
    what: 'the API server does not answer',
    why: 'New nodes, services and pods are not heard of; what is programmed stays.',
  },
  'api-refused': { what: 'the API server refuses a request', why: 'The agent cannot learn of the objects that it needs.' },
  'api-certificate': {
    what: 'the API server and this node do not trust each other: a certificate is wrong, expired, or not yet valid',
    why: 'Every request fails before it begins; expired certificates are the usual end of a cluster that nobody upgraded for a year.',
  },
  'clock-skew': {
    what: "this machine's clock differs from the API server's",
    why: 'Certificates look expired or not yet valid, tokens are refused, leases seem dead.',
  },
  // The agent.
  'agent-not-running': {
    what: 'no agent runs on this node',
    why: 'What is programmed stays, but new pods get no network, and new nodes and services no route.',
  },
  'agent-stopped': {
    what: 'the agent is stopped or does not answer',
    why: 'What is programmed stays, but new pods get no network, and nothing is repaired.',
  },
  'agent-waiting': { what: 'the agent waits for something before it can serve', why: 'No pod gets a network on this node until then.' },
  'no-interface': { what: 'no interface is what --iface asks for', why: 'The agent cannot announce this node: it waits.' },
  'interface-down': { what: 'the interface between the nodes is down', why: 'Nothing leaves by it: pods on other nodes are not reached.' },
  'kernel-refused': { what: 'the kernel refuses an operation', why: 'What the object is for does not work.' },
  'pass-failed': { what: 'the kernel could not be read', why: 'Nothing is repaired until it can be.' },
  'object-contested': {
    what: 'another program keeps changing an object of the agent',
    why: 'Two programs that undo each other are never done: between two repairs the object is wrong.',
  },
  'claimed-twice': { what: 'two owners need one kernel object with different values', why: 'One of them does not work.' },
  // This node's kernel.
  'ip-forward-off': { what: 'IPv4 forwarding is off', why: 'The kernel drops every packet between pods and the rest of the world.' },
  'br-netfilter-missing': {
    what: 'the kernel module br_netfilter is not loaded',
    why: 'Traffic between two pods of one node passes the bridge unseen: a service whose endpoint is on the same node does not answer.',
  },
  'bridge-nf-off': {
    what: 'bridged traffic does not pass the firewall (bridge-nf-call-iptables)',
    why: 'A service whose endpoint is on the same node does not answer: its replies are not translated back.',
  },
  'rp-filter-strict': {
    what: 'strict reverse-path filtering on an interface where packets come in by another way than they leave',
    why: 'The kernel drops them without a word.',
  },
  'forward-drop': {
    what: 'a firewall drops what pods send or receive (FORWARD)',
    why: 'Docker, ufw and firewalld deny forwarding by default; an accept in one table does not overrule a drop in another.',
  },
  'mtu-mismatch': {
    what: 'the tunnel, or what new pods are told, has a larger MTU than the interface to the other nodes carries',
    why: 'Tunnel packets are cut in two, or dropped on the way: connections open, and are slow or hang at the first real answer.',
  },
  'mtu-black-hole': {
    what: 'packets of full size get lost between two nodes',
    why: 'Small packets pass and large ones vanish without an ICMP message: connections open, and hang at the first real answer.',
  },
  'missing-route': {
    what: "packets to a peer's pods do not take the way to that peer",
    why: 'Its pods are not reached: the default route takes what is meant for them out of the cluster.',
  },
  'stale-vtep': {
    what: 'neighbor or FDB entries of the tunnel lead to the wrong node',
    why: "Packets to that peer's pods arrive at another machine or carry a MAC that it drops.",
  },
  'vxlan-blocked': {
    what: 'tunnel packets (UDP 8472) pass neither to a peer nor from it',
    why: 'Its pods are not reached, although the nodes reach each other.',
  },
  'vxlan-blocked-in': {
    what: 'tunnel packets (UDP 8472) from a peer do not arrive',
    why: 'Requests leave and answers do not come back: every connection times out.',
  },
  'vxlan-blocked-out': {
    what: 'tunnel packets (UDP 8472) to a peer do not leave or do not arrive there',
    why: 'Nothing that pods here send to its pods arrives.',
  },
  'peer-unreachable': {
    what: 'a peer does not answer on the underlay',
    why: 'No tunnel can work between nodes that do not reach each other.',
  },
  'inner-checksum': {
    what: 'packets arrive with a corrupted checksum inside the tunnel',
    why: 'A network card or virtual switch mishandles checksum offload in tunnels: ping works, and every TCP and UDP packet is dropped.',
  },
  // This node's CNI files.
  'stale-conflist': {
    what: "another CNI configuration sorts before ours in the runtime's directory",
    why: 'The runtime takes the first by name: new pods come up in the other network, or not at all.',
  },
  'missing-conflist': { what: 'the CNI configuration is not there', why: 'The node is NotReady: the runtime has no pod network.' },
  'missing-plugin': {
    what: 'a plugin that the CNI configuration names is not in /opt/cni/bin',
    why: 'Every new pod fails: failed to find plugin in path.',
  },
  'leaked-address': {
    what: 'addresses are reserved for containers that no longer exist',
    why: 'They are never given out again: in the end no pod on this node gets an address.',
  },
} as const satisfies Record<string, Entry>

export type FindingId = keyof typeof findingTable
