/**
 * Field numbers of the API types that a client may send in protobuf (see protobuf.ts). One line a message:
 *     message: number name type, …        s text, b bytes, i integer, o boolean, or a message of this table
 *     *type list   %type map of texts to it   &type optional (zero is a value)   =type its fields belong to the holder
 * Taken from the generated.proto and types.go files of k8s.io/api and k8s.io/apimachinery v0.33.2. Left out: status, managed fields
 * and volumes of clouds, which the lab does not take from outside.
 * @module
 */
export const protobufFields = `
apps.DaemonSet: 1 metadata meta.ObjectMeta, 2 spec apps.DaemonSetSpec
apps.DaemonSetSpec: 1 selector meta.LabelSelector, 2 template core.PodTemplateSpec, 3 updateStrategy apps.DaemonSetUpdateStrategy, 4 minReadySeconds i, 6 revisionHistoryLimit &i
apps.DaemonSetUpdateStrategy: 1 type s, 2 rollingUpdate apps.RollingUpdateDaemonSet
apps.Deployment: 1 metadata meta.ObjectMeta, 2 spec apps.DeploymentSpec
apps.DeploymentSpec: 1 replicas &i, 2 selector meta.LabelSelector, 3 template core.PodTemplateSpec, 4 strategy apps.DeploymentStrategy, 5 minReadySeconds i, 6 revisionHistoryLimit &i, 7 paused o, 9 progressDeadlineSeconds &i
apps.DeploymentStrategy: 1 type s, 2 rollingUpdate apps.RollingUpdateDeployment
apps.ReplicaSet: 1 metadata meta.ObjectMeta, 2 spec apps.ReplicaSetSpec
apps.ReplicaSetSpec: 1 replicas &i, 4 minReadySeconds i, 2 selector meta.LabelSelector, 3 template core.PodTemplateSpec
apps.RollingUpdateDaemonSet: 1 maxUnavailable &intstr.IntOrString, 2 maxSurge &intstr.IntOrString
apps.RollingUpdateDeployment: 1 maxUnavailable &intstr.IntOrString, 2 maxSurge &intstr.IntOrString
authentication.BoundObjectReference: 1 kind s, 2 apiVersion s, 3 name s, 4 uid s
authentication.SelfSubjectReview: 1 metadata meta.ObjectMeta
authentication.TokenRequest: 1 metadata meta.ObjectMeta, 2 spec authentication.TokenRequestSpec
authentication.TokenRequestSpec: 1 audiences *s, 4 expirationSeconds &i, 3 boundObjectRef authentication.BoundObjectReference
authorization.FieldSelectorAttributes: 1 rawSelector s, 2 requirements *meta.FieldSelectorRequirement
authorization.LabelSelectorAttributes: 1 rawSelector s, 2 requirements *meta.LabelSelectorRequirement
authorization.NonResourceAttributes: 1 path s, 2 verb s
authorization.ResourceAttributes: 1 namespace s, 2 verb s, 3 group s, 4 version s, 5 resource s, 6 subresource s, 7 name s, 8 fieldSelector authorization.FieldSelectorAttributes, 9 labelSelector authorization.LabelSelectorAttributes
authorization.SelfSubjectAccessReview: 1 metadata meta.ObjectMeta, 2 spec authorization.SelfSubjectAccessReviewSpec
authorization.SelfSubjectAccessReviewSpec: 1 resourceAttributes authorization.ResourceAttributes, 2 nonResourceAttributes authorization.NonResourceAttributes
authorization.SelfSubjectRulesReview: 1 metadata meta.ObjectMeta, 2 spec authorization.SelfSubjectRulesReviewSpec
authorization.SelfSubjectRulesReviewSpec: 1 namespace s
autoscaling.Scale: 1 metadata meta.ObjectMeta, 2 spec autoscaling.ScaleSpec
autoscaling.ScaleSpec: 1 replicas i
coordination.Lease: 1 metadata meta.ObjectMeta, 2 spec coordination.LeaseSpec
coordination.LeaseSpec: 1 holderIdentity &s, 2 leaseDurationSeconds &i, 3 acquireTime meta.MicroTime, 4 renewTime meta.MicroTime, 5 leaseTransitions &i, 6 strategy &s, 7 preferredHolder &s
core.Affinity: 1 nodeAffinity core.NodeAffinity, 2 podAffinity core.PodAffinity, 3 podAntiAffinity core.PodAntiAffinity
core.AppArmorProfile: 1 type s, 2 localhostProfile &s
core.Binding: 1 metadata meta.ObjectMeta, 2 target core.ObjectReference
core.Capabilities: 1 add *s, 2 drop *s
core.ClientIPConfig: 1 timeoutSeconds &i
core.ClusterTrustBundleProjection: 1 name &s, 2 signerName &s, 3 labelSelector meta.LabelSelector, 5 optional &o, 4 path s
core.ConfigMap: 1 metadata meta.ObjectMeta, 4 immutable &o, 2 data %s, 3 binaryData %b
core.ConfigMapEnvSource: 1 localObjectReference =core.LocalObjectReference, 2 optional &o
core.ConfigMapKeySelector: 1 localObjectReference =core.LocalObjectReference, 2 key s, 3 optional &o
core.ConfigMapNodeConfigSource: 1 namespace s, 2 name s, 3 uid s, 4 resourceVersion s, 5 kubeletConfigKey s
core.ConfigMapProjection: 1 localObjectReference =core.LocalObjectReference, 2 items *core.KeyToPath, 4 optional &o
core.ConfigMapVolumeSource: 1 localObjectReference =core.LocalObjectReference, 2 items *core.KeyToPath, 3 defaultMode &i, 4 optional &o
core.Container: 1 name s, 2 image s, 3 command *s, 4 args *s, 5 workingDir s, 6 ports *core.ContainerPort, 19 envFrom *core.EnvFromSource, 7 env *core.EnvVar, 8 resources core.ResourceRequirements, 23 resizePolicy *core.ContainerResizePolicy, 24 restartPolicy &s, 9 volumeMounts *core.VolumeMount, 21 volumeDevices *core.VolumeDevice, 10 livenessProbe core.Probe, 11 readinessProbe core.Probe, 22 startupProbe core.Probe, 12 lifecycle core.Lifecycle, 13 terminationMessagePath s, 20 terminationMessagePolicy s, 14 imagePullPolicy s, 15 securityContext core.SecurityContext, 16 stdin o, 17 stdinOnce o, 18 tty o
core.ContainerPort: 1 name s, 2 hostPort i, 3 containerPort i, 4 protocol s, 5 hostIP s
core.ContainerResizePolicy: 1 resourceName s, 2 restartPolicy s
core.DownwardAPIProjection: 1 items *core.DownwardAPIVolumeFile
core.DownwardAPIVolumeFile: 1 path s, 2 fieldRef core.ObjectFieldSelector, 3 resourceFieldRef core.ResourceFieldSelector, 4 mode &i
core.DownwardAPIVolumeSource: 1 items *core.DownwardAPIVolumeFile, 2 defaultMode &i
core.EmptyDirVolumeSource: 1 medium s, 2 sizeLimit resource.Quantity
core.EndpointAddress: 1 ip s, 3 hostname s, 4 nodeName &s, 2 targetRef core.ObjectReference
core.EndpointPort: 1 name s, 2 port i, 3 protocol s, 4 appProtocol &s
core.EndpointSubset: 1 addresses *core.EndpointAddress, 2 notReadyAddresses *core.EndpointAddress, 3 ports *core.EndpointPort
core.Endpoints: 1 metadata meta.ObjectMeta, 2 subsets *core.EndpointSubset
core.EnvFromSource: 1 prefix s, 2 configMapRef core.ConfigMapEnvSource, 3 secretRef core.SecretEnvSource
core.EnvVar: 1 name s, 2 value s, 3 valueFrom core.EnvVarSource
core.EnvVarSource: 1 fieldRef core.ObjectFieldSelector, 2 resourceFieldRef core.ResourceFieldSelector, 3 configMapKeyRef core.ConfigMapKeySelector, 4 secretKeyRef core.SecretKeySelector
core.EphemeralContainer: 1 ephemeralContainerCommon =core.EphemeralContainerCommon, 2 targetContainerName s
core.EphemeralContainerCommon: 1 name s, 2 image s, 3 command *s, 4 args *s, 5 workingDir s, 6 ports *core.ContainerPort, 19 envFrom *core.EnvFromSource, 7 env *core.EnvVar, 8 resources core.ResourceRequirements, 23 resizePolicy *core.ContainerResizePolicy, 24 restartPolicy &s, 9 volumeMounts *core.VolumeMount, 21 volumeDevices *core.VolumeDevice, 10 livenessProbe core.Probe, 11 readinessProbe core.Probe, 22 startupProbe core.Probe, 12 lifecycle core.Lifecycle, 13 terminationMessagePath s, 20 terminationMessagePolicy s, 14 imagePullPolicy s, 15 securityContext core.SecurityContext, 16 stdin o, 17 stdinOnce o, 18 tty o
core.Event: 1 metadata meta.ObjectMeta, 2 involvedObject core.ObjectReference, 3 reason s, 4 message s, 5 source core.EventSource, 6 firstTimestamp meta.Time, 7 lastTimestamp meta.Time, 8 count i, 9 type s, 10 eventTime meta.MicroTime, 11 series core.EventSeries, 12 action s, 13 related core.ObjectReference, 14 reportingComponent s, 15 reportingInstance s
core.EventSeries: 1 count i, 2 lastObservedTime meta.MicroTime
core.EventSource: 1 component s, 2 host s
core.ExecAction: 1 command *s
core.GRPCAction: 1 port i, 2 service &s
core.HTTPGetAction: 1 path s, 2 port intstr.IntOrString, 3 host s, 4 scheme s, 5 httpHeaders *core.HTTPHeader
core.HTTPHeader: 1 name s, 2 value s
core.HostAlias: 1 ip s, 2 hostnames *s
core.HostPathVolumeSource: 1 path s, 2 type &s
core.KeyToPath: 1 key s, 2 path s, 3 mode &i
core.Lifecycle: 1 postStart core.LifecycleHandler, 2 preStop core.LifecycleHandler, 3 stopSignal &s
core.LifecycleHandler: 1 exec core.ExecAction, 2 httpGet core.HTTPGetAction, 3 tcpSocket core.TCPSocketAction, 4 sleep core.SleepAction
core.LocalObjectReference: 1 name s
core.Namespace: 1 metadata meta.ObjectMeta, 2 spec core.NamespaceSpec
core.NamespaceSpec: 1 finalizers *s
core.Node: 1 metadata meta.ObjectMeta, 2 spec core.NodeSpec
core.NodeAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution core.NodeSelector, 2 preferredDuringSchedulingIgnoredDuringExecution *core.PreferredSchedulingTerm
core.NodeConfigSource: 2 configMap core.ConfigMapNodeConfigSource
core.NodeSelector: 1 nodeSelectorTerms *core.NodeSelectorTerm
core.NodeSelectorRequirement: 1 key s, 2 operator s, 3 values *s
core.NodeSelectorTerm: 1 matchExpressions *core.NodeSelectorRequirement, 2 matchFields *core.NodeSelectorRequirement
core.NodeSpec: 1 podCIDR s, 7 podCIDRs *s, 3 providerID s, 4 unschedulable o, 5 taints *core.Taint, 6 configSource core.NodeConfigSource, 2 externalID s
core.ObjectFieldSelector: 1 apiVersion s, 2 fieldPath s
core.ObjectReference: 1 kind s, 2 namespace s, 3 name s, 4 uid s, 5 apiVersion s, 6 resourceVersion s, 7 fieldPath s
core.Pod: 1 metadata meta.ObjectMeta, 2 spec core.PodSpec
core.PodAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution *core.PodAffinityTerm, 2 preferredDuringSchedulingIgnoredDuringExecution *core.WeightedPodAffinityTerm
core.PodAffinityTerm: 1 labelSelector meta.LabelSelector, 2 namespaces *s, 3 topologyKey s, 4 namespaceSelector meta.LabelSelector, 5 matchLabelKeys *s, 6 mismatchLabelKeys *s
core.PodAntiAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution *core.PodAffinityTerm, 2 preferredDuringSchedulingIgnoredDuringExecution *core.WeightedPodAffinityTerm
core.PodDNSConfig: 1 nameservers *s, 2 searches *s, 3 options *core.PodDNSConfigOption
core.PodDNSConfigOption: 1 name s, 2 value &s
core.PodOS: 1 name s
core.PodReadinessGate: 1 conditionType s
core.PodResourceClaim: 1 name s, 3 resourceClaimName &s, 4 resourceClaimTemplateName &s
core.PodSchedulingGate: 1 name s
core.PodSecurityContext: 1 seLinuxOptions core.SELinuxOptions, 8 windowsOptions core.WindowsSecurityContextOptions, 2 runAsUser &i, 6 runAsGroup &i, 3 runAsNonRoot &o, 4 supplementalGroups *i, 12 supplementalGroupsPolicy &s, 5 fsGroup &i, 7 sysctls *core.Sysctl, 9 fsGroupChangePolicy &s, 10 seccompProfile core.SeccompProfile, 11 appArmorProfile core.AppArmorProfile, 13 seLinuxChangePolicy &s
core.PodSpec: 1 volumes *core.Volume, 20 initContainers *core.Container, 2 containers *core.Container, 34 ephemeralContainers *core.EphemeralContainer, 3 restartPolicy s, 4 terminationGracePeriodSeconds &i, 5 activeDeadlineSeconds &i, 6 dnsPolicy s, 7 nodeSelector %s, 8 serviceAccountName s, 9 serviceAccount s, 21 automountServiceAccountToken &o, 10 nodeName s, 11 hostNetwork o, 12 hostPID o, 13 hostIPC o, 27 shareProcessNamespace &o, 14 securityContext core.PodSecurityContext, 15 imagePullSecrets *core.LocalObjectReference, 16 hostname s, 17 subdomain s, 18 affinity core.Affinity, 19 schedulerName s, 22 tolerations *core.Toleration, 23 hostAliases *core.HostAlias, 24 priorityClassName s, 25 priority &i, 26 dnsConfig core.PodDNSConfig, 28 readinessGates *core.PodReadinessGate, 29 runtimeClassName &s, 30 enableServiceLinks &o, 31 preemptionPolicy &s, 32 overhead %resource.Quantity, 33 topologySpreadConstraints *core.TopologySpreadConstraint, 35 setHostnameAsFQDN &o, 36 os core.PodOS, 37 hostUsers &o, 38 schedulingGates *core.PodSchedulingGate, 39 resourceClaims *core.PodResourceClaim, 40 resources core.ResourceRequirements
core.PodTemplateSpec: 1 metadata meta.ObjectMeta, 2 spec core.PodSpec
core.PreferredSchedulingTerm: 1 weight i, 2 preference core.NodeSelectorTerm
core.Probe: 1 handler =core.ProbeHandler, 2 initialDelaySeconds i, 3 timeoutSeconds i, 4 periodSeconds i, 5 successThreshold i, 6 failureThreshold i, 7 terminationGracePeriodSeconds &i
core.ProbeHandler: 1 exec core.ExecAction, 2 httpGet core.HTTPGetAction, 3 tcpSocket core.TCPSocketAction, 4 grpc core.GRPCAction
core.ProjectedVolumeSource: 1 sources *core.VolumeProjection, 2 defaultMode &i
core.ResourceClaim: 1 name s, 2 request s
core.ResourceFieldSelector: 1 containerName s, 2 resource s, 3 divisor resource.Quantity
core.ResourceRequirements: 1 limits %resource.Quantity, 2 requests %resource.Quantity, 3 claims *core.ResourceClaim
core.SELinuxOptions: 1 user s, 2 role s, 3 type s, 4 level s
core.SeccompProfile: 1 type s, 2 localhostProfile &s
core.Secret: 1 metadata meta.ObjectMeta, 5 immutable &o, 2 data %b, 4 stringData %s, 3 type s
core.SecretEnvSource: 1 localObjectReference =core.LocalObjectReference, 2 optional &o
core.SecretKeySelector: 1 localObjectReference =core.LocalObjectReference, 2 key s, 3 optional &o
core.SecretProjection: 1 localObjectReference =core.LocalObjectReference, 2 items *core.KeyToPath, 4 optional &o
core.SecretVolumeSource: 1 secretName s, 2 items *core.KeyToPath, 3 defaultMode &i, 4 optional &o
core.SecurityContext: 1 capabilities core.Capabilities, 2 privileged &o, 3 seLinuxOptions core.SELinuxOptions, 10 windowsOptions core.WindowsSecurityContextOptions, 4 runAsUser &i, 8 runAsGroup &i, 5 runAsNonRoot &o, 6 readOnlyRootFilesystem &o, 7 allowPrivilegeEscalation &o, 9 procMount &s, 11 seccompProfile core.SeccompProfile, 12 appArmorProfile core.AppArmorProfile
core.Service: 1 metadata meta.ObjectMeta, 2 spec core.ServiceSpec
core.ServiceAccount: 1 metadata meta.ObjectMeta, 2 secrets *core.ObjectReference, 3 imagePullSecrets *core.LocalObjectReference, 4 automountServiceAccountToken &o
core.ServiceAccountTokenProjection: 1 audience s, 2 expirationSeconds &i, 3 path s
core.ServicePort: 1 name s, 2 protocol s, 6 appProtocol &s, 3 port i, 4 targetPort intstr.IntOrString, 5 nodePort i
core.ServiceSpec: 1 ports *core.ServicePort, 2 selector %s, 3 clusterIP s, 18 clusterIPs *s, 4 type s, 5 externalIPs *s, 7 sessionAffinity s, 8 loadBalancerIP s, 9 loadBalancerSourceRanges *s, 10 externalName s, 11 externalTrafficPolicy s, 12 healthCheckNodePort i, 13 publishNotReadyAddresses o, 14 sessionAffinityConfig core.SessionAffinityConfig, 19 ipFamilies *s, 17 ipFamilyPolicy &s, 20 allocateLoadBalancerNodePorts &o, 21 loadBalancerClass &s, 22 internalTrafficPolicy &s, 23 trafficDistribution &s
core.SessionAffinityConfig: 1 clientIP core.ClientIPConfig
core.SleepAction: 1 seconds i
core.Sysctl: 1 name s, 2 value s
core.TCPSocketAction: 1 port intstr.IntOrString, 2 host s
core.Taint: 1 key s, 2 value s, 3 effect s, 4 timeAdded meta.Time
core.Toleration: 1 key s, 2 operator s, 3 value s, 4 effect s, 5 tolerationSeconds &i
core.TopologySpreadConstraint: 1 maxSkew i, 2 topologyKey s, 3 whenUnsatisfiable s, 4 labelSelector meta.LabelSelector, 5 minDomains &i, 6 nodeAffinityPolicy &s, 7 nodeTaintsPolicy &s, 8 matchLabelKeys *s
core.Volume: 1 name s, 2 volumeSource =core.VolumeSource
core.VolumeDevice: 1 name s, 2 devicePath s
core.VolumeMount: 1 name s, 2 readOnly o, 7 recursiveReadOnly &s, 3 mountPath s, 4 subPath s, 5 mountPropagation &s, 6 subPathExpr s
core.VolumeProjection: 1 secret core.SecretProjection, 2 downwardAPI core.DownwardAPIProjection, 3 configMap core.ConfigMapProjection, 4 serviceAccountToken core.ServiceAccountTokenProjection, 5 clusterTrustBundle core.ClusterTrustBundleProjection
core.VolumeSource: 1 hostPath core.HostPathVolumeSource, 2 emptyDir core.EmptyDirVolumeSource, 6 secret core.SecretVolumeSource, 16 downwardAPI core.DownwardAPIVolumeSource, 19 configMap core.ConfigMapVolumeSource, 26 projected core.ProjectedVolumeSource
core.WeightedPodAffinityTerm: 1 weight i, 2 podAffinityTerm core.PodAffinityTerm
core.WindowsSecurityContextOptions: 1 gmsaCredentialSpecName &s, 2 gmsaCredentialSpec &s, 3 runAsUserName &s, 4 hostProcess &o
discovery.Endpoint: 1 addresses *s, 2 conditions discovery.EndpointConditions, 3 hostname &s, 4 targetRef core.ObjectReference, 5 deprecatedTopology %s, 6 nodeName &s, 7 zone &s, 8 hints discovery.EndpointHints
discovery.EndpointConditions: 1 ready &o, 2 serving &o, 3 terminating &o
discovery.EndpointHints: 1 forZones *discovery.ForZone, 2 forNodes *discovery.ForNode
discovery.EndpointPort: 1 name &s, 2 protocol &s, 3 port &i, 4 appProtocol &s
discovery.EndpointSlice: 1 metadata meta.ObjectMeta, 4 addressType s, 2 endpoints *discovery.Endpoint, 3 ports *discovery.EndpointPort
discovery.ForNode: 1 name s
discovery.ForZone: 1 name s
events.Event: 1 metadata meta.ObjectMeta, 2 eventTime meta.MicroTime, 3 series events.EventSeries, 4 reportingController s, 5 reportingInstance s, 6 action s, 7 reason s, 8 regarding core.ObjectReference, 9 related core.ObjectReference, 10 note s, 11 type s, 12 deprecatedSource core.EventSource, 13 deprecatedFirstTimestamp meta.Time, 14 deprecatedLastTimestamp meta.Time, 15 deprecatedCount i
events.EventSeries: 1 count i, 2 lastObservedTime meta.MicroTime
meta.DeleteOptions: 1 gracePeriodSeconds &i, 2 preconditions meta.Preconditions, 3 orphanDependents &o, 4 propagationPolicy &s, 5 dryRun *s, 6 ignoreStoreReadErrorWithClusterBreakingPotential &o
meta.FieldSelectorRequirement: 1 key s, 2 operator s, 3 values *s
meta.LabelSelector: 1 matchLabels %s, 2 matchExpressions *meta.LabelSelectorRequirement
meta.LabelSelectorRequirement: 1 key s, 2 operator s, 3 values *s
meta.ObjectMeta: 1 name s, 2 generateName s, 3 namespace s, 4 selfLink s, 5 uid s, 6 resourceVersion s, 7 generation i, 8 creationTimestamp meta.Time, 9 deletionTimestamp meta.Time, 10 deletionGracePeriodSeconds &i, 11 labels %s, 12 annotations %s, 13 ownerReferences *meta.OwnerReference, 14 finalizers *s
meta.OwnerReference: 5 apiVersion s, 1 kind s, 3 name s, 4 uid s, 6 controller &o, 7 blockOwnerDeletion &o
meta.Preconditions: 1 uid &s, 2 resourceVersion &s
policy.Eviction: 1 metadata meta.ObjectMeta, 2 deleteOptions meta.DeleteOptions
policy.PodDisruptionBudget: 1 metadata meta.ObjectMeta, 2 spec policy.PodDisruptionBudgetSpec
policy.PodDisruptionBudgetSpec: 1 minAvailable &intstr.IntOrString, 2 selector meta.LabelSelector, 3 maxUnavailable &intstr.IntOrString, 4 unhealthyPodEvictionPolicy &s
rbac.AggregationRule: 1 clusterRoleSelectors *meta.LabelSelector
rbac.ClusterRole: 1 metadata meta.ObjectMeta, 2 rules *rbac.PolicyRule, 3 aggregationRule rbac.AggregationRule
rbac.ClusterRoleBinding: 1 metadata meta.ObjectMeta, 2 subjects *rbac.Subject, 3 roleRef rbac.RoleRef
rbac.PolicyRule: 1 verbs *s, 2 apiGroups *s, 3 resources *s, 4 resourceNames *s, 5 nonResourceURLs *s
rbac.Role: 1 metadata meta.ObjectMeta, 2 rules *rbac.PolicyRule
rbac.RoleBinding: 1 metadata meta.ObjectMeta, 2 subjects *rbac.Subject, 3 roleRef rbac.RoleRef
rbac.RoleRef: 1 apiGroup s, 2 kind s, 3 name s
rbac.Subject: 1 kind s, 2 apiGroup s, 3 name s, 4 namespace s
`
