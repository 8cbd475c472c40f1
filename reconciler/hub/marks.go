package hub

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

const (
	// fieldManager owns what the hub sets on Nodes by server-side apply.
	fieldManager = "holdfast-hub"
	// fleetAnnotation says on a Node whose hub marked it.
	fleetAnnotation = plan.Prefix + "fleet"
	// taintsAnnotation remembers which taints of a Node the hub set: the taints are one atomic list, so field ownership
	// cannot tell.
	taintsAnnotation = plan.Prefix + "taints"
	// uninitializedTaint keeps pods off a new node until it carries its labels and taints. Kubelets register with it; the
	// hub takes it away last.
	uninitializedTaint = plan.Prefix + "uninitialized"
)

// marks is what the hub sets on one Node, and only the hub.
type marks struct {
	labels      map[string]string
	annotations map[string]string
	taints      []plan.Taint
}

// marksOf gives the hub's part of a node's plan: the pool label, the labels the node may not set itself, all taints. For
// nil, a node that left the fleet, there are none.
func marksOf(n *plan.Node) marks {
	if n == nil {
		return marks{}
	}
	m := marks{
		labels:      map[string]string{plan.PoolLabel: n.Pool},
		annotations: map[string]string{fleetAnnotation: n.Fleet},
	}
	for k, v := range n.Labels {
		if !plan.NodeMaySet(k) && !plan.Reserved(k) {
			m.labels[k] = v
		}
	}
	for _, t := range n.Taints {
		if !plan.Reserved(t.Key) {
			m.taints = append(m.taints, t)
		}
	}
	return m
}

// onNode tells whether the Node carries exactly these labels and annotations of the hub: the right values, and nothing
// left over that the hub owns by an earlier plan.
func (m marks) onNode(node *corev1.Node) bool {
	labels, annotations := applied(node.ManagedFields)
	return len(m.leftover(node)) == 0 && carries(node.Labels, m.labels, labels) && carries(node.Annotations, m.annotations, annotations)
}

// leftover gives the labels that the hub set by an earlier plan and that are to go. What they are is told by field ownership
// and, for those of Holdfast, by their names.
func (m marks) leftover(node *corev1.Node) []string {
	owned, _ := applied(node.ManagedFields)
	var out []string
	for k := range node.Labels {
		if _, wanted := m.labels[k]; !wanted && (plan.Reserved(k) || slices.Contains(owned, k)) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func carries(observed, want map[string]string, owned []string) bool {
	for k, v := range want {
		if got, ok := observed[k]; !ok || got != v {
			return false
		}
	}
	return slices.Equal(owned, slices.Sorted(maps.Keys(want)))
}

// applied gives the keys of the labels and annotations that the hub owns by server-side apply, sorted.
func applied(entries []metav1.ManagedFieldsEntry) (labels, annotations []string) {
	for _, e := range entries {
		if e.Manager != fieldManager || e.Operation != metav1.ManagedFieldsOperationApply || e.Subresource != "" || e.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Metadata struct {
				Labels      map[string]json.RawMessage `json:"f:labels"`
				Annotations map[string]json.RawMessage `json:"f:annotations"`
			} `json:"f:metadata"`
		}
		if json.Unmarshal(e.FieldsV1.GetRawBytes(), &fields) == nil {
			return fieldKeys(fields.Metadata.Labels), fieldKeys(fields.Metadata.Annotations)
		}
	}
	return nil, nil
}

// fieldKeys gives the keys of a set in the form of fieldsV1: "f:key", and "." for the map itself.
func fieldKeys(set map[string]json.RawMessage) []string {
	var keys []string
	for k := range set {
		if len(k) > 2 && k[:2] == "f:" {
			keys = append(keys, k[2:])
		}
	}
	slices.Sort(keys)
	return keys
}
