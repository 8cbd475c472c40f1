package plan

import "strings"

// Prefix begins every label and annotation that is Holdfast's own. On Nodes only the hub writes them: an admission
// policy denies them to the node.
const Prefix = "fleet.holdfast.dev/"

// PoolLabel is the label that carries a node's pool.
const PoolLabel = Prefix + "pool"

// kubeletLabels and kubeletNamespaces are the labels under kubernetes.io and k8s.io that Kubernetes' NodeRestriction
// admission lets a node set on itself (k8s.io/kubelet/pkg/apis, well_known_labels.go, as of Kubernetes 1.37).
var (
	kubeletLabels = map[string]bool{
		"kubernetes.io/hostname":                   true,
		"topology.kubernetes.io/zone":              true,
		"topology.kubernetes.io/region":            true,
		"failure-domain.beta.kubernetes.io/zone":   true,
		"failure-domain.beta.kubernetes.io/region": true,
		"beta.kubernetes.io/instance-type":         true,
		"node.kubernetes.io/instance-type":         true,
		"kubernetes.io/os":                         true,
		"kubernetes.io/arch":                       true,
		"beta.kubernetes.io/os":                    true,
		"beta.kubernetes.io/arch":                  true,
	}
	kubeletNamespaces = []string{"kubelet.kubernetes.io", "node.kubernetes.io"}
)

// NodeMaySet says who sets a label on a Node: true, the node itself; false, the hub. The node sets what NodeRestriction
// and Holdfast's own admission policy let it set. Agent and hub share this function, so every label has exactly one writer.
func NodeMaySet(label string) bool {
	if Reserved(label) {
		return false
	}
	namespace, _, found := strings.Cut(label, "/")
	switch {
	case !found:
		return true
	case within(namespace, "node-restriction.kubernetes.io"):
		return false
	case !within(namespace, "kubernetes.io") && !within(namespace, "k8s.io"):
		return true
	case kubeletLabels[label]:
		return true
	}
	for _, allowed := range kubeletNamespaces {
		if within(namespace, allowed) {
			return true
		}
	}
	return false
}

// Reserved says whether a label or annotation is Holdfast's own: only the hub writes it, and no fleet may declare it.
func Reserved(key string) bool { return strings.HasPrefix(key, Prefix) }

// within says whether namespace is domain or below it.
func within(namespace, domain string) bool {
	return namespace == domain || strings.HasSuffix(namespace, "."+domain)
}
