package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// EdgeNode is one node of the fleet. Its name is the name of the Node. The hub writes spec, the node itself status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=en,categories=holdfast
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Verified",type=string,JSONPath=`.status.conditions[?(@.type=="Verified")].status`,priority=1
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.agentVersion`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EdgeNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the signed revision says of the node. The hub writes it.
	// +required
	Spec EdgeNodeSpec `json:"spec"`
	// status is what the node reports of itself. Only the node writes it.
	// +optional
	Status EdgeNodeStatus `json:"status,omitzero"`
}

// EdgeNodeSpec is what the signed revision says of the node.
type EdgeNodeSpec struct {
	// fleet is the fleet's id.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a node does not change fleets: delete the EdgeNode first"
	Fleet string `json:"fleet"`
	// pool is the pool that the node belongs to.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Pool string `json:"pool"`
	// planDigest is the digest of the node's plan at the newest accepted revision. The node is synced when
	// status.planDigest is the same.
	// +optional
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	PlanDigest string `json:"planDigest,omitempty"`
}

// EdgeNodeStatus is what the node reports of itself.
type EdgeNodeStatus struct {
	// observedGeneration is the generation of the EdgeNode that the node saw when it reported.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// revision is the last revision that the node accepted.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{40}$`
	Revision string `json:"revision,omitempty"`
	// planDigest is the digest of the plan in force on the node.
	// +optional
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	PlanDigest string `json:"planDigest,omitempty"`
	// pool is the pool whose plan is in force on the node.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Pool string `json:"pool,omitempty"`
	// agentVersion is the version of the node's agent.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	AgentVersion string `json:"agentVersion,omitempty"`
	// lastReportTime is when the node made this report, by its own clock.
	// +optional
	LastReportTime *metav1.Time `json:"lastReportTime,omitempty"`
	// conditions are the latest words of the agent's parts: Ready, SourceReady, Verified, PlanReady, Stale, NodePoolReady.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EdgeNodeList is a list of EdgeNodes.
//
// +kubebuilder:object:root=true
type EdgeNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EdgeNode `json:"items"`
}
