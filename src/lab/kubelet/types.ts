/**
 * The Kubernetes objects a kubelet reads and writes, cut down to the fields it looks at. Names and meaning are core/v1's.
 * @module
 */
export interface Meta {
  name: string
  namespace?: string
  uid?: string
  resourceVersion?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  creationTimestamp?: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[]
}

export interface KeySelector {
  name: string
  key: string
  optional?: boolean
}

export interface EnvVar {
  name: string
  value?: string
  valueFrom?: {
    fieldRef?: { fieldPath: string }
    resourceFieldRef?: { resource: string; containerName?: string; divisor?: string }
    configMapKeyRef?: KeySelector
    secretKeyRef?: KeySelector
  }
}

export interface EnvFrom {
  prefix?: string
  configMapRef?: { name: string; optional?: boolean }
  secretRef?: { name: string; optional?: boolean }
}

export interface VolumeMount {
  name: string
  mountPath: string
  subPath?: string
  readOnly?: boolean
  mountPropagation?: 'None' | 'HostToContainer' | 'Bidirectional'
}

export interface Probe {
  httpGet?: { path?: string; port: number | string; host?: string; scheme?: string; httpHeaders?: { name: string; value: string }[] }
  tcpSocket?: { port: number | string; host?: string }
  exec?: { command: string[] }
  initialDelaySeconds?: number
  periodSeconds?: number
  timeoutSeconds?: number
  successThreshold?: number
  failureThreshold?: number
}

export interface ContainerPort {
  name?: string
  containerPort: number
  hostPort?: number
  hostIP?: string
  protocol?: string
}

export interface Container {
  name: string
  image: string
  command?: string[]
  args?: string[]
  workingDir?: string
  env?: EnvVar[]
  envFrom?: EnvFrom[]
  ports?: ContainerPort[]
  volumeMounts?: VolumeMount[]
  resources?: { limits?: Record<string, string>; requests?: Record<string, string> }
  livenessProbe?: Probe
  readinessProbe?: Probe
  startupProbe?: Probe
  securityContext?: {
    privileged?: boolean
    readOnlyRootFilesystem?: boolean
    runAsUser?: number
    runAsGroup?: number
    capabilities?: { add?: string[]; drop?: string[] }
  }
  stdin?: boolean
  tty?: boolean
}

export interface KeyToPath {
  key: string
  path: string
  mode?: number
}

export interface DownwardItem {
  path: string
  mode?: number
  fieldRef?: { fieldPath: string }
}

export interface ProjectedSource {
  serviceAccountToken?: { audience?: string; expirationSeconds?: number; path: string }
  configMap?: { name: string; optional?: boolean; items?: KeyToPath[] }
  secret?: { name: string; optional?: boolean; items?: KeyToPath[] }
  downwardAPI?: { items?: DownwardItem[] }
}

export interface Volume {
  name: string
  emptyDir?: { medium?: string }
  hostPath?: { path: string; type?: string }
  configMap?: { name: string; optional?: boolean; items?: KeyToPath[]; defaultMode?: number }
  secret?: { secretName: string; optional?: boolean; items?: KeyToPath[]; defaultMode?: number }
  projected?: { sources: ProjectedSource[]; defaultMode?: number }
  downwardAPI?: { items?: DownwardItem[]; defaultMode?: number }
}

export interface PodSpec {
  nodeName?: string
  hostname?: string
  hostNetwork?: boolean
  hostPID?: boolean
  hostIPC?: boolean
  restartPolicy?: 'Always' | 'OnFailure' | 'Never'
  terminationGracePeriodSeconds?: number
  dnsPolicy?: 'ClusterFirst' | 'ClusterFirstWithHostNet' | 'Default' | 'None'
  dnsConfig?: { nameservers?: string[]; searches?: string[]; options?: { name: string; value?: string }[] }
  hostAliases?: { ip: string; hostnames?: string[] }[]
  serviceAccountName?: string
  automountServiceAccountToken?: boolean
  enableServiceLinks?: boolean
  initContainers?: Container[]
  containers: Container[]
  volumes?: Volume[]
  securityContext?: { runAsUser?: number; runAsGroup?: number }
  tolerations?: object[]
  priority?: number
}

export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason?: string
  message?: string
  lastProbeTime?: string | null
  lastTransitionTime?: string
  lastHeartbeatTime?: string
}

export interface ContainerState {
  waiting?: { reason: string; message?: string }
  running?: { startedAt: string }
  terminated?: {
    exitCode: number
    signal?: number
    reason: string
    message?: string
    startedAt?: string
    finishedAt: string
    containerID?: string
  }
}

export interface ContainerStatus {
  name: string
  state: ContainerState
  lastState: ContainerState
  ready: boolean
  started: boolean
  restartCount: number
  image: string
  imageID: string
  containerID?: string
}

export interface PodStatus {
  phase?: string
  conditions?: Condition[]
  hostIP?: string
  hostIPs?: { ip: string }[]
  podIP?: string
  podIPs?: { ip: string }[]
  startTime?: string
  qosClass?: string
  reason?: string
  message?: string
  initContainerStatuses?: ContainerStatus[]
  containerStatuses?: ContainerStatus[]
}

export interface Pod {
  apiVersion?: string
  kind?: string
  metadata: Meta
  spec: PodSpec
  status?: PodStatus
}

export interface ServiceObject {
  metadata: Meta
  spec: { clusterIP?: string; ports?: { name?: string; port: number; protocol?: string }[] }
}

/** `namespace/name`, as logs and errors name a pod. */
export const podKey = (pod: Pod): string => `${pod.metadata.namespace ?? 'default'}/${pod.metadata.name}`
export const namespaceOf = (pod: Pod): string => pod.metadata.namespace ?? 'default'
