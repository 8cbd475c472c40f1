package hub

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

const (
	// fieldManager is the hub's name as a writer of objects.
	fieldManager = "holdfast-hub"
	// fleetAnnotation says on a Node whose hub marked it.
	fleetAnnotation = plan.Prefix + "fleet"
	// labelsAnnotation and taintsAnnotation remember which labels and taints of a Node the hub set. Field ownership cannot
	// tell: a node may write the managedFields of its Node.
	labelsAnnotation = plan.Prefix + "labels"
	taintsAnnotation = plan.Prefix + "taints"
	// uninitializedTaint keeps pods off a new node until it carries its labels and taints. Kubelets register with it; the
	// hub takes it away in the write that sets them.
	uninitializedTaint = plan.Prefix + "uninitialized"
)

// recordAnnotations are the annotations of marks.record.
var recordAnnotations = []string{fleetAnnotation, labelsAnnotation, taintsAnnotation}

// marks is what the hub sets on one Node, and only the hub.
type marks struct {
	fleet  string
	labels map[string]string
	taints []plan.Taint
}

// marksOf gives the hub's part of a node's plan: the pool label, the labels the node may not set itself, all taints. For
// nil, a node that left the fleet, there are none.
func marksOf(n *plan.Node) marks {
	if n == nil {
		return marks{}
	}
	m := marks{fleet: n.Fleet, labels: map[string]string{plan.PoolLabel: n.Pool}}
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

// record gives the annotations that remember on the Node what the hub set: whose it is, which labels, which taints. No node
// may write them.
func (m marks) record() map[string]string {
	out := map[string]string{}
	for name, text := range map[string]string{fleetAnnotation: m.fleet, labelsAnnotation: formatLabels(m.labels), taintsAnnotation: formatOwned(m.taints)} {
		if text != "" {
			out[name] = text
		}
	}
	return out
}

// patch gives the merge patch that brings the Node to m, or nil if it is there. What leaves the plan is told by the record
// and, for labels of Holdfast, by their names. Marks and record are one write, so neither is ever without the other; it holds
// only for the resourceVersion that it was made from.
func (m marks) patch(node *corev1.Node) ([]byte, error) {
	set := parseLabels(node.Annotations[labelsAnnotation])
	labels := difference(node.Labels, m.labels, func(k string) bool { return plan.Reserved(k) || slices.Contains(set, k) })
	annotations := difference(node.Annotations, m.record(), func(k string) bool { return slices.Contains(recordAnnotations, k) })
	metadata := map[string]any{}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	patch := map[string]any{"metadata": metadata}
	merged := mergeTaints(node.Spec.Taints, parseOwned(node.Annotations[taintsAnnotation]), m.taints)
	if !apiequality.Semantic.DeepEqual(merged, node.Spec.Taints) {
		patch["spec"] = map[string]any{"taints": merged}
	} else if len(metadata) == 0 {
		return nil, nil
	}
	metadata["resourceVersion"] = node.ResourceVersion
	return json.Marshal(patch)
}

// difference gives what a merge patch has to say of a map: what is wanted and not there, and null for what was ours and is
// not wanted any more.
func difference(observed, want map[string]string, ours func(key string) bool) map[string]any {
	diff := map[string]any{}
	for k, v := range want {
		if have, ok := observed[k]; !ok || have != v {
			diff[k] = v
		}
	}
	for k := range observed {
		if _, wanted := want[k]; !wanted && ours(k) {
			diff[k] = nil
		}
	}
	return diff
}

// formatLabels writes the labels the hub sets as the annotation remembers them: their keys with commas between, sorted.
func formatLabels(labels map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(labels)), ",")
}

// parseLabels reads what formatLabels wrote.
func parseLabels(annotation string) []string {
	return slices.DeleteFunc(strings.Split(annotation, ","), func(k string) bool { return k == "" })
}
