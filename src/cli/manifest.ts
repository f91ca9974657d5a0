/**
 * The Kubernetes manifest that installs Twill, as `twill manifest` prints it. Names, labels, mounts and flags are Flannel's
 * (Documentation/kube-flannel.yml), so that applying it over Flannel replaces Flannel; deploy/kube-flannel.yml is its default.
 * @module
 */
import { renderNetConf } from '#cli/net-conf.ts'

export interface ManifestOptions {
  /** The cluster's pod network: Network of net-conf.json. */
  readonly podCidr: string
  /** Backend.Type and its other keys: `vxlan`, `vxlan VNI=7`. */
  readonly backend: string
  /** Of the agent and of its init container. */
  readonly image: string
  /** --iface; absent: the interface of the default route. */
  readonly iface?: string | undefined
  /** Serve services in place of kube-proxy. */
  readonly services: boolean
  /** --kube-api-url: needed where nothing serves 10.96.0.1 before Twill itself does. */
  readonly kubeApiUrl?: string | undefined
}

/** YAML text of all objects, in the order they must be made. @throws {TwillError} ERR_NET_CONF, ERR_BACKEND_TO_COME */
export function renderManifest(o: ManifestOptions): string {
  const args = ['--ip-masq', '--kube-subnet-mgr', '--healthz-port=8081']
  if (o.iface) args.push(`--iface=${o.iface}`)
  if (o.services) args.push('--services')
  if (o.kubeApiUrl) args.push(`--kube-api-url=${o.kubeApiUrl}`)
  return [
    namespace,
    serviceAccount,
    clusterRole(o.services),
    clusterRoleBinding,
    configMap(renderNetConf(o.podCidr, o.backend)),
    daemonSet(o.image, args),
  ].join('---\n')
}

const namespace = `apiVersion: v1
kind: Namespace
metadata:
  name: kube-flannel
  labels:
    k8s-app: flannel
    # The agent works in the node's network namespace: Pod Security admission must let it.
    pod-security.kubernetes.io/enforce: privileged
`

const serviceAccount = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: flannel
  namespace: kube-flannel
  labels:
    k8s-app: flannel
`

const serviceRules = `
# The services to serve and the pods behind them.
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]`

const clusterRole = (services: boolean): string => `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: flannel
  labels:
    k8s-app: flannel
rules:
# spec.nodeName of the agent's own pod (POD_NAME) tells which node it serves.
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
# Every node's pod CIDR, address and VTEP: the leases that routes are made of.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
# The own lease, as annotations, and the NetworkUnavailable condition; both go through the status.
- apiGroups: [""]
  resources: [nodes/status]
  verbs: [patch]
# Faults that a person should hear of, in \`kubectl describe node\`. Without this rule they are in the log and in \`twill status\`.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]${services ? serviceRules : ''}
`

const clusterRoleBinding = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: flannel
  labels:
    k8s-app: flannel
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: flannel
subjects:
- kind: ServiceAccount
  name: flannel
  namespace: kube-flannel
`

const configMap = (netConf: string): string => `apiVersion: v1
kind: ConfigMap
metadata:
  name: kube-flannel-cfg
  namespace: kube-flannel
  labels:
    app: flannel
    k8s-app: flannel
    tier: node
data:
  cni-conf.json: |
    {
      "name": "cbr0",
      "cniVersion": "0.3.1",
      "plugins": [
        {
          "type": "flannel",
          "delegate": {
            "hairpinMode": true,
            "isDefaultGateway": true
          }
        },
        {
          "type": "portmap",
          "capabilities": {
            "portMappings": true
          }
        }
      ]
    }
  net-conf.json: |
    ${netConf.replaceAll('\n', '\n    ')}
`

const daemonSet = (image: string, args: readonly string[]): string => `apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: kube-flannel-ds
  namespace: kube-flannel
  labels:
    app: flannel
    k8s-app: flannel
    tier: node
spec:
  selector:
    matchLabels:
      app: flannel
  template:
    metadata:
      labels:
        app: flannel
        tier: node
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - key: kubernetes.io/os
                operator: In
                values:
                - linux
      hostNetwork: true
      priorityClassName: system-node-critical
      # Every node needs its network, tainted or not; a node is tainted not-ready just because it has none yet.
      tolerations:
      - operator: Exists
        effect: NoSchedule
      - operator: Exists
        effect: NoExecute
      serviceAccountName: flannel
      # The conflist (10-flannel.conflist) is no init container's work: the agent writes it, last, when it can serve a pod.
      initContainers:
      - name: install-cni-plugin
        image: ${scalar(image)}
        command:
        - twill
        - install-cni
        volumeMounts:
        - name: cni-plugin
          mountPath: /opt/cni/bin
      containers:
      - name: kube-flannel
        image: ${scalar(image)}
        command:
        - twill
        - agent
        args:
${args.map((arg) => `        - ${scalar(arg)}\n`).join('')}        env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: EVENT_QUEUE_DEPTH
          value: "5000"
        - name: CONT_WHEN_CACHE_NOT_READY
          value: "false"
        livenessProbe:
          httpGet:
            path: /healthz
            port: 8081
          initialDelaySeconds: 10
          periodSeconds: 30
        readinessProbe:
          httpGet:
            path: /readyz
            port: 8081
          initialDelaySeconds: 5
          periodSeconds: 10
        ports:
        - name: healthz
          containerPort: 8081
          protocol: TCP
        resources:
          requests:
            cpu: 100m
            memory: 90Mi
        securityContext:
          privileged: false
          capabilities:
            add:
            # Links, addresses, routes, neighbors, nftables, sysctls below net.
            - NET_ADMIN
            - NET_RAW
            # setns into a pod's network namespace (/run/netns), where its eth0 is made.
            - SYS_ADMIN
        volumeMounts:
        - name: run
          mountPath: /run/flannel
        - name: run-twill
          mountPath: /run/twill
        # Namespaces that the runtime makes later must appear here too.
        - name: netns
          mountPath: /run/netns
          mountPropagation: HostToContainer
        - name: cni
          mountPath: /etc/cni/net.d
        - name: cni-state
          mountPath: /var/lib/cni
        - name: flannel-cfg
          mountPath: /etc/kube-flannel/
      volumes:
      # subnet.env: read by every flannel CNI plugin.
      - name: run
        hostPath:
          path: /run/flannel
          type: DirectoryOrCreate
      # The sockets of the CNI shim and of \`twill status\`, and the queue of deletions that waits for an agent.
      - name: run-twill
        hostPath:
          path: /run/twill
          type: DirectoryOrCreate
      - name: netns
        hostPath:
          path: /run/netns
          type: DirectoryOrCreate
      - name: cni-plugin
        hostPath:
          path: /opt/cni/bin
          type: DirectoryOrCreate
      - name: cni
        hostPath:
          path: /etc/cni/net.d
          type: DirectoryOrCreate
      # Address files of host-local and what DEL needs to know of each ADD.
      - name: cni-state
        hostPath:
          path: /var/lib/cni
          type: DirectoryOrCreate
      - name: flannel-cfg
        configMap:
          name: kube-flannel-cfg
`

/** A YAML scalar: as it is where that is safe, else quoted as JSON, which is YAML too. */
const scalar = (text: string): string => (/^[\w./=@-]+(:[\w./=@-]+)*$/.test(text) ? text : JSON.stringify(text))
