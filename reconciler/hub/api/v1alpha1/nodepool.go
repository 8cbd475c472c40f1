package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodePool is one pool of the fleet: nodes on one site or LAN. The hub writes spec and status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=npool,categories=holdfast
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.ready`
// +kubebuilder:printcolumn:name="Synced",type=integer,JSONPath=`.status.synced`
// +kubebuilder:printcolumn:name="Verified",type=string,JSONPath=`.status.conditions[?(@.type=="Verified")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Verified")].reason`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",message="a pool's name is a DNS label: at most 63 characters, no dots"
type NodePool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the signed revision says of the pool.
	// +required
	Spec NodePoolSpec `json:"spec"`
	// status is what the hub sees of the pool.
	// +optional
	Status NodePoolStatus `json:"status,omitzero"`
}

// NodePoolSpec is what the signed revision says of the pool.
type NodePoolSpec struct {
	// fleet is the fleet's id.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a pool does not change fleets: delete the NodePool first"
	Fleet string `json:"fleet"`
	// displayName is the pool's name for people.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	DisplayName string `json:"displayName,omitempty"`
	// type is what kind of site the pool is.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Type string `json:"type,omitempty"`
	// labels are the labels that every node of the pool carries.
	// +optional
	// +kubebuilder:validation:MaxProperties=128
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('fleet.holdfast.dev/'))",message="keys under fleet.holdfast.dev/ are the hub's own"
	Labels map[string]LabelValue `json:"labels,omitempty"`
	// annotations are the annotations that every node of the pool carries.
	// +optional
	// +kubebuilder:validation:MaxProperties=128
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('fleet.holdfast.dev/'))",message="keys under fleet.holdfast.dev/ are the hub's own"
	Annotations map[string]string `json:"annotations,omitempty"`
	// taints are the taints that every node of the pool carries.
	// +optional
	// +listType=map
	// +listMapKey=key
	// +listMapKey=effect
	// +kubebuilder:validation:MaxItems=64
	Taints []Taint `json:"taints,omitempty"`
	// autonomySeconds is for how long pods of the pool's nodes are kept on a node that cannot be reached. Without it the pods'
	// own tolerations say, which mostly is 300 seconds.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=36000000000
	AutonomySeconds int64 `json:"autonomySeconds,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// Taint is a Kubernetes taint.
type Taint struct {
	// key is the taint's key.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Key string `json:"key"`
	// value is the taint's value.
	// +optional
	Value LabelValue `json:"value,omitempty"`
	// effect is what the taint does to pods that do not tolerate it.
	// +required
	// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
	Effect string `json:"effect"`
}

// NodePoolStatus is what the hub sees of the pool.
type NodePoolStatus struct {
	// observedGeneration is the generation that this status belongs to.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// revision is the revision whose plan the hub rolled out.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{40}$`
	Revision string `json:"revision,omitempty"`
	// nodes is how many nodes the pool has.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Nodes int32 `json:"nodes"`
	// ready is how many of them say they are Ready and whose kubelet Kubernetes calls Ready.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Ready int32 `json:"ready"`
	// synced is how many of them have the newest plan in force.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Synced int32 `json:"synced"`
	// revisions are the revisions that the nodes have accepted, the one with most nodes first. The rarest are left out past 16.
	// +optional
	// +listType=map
	// +listMapKey=revision
	// +kubebuilder:validation:MaxItems=16
	Revisions []RevisionInUse `json:"revisions,omitempty"`
	// conditions: Ready (every node is), Synced (every node is), SourceReady (the fleet repo was read), Verified (the newest
	// revision was accepted; False says why not), PlanReady (the accepted revision gave the pool a plan).
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RevisionInUse is one revision and how many nodes of the pool have it.
type RevisionInUse struct {
	// revision is the commit.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{40}$`
	Revision string `json:"revision"`
	// nodes is how many nodes accepted it last.
	// +required
	// +kubebuilder:validation:Minimum=1
	Nodes int32 `json:"nodes"`
}

// NodePoolList is a list of NodePools.
//
// +kubebuilder:object:root=true
type NodePoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodePool `json:"items"`
}
