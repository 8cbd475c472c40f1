// Package plan holds what a fleet definition comes to, as plain data: what one node must be, and what a pool is.
//
// A plan is a pure function of a revision. It is the only thing the domains (nodepool, tunnel, device, mirror, release)
// share, so this package is a leaf: it imports nothing but the standard library.
package plan

// Node is what one node must be. Slices are sorted and maps are never nil-versus-empty significant, so that equal
// plans have equal canonical JSON.
type Node struct {
	// Fleet is the fleet's id, as trust/policy.json has it.
	Fleet string `json:"fleet"`
	// Pool is the pool the node belongs to.
	Pool string `json:"pool"`
	// Name is the Kubernetes node name: a DNS-1123 subdomain.
	Name string `json:"name"`
	// Arch is the node's architecture in GOARCH's words: amd64, arm64, arm, riscv64.
	Arch string `json:"arch"`
	// Labels are the labels the Node object must carry. Which of them the node may set itself is nodepool's business.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations are the annotations the Node object must carry.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Taints are the taints the Node object must carry, sorted by key and effect. The hub writes them.
	Taints []Taint `json:"taints,omitempty"`
	// Hardware is what is known of the machine.
	Hardware Hardware `json:"hardware,omitzero"`
	// Agent is how the node's agent behaves.
	Agent Agent `json:"agent"`
}

// Taint is a Kubernetes taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Hardware is what is known of a machine: facts for people and for rules, not for the agent.
type Hardware struct {
	Vendor   string            `json:"vendor,omitempty"`
	Model    string            `json:"model,omitempty"`
	Serial   string            `json:"serial,omitempty"`
	CPUs     int64             `json:"cpus,omitempty"`
	MemoryMB int64             `json:"memoryMB,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
}

// Agent is how an agent behaves.
type Agent struct {
	// PollInterval is the mean time between two polls of the fleet repo.
	PollInterval Duration `json:"pollInterval"`
	// Freshness is how old the newest accepted revision may be before the node calls itself Stale. Zero: never.
	Freshness Duration `json:"freshness,omitempty"`
	// Limits bound the agent's child processes.
	Limits Limits `json:"limits"`
	// Proxy is how the node's autonomy proxy behaves.
	Proxy Proxy `json:"proxy,omitzero"`
}

// Proxy is how an autonomy proxy behaves.
type Proxy struct {
	// CacheMB bounds the proxy's cache on disk, in MiB.
	CacheMB int64 `json:"cacheMB,omitempty"`
	// NeverCache are the resources that are not kept, as RESOURCE or RESOURCE.GROUP, sorted: "endpointslices.discovery.k8s.io".
	NeverCache []string `json:"neverCache,omitempty"`
	// Upstreams are the API servers' addresses, "https://HOST:PORT", the preferred first. None: the one of the kubeconfig given
	// at enrolment.
	Upstreams []string `json:"upstreams,omitempty"`
}

// Limits bound what a revision may cost a node.
type Limits struct {
	// MemoryMB bounds the writable memory of a child process, in MiB.
	MemoryMB int64 `json:"memoryMB"`
	// CPU bounds the processor time of a child process.
	CPU Duration `json:"cpu"`
	// RepoMB bounds the clone on disk, in MiB.
	RepoMB int64 `json:"repoMB"`
}

// Pool is one pool with its nodes: the unit of evaluation.
type Pool struct {
	Fleet string `json:"fleet"`
	// Name is the pool's name, which is also the name of its folder under pools/.
	Name        string            `json:"name"`
	DisplayName string            `json:"displayName,omitempty"`
	Type        string            `json:"type"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Taints      []Taint           `json:"taints,omitempty"`
	// AutonomyDuration is how long a node of the pool that cannot be reached keeps its pods. Zero: as long as Kubernetes and
	// the pods themselves say.
	AutonomyDuration Duration `json:"autonomyDuration,omitempty"`
	// Nodes are sorted by name.
	Nodes []Node `json:"nodes,omitempty"`
	// MovedTo names, for nodes that left this pool, the pool they moved to.
	MovedTo map[string]string `json:"movedTo,omitempty"`
}

// Node gives the pool's node of that name, or nil.
func (p *Pool) Node(name string) *Node {
	for i := range p.Nodes {
		if p.Nodes[i].Name == name {
			return &p.Nodes[i]
		}
	}
	return nil
}
